"""Data whose units are examples: a text and its class, a text and what it becomes, a question and its answer."""
