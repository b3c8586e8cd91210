"""Tiny models under encodings, and how close they are to what transformers computes."""

from __future__ import annotations

from typing import Any

import torch

from poslab.encodings import EncodingFactory, LayerPattern
from poslab.pretrained.borrow import borrow
from poslab.pretrained.hosted import HostedModel
from tests.encoding_choices import factory
from tests.pretrained.tiny import ROWS, left_padded, some_tokens, tiny

CLOSE = {"atol": 1e-5, "rtol": 1e-5}
"""Several families compute a softmax or a rotation in float32, whatever the dtype of the model."""

SOME = ("alibi", "learned", "rotary", "path", "shaw", "sinusoidal", "t5")
"""An encoding of each kind of hook."""

MORE = (
    *("cope", "deberta", "dual_chunk", "fire", "forgetting", "longrope", "rnope", "rotary_values"),
    *("selective_rotary", "stick_breaking", "yarn"),
)
"""An encoding of each further set of hooks, route of attention and kind of layers."""

DIGITS = tuple(range(5, 15))


def choice(name: str) -> EncodingFactory:
    """The encoding of a choice for tiny models, whose heads have 8 dimensions."""
    return factory(name, training_length=ROWS)


def serves_both(name: str) -> bool:
    """True for an encoding that is defined where a query sees keys ahead of it."""
    made = choice(name)
    kinds = [spec.encoding for spec in LayerPattern.of(made).specs]
    return not any(getattr(getattr(kind, "func", kind), "causal_only", False) for kind in kinds)


def hosted(name: str, encoding: EncodingFactory, dtype: torch.dtype = torch.float64, **options: Any) -> HostedModel:
    """A tiny model under an encoding, with parameters of the encoding that are not at their start."""
    torch.manual_seed(1)
    model = borrow(tiny(name, dtype), encoding, digits=DIGITS, **options).to(dtype)
    for parameter in model.encodings.parameters():
        parameter.data += 0.1 * torch.rand_like(parameter)
    return model


def greedy(**others: Any) -> dict[str, Any]:
    """Arguments of `generate` for rows padded on the left."""
    ids, real = left_padded(some_tokens())
    ending = {"pad_token_id": 0, "eos_token_id": None}
    return {"inputs": ids, "attention_mask": real, "max_new_tokens": 8, "do_sample": False} | ending | others
