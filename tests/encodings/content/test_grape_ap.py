"""GRAPE-AP against a double loop over its formula, the sums of x-transformers, and ALiBi where gates say nothing."""

from __future__ import annotations

import math

import pytest
import torch
from x_transformers.x_transformers import PerRowDataDependentAlibi

from poslab.attention import Visibility, attend
from poslab.encodings import Alibi, GrapeAP, Positions
from poslab.encodings.base import QueryRows
from tests.encodings.agreement import D_MODEL, HEAD_DIM, HEADS, tensors

S = 9


def made(width: int = 8) -> GrapeAP:
    torch.manual_seed(0)
    return GrapeAP(D_MODEL, HEADS, width).double()


def rows_of(state, queries: slice, keys: slice, visible=None) -> QueryRows:
    return QueryRows(None, queries, queries.start, HEAD_DIM**-0.5, visible, state[:, :, queries], state[:, :, keys])


def test_logits_are_those_of_a_double_loop_over_the_formula():
    encoding = made(width := 6)
    x, q, k = tensors((1, S, D_MODEL), (1, HEADS, S, HEAD_DIM), (1, HEADS, S, HEAD_DIM), dtype=torch.float64)
    positions = [7, 8, 10, 11, 15, 16, 17, 20, 30]
    state = encoding.state(x, Positions(torch.tensor(positions), 31), None)
    unseen = 3
    visible = torch.ones(S, S, dtype=torch.bool).tril()[None, None, 5:] & (torch.arange(S) != unseen)
    ours = encoding.logits(q[:, :, 5:], k, rows_of(state, slice(5, S), slice(0, S), visible))
    for h in range(HEADS):
        weight = encoding.projection.weight[width * h : width * (h + 1)]
        p = [(weight @ x[0, t]).tolist() for t in range(S)]
        for i in range(5, S):
            for j in range(i + 1):
                bias = 0.0
                for on_way in range(j + 1, i + 1):
                    length = math.sqrt(sum(y * y for y in p[on_way]) / width)
                    cos, sin, product = math.cos(positions[on_way]), math.sin(positions[on_way]), 0.0
                    for m in range(width // 2):
                        first, second = p[on_way][m] / length, p[on_way][m + width // 2] / length
                        product += p[i][m] * (first * cos + second * sin)
                        product += p[i][m + width // 2] * (second * cos - first * sin)
                    bias -= (on_way != unseen) * 2.0 ** -(2 * h + 2) * math.log1p(math.exp(-product / width))
                plain = (q[0, h, i] @ k[0, h, j]).item() / math.sqrt(HEAD_DIM)
                # Its angles, cosines and sines are float32.
                assert ours[0, h, i - 5, j].item() == pytest.approx(plain + bias, abs=1e-6)


def test_sums_are_those_of_x_transformers_but_for_the_gate_at_either_end():
    """Theirs has the gate of the key and not that of the query; here its queries and keys are ours."""
    encoding, (x,) = made(), tensors((2, S, D_MODEL), dtype=torch.float64)
    state = encoding.state(x, Positions.range(S), None)
    p, turned = state.split(8, dim=-1)
    theirs = PerRowDataDependentAlibi(D_MODEL, HEADS)
    del theirs.to_forget_gates
    theirs.to_forget_gates = lambda _: (p, turned * 8**-0.5)
    gates = torch.nn.functional.logsigmoid(p @ turned.mT / 8)
    expected = theirs(x) - gates + gates.diagonal(dim1=-2, dim2=-1).unsqueeze(-1)
    q = torch.zeros(2, HEADS, S, HEAD_DIM, dtype=torch.float64)
    visible = torch.ones(S, S, dtype=torch.bool).tril()[None, None]
    ours = encoding.logits(q, q, rows_of(state, slice(0, S), slice(0, S), visible))
    slopes = torch.tensor([2.0**-x for x in encoding.exponents]).view(-1, 1, 1)
    torch.testing.assert_close(ours.tril(), (expected * slopes).tril(), rtol=0, atol=1e-12)


def test_gates_that_are_always_half_open_are_alibi_with_ln_2_of_its_slopes():
    encoding, (q, k) = made(), tensors(*2 * [(2, HEADS, S, HEAD_DIM)], dtype=torch.float64)
    ours = attend(q, k, k, encoding, None, Visibility(), "dense", state_BHSE=q.new_zeros(2, HEADS, S, 16))
    distance = torch.arange(S)[:, None] - torch.arange(S)
    logits = q @ k.mT * HEAD_DIM**-0.5 - math.log(2) * Alibi(HEADS).slopes(q.device).view(-1, 1, 1) * distance
    hidden = torch.ones(S, S, dtype=torch.bool).triu(1)
    torch.testing.assert_close(ours, logits.masked_fill(hidden, float("-inf")).softmax(-1) @ k, rtol=0, atol=1e-7)


def test_a_width_without_pairs_is_refused():
    with pytest.raises(ValueError, match=r"^width must be even, got 7$"):
        GrapeAP(D_MODEL, HEADS, width=7)
