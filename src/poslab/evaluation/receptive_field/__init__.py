"""Gradients of an output with respect to earlier tokens, or to the patches of a picture."""
