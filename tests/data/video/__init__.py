"""Tests of the sources of videos."""
