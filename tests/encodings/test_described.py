"""Encodings describe themselves in reports: by default with their parameters alone."""

import copy
import inspect

import pytest
import torch
from torch import nn

from poslab.encodings import Alibi, KerpleLog, PositionalEncoding, Rotary, StackShape
from poslab.encodings.shape import OF_THE_STACK
from tests.encoding_choices import EVERY_ENCODING, encoding, factory
from tests.encodings.examples import TurningAndDiscounting

SHAPE = StackShape(d_model=32, num_layers=2, num_heads=4, num_kv_heads=4, head_dim=8)


class OfParts(PositionalEncoding):
    def __init__(self):
        super().__init__()
        self.own = nn.Parameter(torch.ones(2))
        self.over = KerpleLog(2)
        self.layers = nn.ModuleList([nn.Linear(1, 3)])


def test_by_default_parameters_are_what_is_learned_and_parts_speak_for_themselves():
    learned = OfParts().learned()
    assert list(learned) == ["own", "over.r1", "over.r2", "layers.0.weight", "layers.0.bias"]
    assert learned["own"].tolist() == [1, 1]


@pytest.mark.parametrize("name", EVERY_ENCODING)
def test_every_encoding_shows_its_hyperparameters(name):
    instance = encoding(name)
    first = repr(instance).partition("\n(")[0]
    for argument in inspect.signature(type(instance)).parameters:
        assert (f"{argument}=" in first) == (argument not in ("args", "kwargs", *OF_THE_STACK)), argument


@pytest.mark.parametrize(
    ("name", "hyperparameters", "shown"),
    [
        ("none", {}, "NoPosition()"),
        ("kerple_log", {}, "KerpleLog(metric=None)"),
        ("t5", {"num_buckets": 64}, "T5Bias(num_buckets=64, max_distance=128)"),
        ("alibi_learned", {}, "LearnedAlibi(max_exponent=8.0, asymmetry=0.0, metric=None)"),
        (
            "rotary",
            {"base": 1e5},
            "Rotary(base=100000.0, fraction=1.0, layout='half_split', scaling=None, allocation=None, "
            "factor_on='logits')",
        ),
        (
            "rope_linear",
            {},
            "Rotary(base=10000.0, fraction=1.0, layout='half_split', scaling=rope_linear(factor=4.0), allocation=None, "
            "factor_on='logits')",
        ),
        (
            "mrope",
            {"base": 1e6},
            "Rotary(base=1000000.0, fraction=1.0, layout='half_split', scaling=None, "
            "allocation=sections(sections=[2, 3, 3]), factor_on='logits')",
        ),
    ],
)
def test_an_encoding_is_shown_as_the_call_that_makes_it(name, hyperparameters, shown):
    made = SHAPE.fill(factory(name, **hyperparameters))
    assert repr(made) == repr(copy.deepcopy(made)) == shown


def test_by_default_nothing_turns_is_a_vector_or_reads_the_content():
    encoding = PositionalEncoding()
    assert encoding.learned() == {} and encoding.vectors() == {}
    assert encoding.spectrum(10) is None and not encoding.is_pure_rotation


@pytest.mark.parametrize("name", EVERY_ENCODING)
def test_what_an_encoding_reports_of_itself_is_named_and_finite(name):
    instance = encoding(name)
    assert all(x.isfinite().all() for x in instance.learned().values())
    assert all(table.rows.dim() == 2 for table in instance.vectors().values())
    spectrum = instance.spectrum(100)
    assert spectrum is None or (spectrum.dim() == 1 and (spectrum >= 0).all())
    assert spectrum is not None or not instance.is_pure_rotation


def test_a_rotation_with_a_bias_does_not_only_turn():
    assert Rotary(8).is_pure_rotation and not TurningAndDiscounting(8, 4).is_pure_rotation


class OfAnyHeads(Rotary):
    def __init__(self, head_dim: int, num_heads: int | None = None) -> None:
        super().__init__(head_dim)
        self.num_heads = num_heads


def test_sizes_are_the_numbers_that_an_encoding_was_given():
    assert dict(Alibi(4).sizes) == {"num_heads": 4}
    assert dict(OfAnyHeads(8, None).sizes) == {"head_dim": 8}
