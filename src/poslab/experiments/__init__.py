"""Comparisons of encodings: cells, fair tuning, statistics, verdicts and their report."""
