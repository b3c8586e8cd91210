import math

import pytest
import torch
from PoPE_pytorch import PoPE as TheirPoPE
from torch import Tensor
from torch.nn import functional
from x_transformers import x_transformers

from poslab.attention import Visibility, attend
from poslab.encodings import Positions
from poslab.encodings.rotary.pope import PoPE

HEADS, HEAD_DIM, LENGTH = 4, 10, 64
SCALE = HEAD_DIM**-0.5


@pytest.fixture
def inputs() -> list[Tensor]:
    """Queries, keys of as many heads, and phases within their range."""
    generator = torch.Generator().manual_seed(0)
    query, key = torch.randn(2, 2, HEADS, LENGTH, HEAD_DIM, generator=generator)
    delta = -2 * math.pi * torch.rand(HEADS, HEAD_DIM, generator=generator)
    return [query.requires_grad_(), key.requires_grad_(), delta]


def pope_with(delta: Tensor, base: float = 10_000.0) -> PoPE:
    pope = PoPE(HEAD_DIM, HEADS, base)
    pope.delta.data.copy_(delta)
    return pope


def logits(pope: PoPE, query: Tensor, key: Tensor, queries: Positions, keys: Positions) -> Tensor:
    tables = pope.prepare(queries, keys)
    key = pope.rotate_key(key, tables).repeat_interleave(query.shape[1] // key.shape[1], dim=1)
    return pope.rotate_query(query, tables) @ key.mT * SCALE


def by_x_transformers(query: Tensor, key: Tensor, delta: Tensor, base: float) -> tuple[Tensor, Tensor]:
    theirs = x_transformers.PolarEmbedding(HEAD_DIM, HEADS, base=base)
    theirs.learned_bias.data.copy_(delta.unsqueeze(1))
    frequencies, bias = theirs(torch.arange(LENGTH))
    query = x_transformers.apply_polar_pos_emb(query, frequencies)
    return query @ x_transformers.apply_polar_pos_emb(key, frequencies + bias).mT * SCALE, theirs.learned_bias


def by_pope_pytorch(query: Tensor, key: Tensor, delta: Tensor, base: float) -> tuple[Tensor, Tensor]:
    theirs = TheirPoPE(HEAD_DIM, heads=HEADS, theta=base)
    theirs.bias.data.copy_(delta)
    query, key = theirs.apply_pope_to_qk(theirs(LENGTH), query, key)
    return query @ key.mT * SCALE, theirs.bias


@pytest.mark.parametrize("theirs", [by_x_transformers, by_pope_pytorch])
@pytest.mark.parametrize("base", [100.0, 10_000.0])
def test_logits_and_gradients_are_those_of_another_implementation(inputs, theirs, base):
    query, key, delta = inputs
    pope, positions = pope_with(delta, base), Positions.range(LENGTH)
    ours = logits(pope, query, key, positions, positions)
    expected, their_delta = theirs(query, key, delta, base)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)
    weight = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1)) / LENGTH
    gradients = [
        torch.autograd.grad((y * weight).sum(), [query, key, phases])
        for y, phases in ((ours, pope.delta), (expected, their_delta))
    ]
    for our, their in zip(*gradients, strict=True):
        torch.testing.assert_close(our, their.reshape(our.shape), rtol=1e-5, atol=1e-5)


def test_heads_that_share_keys_have_phases_of_their_own(inputs):
    query, key, delta = (x.detach() for x in inputs)
    key = key[:, ::2]
    queries, keys = Positions.range(5, LENGTH - 5), Positions.range(LENGTH)
    actual = logits(pope_with(delta), query[:, :, -5:], key, queries, keys).detach()
    magnitudes = [torch.log1p(x.double().exp()) for x in (query, key)]
    for head, row, j in [(0, 0, 0), (1, 4, LENGTH - 1), (2, 2, 40), (3, 1, 61)]:
        i = LENGTH - 5 + row
        expected = 0.0
        for c in range(HEAD_DIM):
            phase = (j - i) * 10_000.0 ** (-c / HEAD_DIM) + float(delta[head, c])
            expected += magnitudes[0][0, head, i, c] * magnitudes[1][0, head // 2, j, c] * math.cos(phase)
        assert float(actual[0, head, row, j]) == pytest.approx(float(expected) * SCALE, abs=1e-5)


def test_the_scale_is_that_of_the_head_and_not_of_the_doubled_width(inputs):
    query, key, delta = (x.detach() for x in inputs)
    pope, positions = pope_with(delta), Positions.range(LENGTH)
    expected, _ = by_pope_pytorch(query, key, delta, 10_000.0)
    weights = expected.softmax(-1)
    for route in ("flash", "dense"):
        output = attend(query, key, key, pope, pope.prepare(positions, positions), Visibility(causal=False), route)
        torch.testing.assert_close(output, weights @ key, rtol=1e-5, atol=1e-5)


def test_a_phase_is_not_lost_at_position_one_million(inputs):
    query, key, delta = (x.detach() for x in inputs)
    there = Positions.range(1, 1_000_000)
    actual = logits(pope_with(delta), query[:, :, :1], key[:, :, :1], there, there)
    magnitudes = functional.softplus(query[:, :, 0]) * functional.softplus(key[:, :, 0])
    torch.testing.assert_close(actual[..., 0, 0], SCALE * (magnitudes * delta.cos()).sum(-1), rtol=1e-5, atol=1e-5)


def test_a_phase_outside_its_range_counts_as_its_edge_and_can_only_come_back():
    positions = Positions.range(1)
    delta = torch.tensor([[0.5, 0.5, -7.0, -7.0, -1.0, -1.0]])
    pope = PoPE(6, 1)
    pope.delta.data.copy_(delta)
    tables = pope.prepare(positions, positions)
    clamped = delta.clamp(-2 * math.pi, 0)
    torch.testing.assert_close(tables.query_cos[:, 0], clamped.cos())
    torch.testing.assert_close(tables.query_sin[:, 0], -clamped.sin())
    # The sine of the query at position 0 falls with its phase where that is near 0 or -2 pi.
    push = torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0, -1.0])
    (gradient,) = torch.autograd.grad((tables.query_sin[:, 0] * push).sum(), pope.delta)
    expected = torch.tensor([[0.0, 1.0, -1.0, 0.0, -math.cos(1), math.cos(1)]])
    torch.testing.assert_close(gradient, expected, atol=1e-5, rtol=0)


def test_phases_start_at_zero_or_uniform_in_their_range():
    assert (PoPE(HEAD_DIM, HEADS).delta == 0).all()
    torch.manual_seed(0)
    delta = PoPE(64, 16, delta_init="uniform").delta
    assert -2 * math.pi <= delta.min() < -6.2 and -0.1 < delta.max() <= 0
