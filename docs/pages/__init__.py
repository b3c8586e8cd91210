"""The pages that `docs/make.py` makes, one file for each, and what they share."""
