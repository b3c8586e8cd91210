"""Which kinds of models have a task on which kinds of data; what is slow to import is not needed to know that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from poslab.configuration.build import target, trusted_packages
from poslab.data.corpus import Corpus
from poslab.data.examples.source import ExampleSource
from poslab.data.sources import AnySource
from poslab.models import Decoder, Encoder, EncoderDecoder, Model, PointerGenerator

TASKS: dict[str, tuple[type, ...]] = {
    "text": (Decoder, Encoder, EncoderDecoder, PointerGenerator),
    "classification": (Decoder, Encoder),
    "pairs": (Decoder, EncoderDecoder, PointerGenerator),
    "answers": (Encoder,),
    "algorithmic": (Decoder, Encoder),
}
"""The kinds of models that have a task on each kind of data."""


def kind_of(source: AnySource) -> str:
    """The kind of data that a source has: a key of `TASKS`."""
    if isinstance(source, ExampleSource):
        return source.kind
    return "text" if isinstance(source, Corpus) else "algorithmic"


def model_kind(config: Mapping[str, Any]) -> type:
    """The kind of model that a configuration describes; a model of one's own counts as a decoder."""
    model = target(config["model"]["_target_"], "model", Model, ("poslab", *trusted_packages(config)))
    return next(
        (kind for kind in (Encoder, EncoderDecoder) if isinstance(model, type) and issubclass(model, kind)), Decoder
    )


def check_task(config: Mapping[str, Any], source: AnySource) -> None:
    """Raises ValueError if the model of a configuration has no task on its data, or not under its other choices."""
    model, kind = model_kind(config), kind_of(source)
    if model not in TASKS[kind]:
        choices = " or ".join(snake(known.__name__) for known in TASKS[kind])
        given = snake(config["model"]["_target_"].rpartition(".")[2])
        raise ValueError(f"model must be {choices} for {kind} data, got {given}")
    sampler = str((config.get("positions") or {}).get("_target_", "")).rpartition(".")[2]
    if (kind == "pairs" or model is EncoderDecoder) and sampler not in ("", "Contiguous"):
        raise ValueError(f"positions must be contiguous where a target is written of a source, got {snake(sampler)}")
    if kind == "text" and model is EncoderDecoder:
        if source.document_boundaries:  # type: ignore[union-attr]
            raise ValueError(
                "dataset.document_boundaries must be false for an encoder_decoder, which reads windows whole"
            )
        if source.sequence_length < 2:
            raise ValueError("dataset.sequence_length must be at least 2, for a token to be taken out of two")


def snake(name: str) -> str:
    """`EncoderDecoder` as conf/ calls it: `encoder_decoder`."""
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")
