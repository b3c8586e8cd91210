"""Transformers: blocks around attention."""

from poslab.models.build import Model, build_model
from poslab.models.decoder import Decoder
from poslab.models.encoder import Encoder
from poslab.models.encoder_decoder import EncoderDecoder
from poslab.models.pointer_generator import PointerGenerator
from poslab.models.sequence_model import Outputs

__all__ = ["Decoder", "Encoder", "EncoderDecoder", "Model", "Outputs", "PointerGenerator", "build_model"]
