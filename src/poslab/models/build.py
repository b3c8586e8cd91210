from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from poslab.configuration import build
from poslab.models.decoder import Decoder


def build_model(config: Mapping[str, Any], vocab_size: int) -> Decoder:
    """The model that a configuration describes, with its encoding, positions and temperature.

    Raises:
        ValueError: naming the full key, for what does not fit together.
    """
    parts = {"encoding": build(config, "encoding")}
    for group in ("positions", "temperature"):
        if config.get(group) is not None:
            parts[group] = build(config, group)
    model: Decoder = build(config, "model", vocab_size=vocab_size, attention=config["attention"], **parts)
    return model
