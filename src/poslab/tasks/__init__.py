"""Tasks: what a model learns, and how well it does; one file a task."""
