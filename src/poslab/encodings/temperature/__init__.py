"""Factors on logits by the number of visible keys, against attention that fades as a text grows."""

from poslab.encodings.temperature.base import Temperature

__all__ = ["Temperature"]
