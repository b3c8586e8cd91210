"""Encodings of a stack as plain data."""

import json
from functools import partial

import pytest

from poslab.encodings import Alibi, Llama4Temperature, NoPosition, PerLayer, Rotary, SSMax, StackEncodings, StackShape
from poslab.models import Decoder
from poslab.pretrained.description import describe, encodings_of
from poslab.pretrained.export.plain import NotPlainError, checked_decoder, plain_form
from tests.stacked import stacked

SHAPE = StackShape(d_model=32, num_layers=7, num_heads=4, num_kv_heads=2, head_dim=8)
PATTERN = PerLayer(
    [partial(Rotary, base=100.0), NoPosition, Alibi],
    [4, None, None],
    chunks=[None, None, 5],
    temperatures=[None, partial(Llama4Temperature, training_length=8), partial(SSMax, bias=True)],
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
    assert [again.temperature(layer) is None for layer in range(7)] == [
        encodings.temperature(layer) is None for layer in range(7)
    ]


def test_a_pattern_without_chunks_order_and_temperatures_is_described_without_their_keys():
    keys = {"encodings", "layers", "windows", "embedding", "temperature", "digits"}
    assert describe(StackEncodings(PerLayer([Rotary, Alibi], [4, None]), SHAPE)).keys() == keys


def test_chunks_and_sinks_are_in_no_class_of_transformers():
    chunked = stacked(Decoder, 11, PerLayer([Rotary], chunks=[5]), 32, 2, 4)
    with pytest.raises(NotPlainError, match=r"^encoding has chunks, which no class of transformers "):
        plain_form(chunked, 16)
    with pytest.raises(ValueError, match=r"^sinks must be null to be exported: "):
        checked_decoder(stacked(Decoder, 11, Rotary, 32, 2, 4, sinks="all"))
