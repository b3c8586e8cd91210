"""Tasks whose examples are made by rule, of any length: what a model has learned of them shows beyond its lengths."""
