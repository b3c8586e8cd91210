"""Data whose examples are videos, of which a model reads patches with places in time, height and width."""
