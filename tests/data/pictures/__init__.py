"""Tests of the sources of pictures, and of their preparation."""
