"""Queries and keys that turn with their positions."""

from poslab.encodings.rotary.rotary import Rotary

__all__ = ["Rotary"]
