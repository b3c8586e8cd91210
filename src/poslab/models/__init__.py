"""Transformers: blocks around attention."""

from poslab.models.decoder import Decoder

__all__ = ["Decoder"]
