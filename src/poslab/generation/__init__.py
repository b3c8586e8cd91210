"""Text from a model: the choice of each token, beam search, and text as it comes."""
