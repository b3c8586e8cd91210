"""Logits scaled by how many keys a query sees, against attention that fades as a text grows."""

from poslab.encodings.temperature.base import Temperature

__all__ = ["Temperature"]
