"""Models of Hugging Face's transformers. `register()` has transformers load the exported ones without remote code."""

from poslab.pretrained.exchanged_classes import register

__all__ = ["register"]
