"""Bias: a number added to each logit, a function of distance or of both positions."""
