"""Other positions than 0, 1, 2, ... for any encoding, so that training covers positions of longer texts."""

from poslab.encodings.sampling.base import PositionSampler

__all__ = ["PositionSampler"]
