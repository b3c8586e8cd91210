from functools import partial

import pytest
import torch

from poslab.encodings import Positions, QueryRows, StackEncodings, StackShape
from poslab.encodings.relative.music import MusicTransformer
from poslab.testing import check_encoding
from tests.encodings.relative.formula import (
    PLACES,
    assert_same_output_and_gradients,
    attended,
    ids_of,
    inputs,
    softmax_rows,
)


def looped(music, q, k, v, queries, keys):
    """Equation 3 of the paper with an explicit vector for each pair, in float64."""
    q, k, v, table = (x.double() for x in (q, k, v, music.table))
    query_ids, key_ids = ids_of(queries), ids_of(keys)

    def vector(b, i, j):
        return table[:, min(max(0, round((query_ids[b, i] - key_ids[b, j]).item())), table.shape[1] - 1)]

    def logits(b, i):
        pairs = [q[b, :, i] * (k[b, :, j] + vector(b, i, j)) for j in range(keys.length)]
        return torch.stack(pairs, dim=1).sum(-1) / q.shape[-1] ** 0.5

    rows = [torch.stack([logits(b, i) for i in range(queries.length)], 1) for b in range(2)]
    return softmax_rows(torch.stack(rows), causal=True) @ v


@pytest.mark.parametrize("num_distances", [1, 4, 9, 20])
@pytest.mark.parametrize("place", PLACES)
def test_output_and_gradients_are_those_of_the_formula(place, num_distances):
    torch.manual_seed(0)
    queries, keys = PLACES[place]
    music = MusicTransformer(num_heads=3, head_dim=4, num_distances=num_distances)
    q, k, v = inputs(3, queries.length, keys.length, 4)
    ours = attended(music, q, k, v, queries, keys, causal=True)
    expected = looped(music, q, k, v, queries, keys)
    assert_same_output_and_gradients(ours, expected, [q, k, v, music.table], 1e-5)


@pytest.mark.parametrize("contiguous", [True, False])
@pytest.mark.parametrize("num_queries", [9, 5])
def test_a_block_of_rows_is_those_rows_of_the_whole(num_queries, contiguous):
    music, (q, k, _) = MusicTransformer(3, 4, num_distances=4), inputs(3, num_queries, 9, 4)
    queries = Positions(torch.arange(9 - num_queries, 9), 9, contiguous)
    tables = music.prepare(queries, Positions(torch.arange(9), 9, contiguous))
    causal = torch.ones(num_queries, 9, dtype=torch.bool).tril(9 - num_queries)
    whole = music.logits(q, k, QueryRows(tables, slice(0, num_queries), 9 - num_queries, 0.5))
    for rows in (slice(0, 2), slice(2, 3), slice(1, num_queries), slice(3, None)):
        first_key = 9 - num_queries + rows.start
        block = music.logits(q[:, :, rows], k, QueryRows(tables, rows, first_key, 0.5))
        torch.testing.assert_close(block[..., causal[rows]], whole[:, :, rows][..., causal[rows]])


def test_an_encoder_cannot_have_it():
    with pytest.raises(ValueError, match="MusicTransformer is causal"):
        StackEncodings(MusicTransformer, StackShape(32, 2, 4, 2, 8, causal=False))


@pytest.mark.parametrize("hyperparameters", [{}, {"num_distances": 6}])
def test_it_keeps_what_every_encoding_keeps(hyperparameters):
    check_encoding(partial(MusicTransformer, **hyperparameters))


def test_a_wrong_hyperparameter_is_named():
    with pytest.raises(ValueError, match=r"^num_distances must be a positive integer, got 0$"):
        MusicTransformer(4, 8, num_distances=0)
