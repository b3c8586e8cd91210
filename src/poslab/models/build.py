from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from poslab.configuration.build import build
from poslab.encodings import EncodingFactory, PositionSampler, TemperatureFactory
from poslab.models.decoder import Decoder
from poslab.models.encoder import Encoder
from poslab.models.encoder_decoder import EncoderDecoder
from poslab.models.sequence_model import Outputs

Model = Decoder | Encoder | EncoderDecoder


def build_model(
    config: Mapping[str, Any], vocab_size: int, outputs: Outputs | None = None, digits: Sequence[int] = ()
) -> Model:
    """The model that a configuration describes, with its encoding, positions and temperature.

    Args:
        config: the whole configuration.
        vocab_size: tokens of its data.
        outputs: what its task reads; None is tokens.
        digits: which of the tokens are one digit each.

    Raises:
        ValueError: naming the full key, for what does not fit together.
    """
    parts: dict[str, Any] = {"encoding": build(config, "encoding", EncodingFactory), "digits": digits}
    for group, kind in (("positions", PositionSampler), ("temperature", TemperatureFactory)):
        if config.get(group) is not None:
            parts[group] = build(config, group, kind)
    if outputs is not None:
        parts["outputs"] = outputs
    model: Model = build(config, "model", Model, vocab_size=vocab_size, attention=config["attention"], **parts)
    return model
