"""Runs: their directories, checkpoints and processes, and the ways in which they end."""
