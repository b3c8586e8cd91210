"""Runs: their directories, checkpoints, processes, and how each can end."""
