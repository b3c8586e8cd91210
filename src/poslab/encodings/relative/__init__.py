"""Queries and keys meet vectors that stand for their distance, not only each other."""
