"""Rotary (RoPE) and its scalings: queries and keys rotate with their positions."""

from poslab.encodings.rotary.rotary import Rotary

__all__ = ["Rotary"]
