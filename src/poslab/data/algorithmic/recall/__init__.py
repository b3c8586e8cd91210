"""Tasks of recalling something from anywhere in the input."""
