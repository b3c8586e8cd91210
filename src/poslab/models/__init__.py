"""Transformers: blocks around attention."""

from poslab.models.build import build_model
from poslab.models.decoder import Decoder

__all__ = ["Decoder", "build_model"]
