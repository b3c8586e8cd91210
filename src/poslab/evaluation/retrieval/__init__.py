"""Retrieval of what a model has read: pass keys, needles, variables, copying, induction."""
