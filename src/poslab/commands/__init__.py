"""The commands, which `poslab NAME` runs, and in a checkout `python -m src.NAME`."""
