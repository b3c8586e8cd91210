"""Position mixed into the token embeddings, or not at all."""
