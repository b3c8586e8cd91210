"""Positional encodings behind one contract; nothing here depends on the laboratory but the checks of arguments."""

from poslab.encodings.absolute.abacus import Abacus
from poslab.encodings.absolute.bipe import Bilevel, bipe
from poslab.encodings.absolute.convolutional import Convolutional
from poslab.encodings.absolute.fourier import Fourier
from poslab.encodings.absolute.fourier_features import FourierFeatures
from poslab.encodings.absolute.learned import Learned
from poslab.encodings.absolute.learned_grid import LearnedAxes, LearnedGrid
from poslab.encodings.absolute.none import NoPosition
from poslab.encodings.absolute.sinusoidal import Sinusoidal
from poslab.encodings.absolute.sinusoidal_grid import SinusoidalGrid
from poslab.encodings.base import PositionalEncoding, QueryRows
from poslab.encodings.bias.alibi import Alibi
from poslab.encodings.bias.alibi_learned import LearnedAlibi
from poslab.encodings.bias.bam import Bam
from poslab.encodings.bias.beit import BeitBias
from poslab.encodings.bias.distance_bias import DistanceBias, OffsetBias
from poslab.encodings.bias.dynamic_position_bias import DynamicPositionBias
from poslab.encodings.bias.fire import Fire
from poslab.encodings.bias.kerple import KerpleLog, KerplePower
from poslab.encodings.bias.relative_table import RelativeTable
from poslab.encodings.bias.sandwich import Sandwich
from poslab.encodings.bias.swin_v2 import SwinV2Bias
from poslab.encodings.bias.t5 import T5Bias
from poslab.encodings.bias.t5_axes import T5Axes
from poslab.encodings.bias.tisa import Tisa
from poslab.encodings.content.cope import CoPE
from poslab.encodings.content.dape import Dape, DapeV2
from poslab.encodings.content.forgetting import Forgetting
from poslab.encodings.content.grape import GrapeA
from poslab.encodings.content.grape_ap import GrapeAP
from poslab.encodings.content.path import PaTH
from poslab.encodings.content.relative_projection import RelativeProjection
from poslab.encodings.content.stick_breaking import StickBreaking
from poslab.encodings.content.tapa import Tapa
from poslab.encodings.content.wall import Wall
from poslab.encodings.distance import BiasTable
from poslab.encodings.layers import LayerPattern, LayerSpec, SequenceMixer, alternating, rnope
from poslab.encodings.positions import Positions
from poslab.encodings.pretrained import PretrainedPositions
from poslab.encodings.relative.deberta import Deberta
from poslab.encodings.relative.music import MusicTransformer
from poslab.encodings.relative.shaw import Shaw
from poslab.encodings.relative.transformer_xl import TransformerXL
from poslab.encodings.relative.tupe import Tupe
from poslab.encodings.rotary.dual_chunk import DualChunk
from poslab.encodings.rotary.fope import FoPE
from poslab.encodings.rotary.imaginary import RoPEPlusPlus
from poslab.encodings.rotary.learned import RotaryLearned
from poslab.encodings.rotary.mhrope import MHRoPE
from poslab.encodings.rotary.mixed import RotaryMixed
from poslab.encodings.rotary.pope import PoPE
from poslab.encodings.rotary.repo import RePo, repo
from poslab.encodings.rotary.rerope import LeakyReRoPE, ReRoPE
from poslab.encodings.rotary.rotary import Rotary
from poslab.encodings.rotary.selective import SelectiveRotary
from poslab.encodings.rotary.self_extend import SelfExtend
from poslab.encodings.rotary.string import String
from poslab.encodings.rotary.values import RotaryValues
from poslab.encodings.rotary.xpos import XPos
from poslab.encodings.sampling.base import Contiguous, PositionSampler
from poslab.encodings.sampling.places import V2PE, Centred, Diagonal, InterpolatedPositions, MRope, MRopeReset
from poslab.encodings.sampling.randomized import Cape, Fractional, Randomized, Shifted
from poslab.encodings.shape import PretrainedFacts, StackShape, VectorTable
from poslab.encodings.stack import EncodingFactory, StackEncodings, TemperatureFactory
from poslab.encodings.temperature import HeadScale, Llama4Temperature, LogN, SSMax, Temperature
from poslab.encodings.tokens import Tokens

__all__ = [
    "V2PE",
    "Abacus",
    "Alibi",
    "Bam",
    "BeitBias",
    "BiasTable",
    "Bilevel",
    "Cape",
    "Centred",
    "CoPE",
    "Contiguous",
    "Convolutional",
    "Dape",
    "DapeV2",
    "Deberta",
    "Diagonal",
    "DistanceBias",
    "DualChunk",
    "DynamicPositionBias",
    "EncodingFactory",
    "Fire",
    "FoPE",
    "Forgetting",
    "Fourier",
    "FourierFeatures",
    "Fractional",
    "GrapeA",
    "GrapeAP",
    "HeadScale",
    "InterpolatedPositions",
    "KerpleLog",
    "KerplePower",
    "LayerPattern",
    "LayerSpec",
    "LeakyReRoPE",
    "Learned",
    "LearnedAlibi",
    "LearnedAxes",
    "LearnedGrid",
    "Llama4Temperature",
    "LogN",
    "MHRoPE",
    "MRope",
    "MRopeReset",
    "MusicTransformer",
    "NoPosition",
    "OffsetBias",
    "PaTH",
    "PoPE",
    "PositionSampler",
    "PositionalEncoding",
    "Positions",
    "PretrainedFacts",
    "PretrainedPositions",
    "QueryRows",
    "Randomized",
    "RePo",
    "ReRoPE",
    "RelativeProjection",
    "RelativeTable",
    "RoPEPlusPlus",
    "Rotary",
    "RotaryLearned",
    "RotaryMixed",
    "RotaryValues",
    "SSMax",
    "Sandwich",
    "SelectiveRotary",
    "SelfExtend",
    "SequenceMixer",
    "Shaw",
    "Shifted",
    "Sinusoidal",
    "SinusoidalGrid",
    "StackEncodings",
    "StackShape",
    "StickBreaking",
    "String",
    "SwinV2Bias",
    "T5Axes",
    "T5Bias",
    "Tapa",
    "Temperature",
    "TemperatureFactory",
    "Tisa",
    "Tokens",
    "TransformerXL",
    "Tupe",
    "VectorTable",
    "Wall",
    "XPos",
    "alternating",
    "bipe",
    "repo",
    "rnope",
]
