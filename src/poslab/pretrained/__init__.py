"""Models of Hugging Face's transformers. `register()` has transformers load the exported ones without remote code."""

from typing import Any

__all__ = ["register"]


def __getattr__(name: str) -> Any:
    """Import `register` when it is first used: reading a configuration needs no torch."""
    if name == "register":
        from poslab.pretrained.exchanged_classes import register

        return register
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
