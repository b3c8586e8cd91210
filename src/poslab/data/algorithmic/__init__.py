"""Tasks whose examples are made by rule, of any length, which show what a model has learned beyond its lengths."""
