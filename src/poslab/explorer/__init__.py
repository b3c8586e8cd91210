"""The explorer: one page in which a person turns the knobs of two encodings and sees what they do."""

from poslab.explorer.page import DATA, explorer_page, write_explorer

__all__ = ["DATA", "explorer_page", "write_explorer"]
