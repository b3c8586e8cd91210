"""Scores of held-out tokens and items, their intervals, and the files that keep them."""
