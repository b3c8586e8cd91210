"""Numbers and pictures of what an encoding has learned, or computes from a text."""
