"""The weights of a model that learn: all of them, low-rank updates, its encodings, or its norms."""

from poslab.adaptation.base import Adaptation

__all__ = ["Adaptation"]
