"""Attention weights of each head: their rows, statistics, offsets and maps."""
