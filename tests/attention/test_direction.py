"""Attention refuses an encoding that was made for another direction."""

from __future__ import annotations

import pytest
import torch

from poslab.attention import Visibility, attend
from poslab.encodings import Alibi, Fire, Positions, T5Bias


@pytest.mark.parametrize(
    ("encoding", "form"),
    [
        (T5Bias(2, 8, 16), r"make it.*T5Bias\(causal=False, \.\.\.\)"),
        (Fire(2), "it has no other form"),
    ],
    ids=["made for one direction", "of one direction"],
)
def test_a_causal_encoding_is_refused_where_keys_ahead_are_seen(encoding, form):
    q, k, v = torch.randn(3, 1, 2, 5, 8)
    positions = Positions.range(5)
    with pytest.raises(ValueError, match=f"for causal attention, .*: {form}"):
        attend(q, k, v, encoding, encoding.prepare(positions, positions), Visibility(causal=False))


@pytest.mark.parametrize("encoding", [T5Bias(2, 8, 16, causal=False), Alibi(2)], ids=["T5Bias", "Alibi"])
def test_one_of_both_directions_is_not(encoding):
    q, k, v = torch.randn(3, 1, 2, 5, 8)
    positions = Positions.range(5)
    y = attend(q, k, v, encoding, encoding.prepare(positions, positions), Visibility(causal=False))
    assert y.shape == q.shape
