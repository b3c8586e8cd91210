"""Encodings of a stack as plain data."""

import json
from functools import partial

import pytest

from poslab.encodings import (
    Alibi,
    LayerPattern,
    LayerSpec,
    Llama4Temperature,
    NoPosition,
    Rotary,
    SSMax,
    StackEncodings,
    StackShape,
)
from poslab.models import Decoder
from poslab.pretrained.borrow import describe, encodings_of
from poslab.pretrained.export.plain import NotPlainError, checked_decoder, plain_form
from tests.stacked import stacked

SHAPE = StackShape(d_model=32, num_layers=7, num_heads=4, num_kv_heads=2, head_dim=8)
PATTERN = LayerPattern(
    [
        LayerSpec(partial(Rotary, base=100.0), window=4),
        LayerSpec(NoPosition, temperature=partial(Llama4Temperature, training_length=8)),
        LayerSpec(Alibi, chunk=5, temperature=partial(SSMax, bias=True), sinks=True),
    ],
    order=[0, 0, 1],
    from_last=True,
    first=2,
    last=0,
)


def test_a_pattern_is_made_again_from_json():
    encodings = StackEncodings(PATTERN, SHAPE)
    again = encodings_of(json.loads(json.dumps(describe(encodings))), lambda digits: SHAPE)
    assert repr(again) == repr(encodings)
    assert (again.windows, again.chunks) == (encodings.windows, encodings.chunks)
    assert list(again.sinks) == list(encodings.sinks) == ["0"]
    assert [again.temperature(layer) is None for layer in range(7)] == [
        encodings.temperature(layer) is None for layer in range(7)
    ]


def test_arguments_with_their_defaults_are_not_described():
    description = describe(StackEncodings(LayerPattern([LayerSpec(Rotary, window=4), Alibi]), SHAPE))
    assert description.keys() == {"encodings", "kinds", "embedding", "temperature", "digits"}
    assert description["kinds"] == [{"encoding": 0, "window": 4}, {"encoding": 1}]


def test_chunks_and_sinks_are_in_no_class_of_transformers():
    chunked = stacked(Decoder, 11, LayerPattern([LayerSpec(Rotary, chunk=5)]), 32, 2, 4)
    with pytest.raises(NotPlainError, match=r"^encoding has.*class of transformers "):
        plain_form(chunked, 16)
    with pytest.raises(ValueError, match=r"^sinks must.*to be exported: "):
        checked_decoder(stacked(Decoder, 11, Rotary, 32, 2, 4, sinks="all"))
