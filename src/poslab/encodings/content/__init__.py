"""Encodings that let what tokens say decide how far apart they are."""
