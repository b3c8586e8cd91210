"""Tests of the sources of images, and of their preparation."""
