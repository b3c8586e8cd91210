"""Kinds of data, each of which defines what an example is; one file a kind."""
