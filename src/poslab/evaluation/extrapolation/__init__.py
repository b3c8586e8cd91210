"""Metrics by length: text in windows of other lengths than those of training, and the items of other tasks."""
