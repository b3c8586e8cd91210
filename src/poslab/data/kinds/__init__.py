"""Kinds of data: what an example is, one file a kind."""
