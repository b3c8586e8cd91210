"""Reports of a comparison: answers, tables, figures, checks and methods."""
