"""Rotations under other positions, against logits of a dense matrix of relative positions in float64.

Dimension letters: B batch, H heads, T queries, S keys, D head dim, P channel pairs.
"""

from functools import partial
from math import floor, log

import pytest
import torch
from torch import Tensor

from poslab.attention import Visibility, attend
from poslab.encodings import (
    DualChunk,
    LeakyReRoPE,
    Positions,
    PretrainedPositions,
    QueryRows,
    ReRoPE,
    Rotary,
    SelfExtend,
    String,
)
from poslab.encodings.rotary.scalings import rope_ntk
from poslab.pretrained.borrow import borrow
from poslab.testing import check_encoding
from poslab.testing.subject import Float64
from tests.pretrained.tiny import some_tokens, tiny

HEAD_DIM, PAIRS, LENGTH = 16, 8, 60


def self_extend(i: int, j: int, groups=(8,) * PAIRS, window=10) -> list[float]:
    return [i - j if i - j < window else floor(i / g) - floor(j / g) + window - floor(window / g) for g in groups]


def dual_chunk(i: int, j: int, chunk=20, local=6) -> list[float]:
    s = chunk - local
    if i // s == j // s:
        at = i % s
    elif i // s - 1 == j // s:
        at = min(i % s + s, chunk)
    else:
        at = min(2 * s - 1, chunk)
    return [at - j % s] * PAIRS


RANGED = {
    "self_extend": (partial(SelfExtend, training_length=40), self_extend),
    "self_extend with a window of odd size": (
        partial(SelfExtend, training_length=40, window=7, group=3),
        lambda i, j: self_extend(i, j, (3,) * PAIRS, 7),
    ),
    "a group for each quarter of the pairs": (
        partial(SelfExtend, training_length=40, group=[2, 8, 1, 4]),
        lambda i, j: self_extend(i, j, (2, 2, 8, 8, 1, 1, 4, 4)),
    ),
    "rerope": (partial(ReRoPE, training_length=80), lambda i, j: [min(i - j, 10)] * PAIRS),
    "leaky_rerope": (
        partial(LeakyReRoPE, training_length=80, factor=4.0),
        lambda i, j: [i - j if i - j < 10 else 10 + (i - j - 10) / 4] * PAIRS,
    ),
    "dual_chunk": (partial(DualChunk, training_length=40, chunk=20, local=6), dual_chunk),
    "string": (
        partial(String, training_length=48, attention_factor=1.0),
        lambda i, j: [i - j if i - j < 16 else i - j - 16 + 3] * PAIRS,
    ),
}
"""Encodings with the relative position of each pair of channels, written again from the papers."""

ranged = pytest.mark.parametrize(("encoding", "relative"), RANGED.values(), ids=RANGED)


def operands() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(1, 2, LENGTH, HEAD_DIM, generator=generator, dtype=torch.float64) for _ in range(2))


def logits(encoding, q_BHTD: Tensor, k_BHSD: Tensor) -> Tensor:
    """Logits of the last T of S tokens, (B, H, T, S), as attention takes them from the hooks."""
    start = LENGTH - q_BHTD.shape[2]
    tables = encoding.prepare(Positions.range(LENGTH - start, start), Positions.range(LENGTH))
    rows = QueryRows(tables, slice(0, LENGTH - start), start, HEAD_DIM**-0.5 * encoding.scale(tables))
    return encoding.logits(encoding.rotate_query(q_BHTD, tables), encoding.rotate_key(k_BHSD, tables), rows)


def dense(spectrum: Tensor, q_BHTD: Tensor, k_BHSD: Tensor, relative) -> Tensor:
    """Sum over pairs of q conj(k) exp(i rel theta), with rel of every query and key."""
    q_BHTP, k_BHSP = (torch.complex(*x.split(PAIRS, dim=-1)) for x in (q_BHTD, k_BHSD))
    first = LENGTH - q_BHTD.shape[2]
    rel_TSP = torch.tensor(
        [[relative(i, j) if j <= i else [0] * PAIRS for j in range(LENGTH)] for i in range(first, LENGTH)],
        dtype=torch.float64,
    )
    turned_TSP = torch.polar(torch.ones_like(rel_TSP), rel_TSP * spectrum.double())
    return torch.einsum("bhtp,bhsp,tsp->bhts", q_BHTP, k_BHSP.conj(), turned_TSP).real * HEAD_DIM**-0.5


