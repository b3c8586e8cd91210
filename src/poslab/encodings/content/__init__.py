"""Encodings in which the content of tokens decides how far apart they are."""
