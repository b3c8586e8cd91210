"""Relative: queries and keys meet vectors of their distance, and each other."""
