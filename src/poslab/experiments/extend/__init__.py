"""The search for positions that let a trained model with RoPE read longer texts, and its price."""
