"""Encodings describe themselves in reports: by default with their parameters alone."""

import pytest
import torch
from torch import nn

from poslab.encodings import KerpleLog, PositionalEncoding, Rotary
from tests.encoding_choices import EVERY_ENCODING, encoding
from tests.encodings.examples import TurningAndDiscounting


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


def test_by_default_nothing_turns_is_a_vector_or_reads_the_content():
    encoding = PositionalEncoding()
    assert encoding.learned() == {} and encoding.vectors() == {}
    assert encoding.spectrum(10) is None and not encoding.only_turns


@pytest.mark.parametrize("name", EVERY_ENCODING)
def test_what_an_encoding_says_of_itself_is_named_and_finite(name):
    instance = encoding(name)
    assert all(x.isfinite().all() for x in instance.learned().values())
    assert all(table.rows.dim() == 2 for table in instance.vectors().values())
    spectrum = instance.spectrum(100)
    assert spectrum is None or (spectrum.dim() == 1 and (spectrum >= 0).all())
    assert spectrum is not None or not instance.only_turns


def test_a_rotation_with_a_bias_does_not_only_turn():
    assert Rotary(8).only_turns and not TurningAndDiscounting(8, 4).only_turns
