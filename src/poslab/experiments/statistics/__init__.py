"""Statistics of a comparison: differences over seeds and items, and the words that follow."""
