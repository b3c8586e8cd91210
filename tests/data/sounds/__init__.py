"""Tests of the sources of sounds, and of their spectrograms and crops."""
