"""Other positions than 0, 1, 2, ... for any encoding, so that it meets in training what longer texts will ask of it."""

from poslab.encodings.sampling.base import PositionSampler

__all__ = ["PositionSampler"]
