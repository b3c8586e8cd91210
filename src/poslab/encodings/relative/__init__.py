"""Queries and keys that meet vectors of their distance, beside each other."""
