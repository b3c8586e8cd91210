"""The commands, which `python -m src.NAME` runs from a checkout."""
