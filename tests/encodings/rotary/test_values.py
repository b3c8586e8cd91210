"""Rotary of values against the rotation of DeepSeek V4 in transformers, and what follows from it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers.models.deepseek_v4.modeling_deepseek_v4 import apply_rotary_pos_emb

from poslab.attention import Visibility, attend, choose_route
from poslab.encodings import Positions, Rotary, RotaryValues
from poslab.encodings.frequencies import angles, inverse_frequencies

D, T, S = 16, 5, 9


def operands(kv_heads: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(2, 4, T, D, generator=generator)
    k, v = (torch.randn(2, kv_heads, S, D, generator=generator) for _ in range(2))
    return q, k, v


def attended(encoding: Rotary, q: Tensor, k: Tensor, v: Tensor, start: int = 0, route="auto") -> Tensor:
    keys, queries = Positions.range(S, start), Positions.range(T, start + S - T)
    return attend(q, k, v, encoding, encoding.prepare(queries, keys), Visibility(), route)


@pytest.mark.parametrize("rotated", [16, 8])
def test_outputs_are_those_of_the_rotations_of_deepseek_v4(rotated):
    """Its last channels turn, ours the first; one head serves as key and value of all."""
    q, k, _ = operands(kv_heads=1)
    ours = RotaryValues(D, fraction=rotated / D, layout="interleaved")
    angle = angles(torch.arange(S), inverse_frequencies(rotated, 10_000.0))[None]
    cos, sin = angle.cos(), angle.sin()
    last_first = [*range(rotated, D), *range(rotated)]
    first_last = [last_first.index(channel) for channel in range(D)]
    theirs_q = apply_rotary_pos_emb(q[..., last_first], cos[:, S - T :], sin[:, S - T :])
    theirs_kv = apply_rotary_pos_emb(k[..., last_first], cos, sin)
    mask = torch.ones(T, S, dtype=torch.bool).tril(S - T)
    weights = (theirs_q @ theirs_kv.mT / D**0.5).masked_fill(~mask, -torch.inf).softmax(-1)
    averages = (weights @ theirs_kv).transpose(1, 2)
    theirs = apply_rotary_pos_emb(averages.transpose(1, 2), cos[:, S - T :], -sin[:, S - T :])
    torch.testing.assert_close(attended(ours, q, k, k), theirs[..., first_last], rtol=0, atol=1e-6)


@pytest.mark.parametrize("route", ["flash", "distance", "blockwise", "dense"])
def test_a_shift_changes_no_output_on_any_route(route):
    encoding, operated = RotaryValues(D), operands()
    at_0 = attended(encoding, *operated, route="dense")
    torch.testing.assert_close(
        attended(encoding, *operated, 1_000, route), at_0, rtol=0, atol=1e-4
    )  # angles near 1,000 are rounded


def test_a_token_that_alone_is_seen_gives_its_value_turned_by_its_distance():
    encoding, (q, k, v) = RotaryValues(D), operands(kv_heads=4)
    visible = torch.arange(S).expand(2, S) == 2
    positions, rotary = Positions.range(S), Rotary(D)
    queries = Positions.range(T, S - T)
    tables = encoding.prepare(queries, positions)
    ours = attend(q, k, v, encoding, tables, Visibility(real_keys=visible))
    for row, i in enumerate(range(S - T, S)):
        apart = Positions(torch.tensor([2 - i]), 1)
        expected = rotary.rotate_key(v[:, :, 2:3], rotary.prepare(apart, apart))
        torch.testing.assert_close(ours[:, :, row : row + 1], expected, rtol=0, atol=1e-6)


def test_an_attention_factor_does_not_reach_values():
    def scaling(inverse_frequencies: Tensor) -> tuple[Tensor, float]:
        return inverse_frequencies, 3.0

    operated, positions = operands(), Positions.range(S)
    ours, plain = RotaryValues(D, scaling=scaling), RotaryValues(D)
    for one, other in zip(ours.prepare(positions, positions)[:4], plain.prepare(positions, positions)[:4], strict=True):
        assert torch.equal(one, other)
    assert attended(ours, *operated).abs().max() <= 2**0.5 * operated[2].abs().max()


def test_it_keeps_the_route_of_rotary():
    assert choose_route(RotaryValues(D)) == "flash"
    assert not RotaryValues(D).is_pure_rotation
