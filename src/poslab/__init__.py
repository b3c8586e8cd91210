"""Poslab: a laboratory for positional encodings."""
