"""Queries and keys that rotate with their positions."""

from poslab.encodings.rotary.rotary import Rotary

__all__ = ["Rotary"]
