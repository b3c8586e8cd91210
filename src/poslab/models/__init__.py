"""Transformers: stacks of blocks around attention, with an output layer."""

from poslab.models.blocks import StackConfig
from poslab.models.encoder_decoder import EncoderDecoder
from poslab.models.model import Capability, Decoding, ForwardPass, Model, ModelRecipe, Outputs
from poslab.models.pointer_generator import PointerGenerator
from poslab.models.transformer import Decoder, Encoder

__all__ = [
    "Capability",
    "Decoder",
    "Decoding",
    "Encoder",
    "EncoderDecoder",
    "ForwardPass",
    "Model",
    "ModelRecipe",
    "Outputs",
    "PointerGenerator",
    "StackConfig",
]
