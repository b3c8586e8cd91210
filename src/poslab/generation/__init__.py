"""Text from a model: choice of each token, beam search, and streaming."""
