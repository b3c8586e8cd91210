"""Positional encodings behind one contract; nothing here depends on the rest of the laboratory."""

from poslab.encodings.absolute.learned import Learned
from poslab.encodings.absolute.none import NoPosition
from poslab.encodings.absolute.sinusoidal import Sinusoidal
from poslab.encodings.base import BiasTable, DistanceBias, PositionalEncoding, QueryRows
from poslab.encodings.bias.alibi import Alibi
from poslab.encodings.bias.t5 import T5Bias
from poslab.encodings.positions import Positions
from poslab.encodings.rotary import Rotary
from poslab.encodings.sampling import PositionSampler
from poslab.encodings.stack import EncodingFactory, PerLayer, StackEncodings, StackShape, TemperatureFactory
from poslab.encodings.temperature import Temperature

__all__ = [
    "Alibi",
    "BiasTable",
    "DistanceBias",
    "EncodingFactory",
    "Learned",
    "NoPosition",
    "PerLayer",
    "PositionSampler",
    "PositionalEncoding",
    "Positions",
    "QueryRows",
    "Rotary",
    "Sinusoidal",
    "StackEncodings",
    "StackShape",
    "T5Bias",
    "Temperature",
    "TemperatureFactory",
]