@ranged
@pytest.mark.parametrize("num_queries", [LENGTH, 1])
def test_logits_are_those_of_the_matrix_of_relative_positions(encoding, relative, num_queries):
    q, k = operands()
    q = q[:, :, -num_queries:]
    seen = torch.ones(LENGTH, LENGTH).tril().bool()[-num_queries:]
    with Float64():
        ours = logits(encoding(HEAD_DIM), q, k)
        spectrum = Rotary(HEAD_DIM).spectrum(1)
    torch.testing.assert_close(
        ours[..., seen], dense(spectrum, q, k, relative)[..., seen].to(ours.dtype), rtol=0, atol=1e-12
    )


@ranged
def test_a_text_within_the_first_range_is_read_as_by_the_trained_encoding(encoding, relative):
    if encoding.func is String:
        encoding = partial(encoding, attention_factor=1.0)
    q, k, v = (torch.randn(1, 2, 7, HEAD_DIM, generator=torch.Generator().manual_seed(n)) for n in range(3))
    positions, scaling = Positions.range(7), partial(rope_ntk, factor=2.0)
    for hyperparameters in ({}, {"base": 100.0, "layout": "interleaved", "scaling": scaling}):
        plain, ours = (make(HEAD_DIM, **hyperparameters) for make in (Rotary, encoding))
        expected, actual = (
            attend(q, k, v, one, one.prepare(positions, positions), Visibility(), "dense") for one in (plain, ours)
        )
        assert torch.equal(actual, expected)


def test_defaults_are_those_of_the_authors_at_their_training_lengths():
    assert SelfExtend(8, training_length=4_096).window == 1_024
    assert ReRoPE(8, training_length=4_096).window == 512
    dual = DualChunk(8, training_length=4_096)
    assert (dual.chunk, dual.local) == (3_072, 256)
    string = String(8, training_length=131_072)
    assert (string.offset, string.local) == (43_690, 128)
    assert string.attention_factor == 0.1 * log(2) + 1


@pytest.mark.parametrize(
    ("encoding", "sentence"),
    [
        (partial(SelfExtend, group=[2, 4, 8]), "group must .*, got 3"),
        (partial(SelfExtend, group=[0]), r"group must .*, got \[0\]"),
        (partial(DualChunk, chunk=8, local=8), "local must .*, got 8"),
        (partial(String, offset=4, local=5), "local must .*, got 5"),
        (partial(LeakyReRoPE, factor=0.5), "factor must .*, got 0.5"),
    ],
)
def test_a_wrong_hyperparameter_is_named(encoding, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        encoding(HEAD_DIM, training_length=40)


@pytest.mark.slow
@pytest.mark.parametrize(
    "encoding",
    [
        partial(SelfExtend, training_length=16, group=[2, 3]),
        partial(LeakyReRoPE, training_length=32, factor=2.0),
        partial(DualChunk, training_length=8),
    ],
)
def test_they_keep_the_contract_where_20_tokens_are_in_all_ranges(encoding):
    check_encoding(encoding)


def test_a_pretrained_model_reads_a_text_within_the_window_as_before_and_a_longer_one_otherwise():
    model, ids = tiny("llama"), some_tokens()
    with torch.no_grad():
        own, inside, beyond = (
            borrow(model, encoding=encoding)(ids)
            for encoding in (PretrainedPositions, partial(SelfExtend, window=11), partial(SelfExtend, window=4))
        )
    torch.testing.assert_close(inside, own, rtol=0, atol=1e-5)
    torch.testing.assert_close(beyond[:, :4], own[:, :4], rtol=0, atol=1e-5)
    assert (beyond[:, 4:] - own[:, 4:]).abs().max() > 0.01
