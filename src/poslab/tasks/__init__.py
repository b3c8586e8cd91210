"""Tasks: batches, loss, metrics and predictions; one file for each task or family of them."""
