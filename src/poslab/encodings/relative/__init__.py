"""Queries and keys that meet vectors of their distance, next to each other."""
