"""Absolute: position mixed into the token embeddings, or no position at all."""
