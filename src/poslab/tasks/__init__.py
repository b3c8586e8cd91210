"""Tasks: batches, loss, metrics and predictions; one file a task."""
