"""Positional encodings behind one contract; nothing here depends on the rest of the laboratory."""

from poslab.encodings.alibi import Alibi
from poslab.encodings.base import BiasTable, DistanceBias, PositionalEncoding
from poslab.encodings.learned import Learned
from poslab.encodings.none import NoPosition
from poslab.encodings.positions import Positions
from poslab.encodings.rotary import Rotary
from poslab.encodings.sinusoidal import Sinusoidal
from poslab.encodings.stack import EncodingFactory, StackEncodings, StackShape
from poslab.encodings.t5 import T5Bias

__all__ = [
    "Alibi",
    "BiasTable",
    "DistanceBias",
    "EncodingFactory",
    "Learned",
    "NoPosition",
    "PositionalEncoding",
    "Positions",
    "Rotary",
    "Sinusoidal",
    "StackEncodings",
    "StackShape",
    "T5Bias",
]
