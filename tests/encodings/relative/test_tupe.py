from functools import partial

import pytest
import torch
from transformers.models.t5.modeling_t5 import T5Attention

from poslab.encodings import Positions, QueryRows, StackEncodings, StackShape
from poslab.encodings.relative.tupe import Tupe
from poslab.testing import check_encoding
from tests.encodings.relative.formula import (
    PLACES,
    assert_same_output_and_gradients,
    attended,
    ids_of,
    inputs,
    softmax_rows,
)


def looped(tupe, q, k, v, queries, keys, causal, buckets=None):
    """Equation 7 of the paper, and its equation 8 with buckets; one pair at a time, in float64."""
    q, k, v, table, gain, offset, position_query, position_key = (
        x.double()
        for x in (q, k, v, tupe.table, tupe.norm.weight, tupe.norm.bias, tupe.position_query, tupe.position_key)
    )
    query_ids, key_ids, dim = ids_of(queries), ids_of(keys), q.shape[-1]

    def normed(position):
        p = table[round(position.item())]
        return (p - p.mean()) / (p.var(correction=0) + 1e-5).sqrt() * gain + offset

    def logits(b, i, j):
        of_query = torch.einsum("m,hmd->hd", normed(query_ids[b, i]), position_query)
        of_key = torch.einsum("m,hmd->hd", normed(key_ids[b, j]), position_key)
        logit = (q[b, :, i] * k[b, :, j]).sum(-1) / (2 * dim) ** 0.5 + (of_query * of_key).sum(-1) / (2 * dim) ** 0.5
        if buckets is None:
            return logit
        ahead = (key_ids[b, j] - query_ids[b, i]).round().long()
        bucket = T5Attention._relative_position_bucket(ahead, not causal, *buckets)
        return logit + dim**0.5 * tupe.relative_bias.table[bucket].double()

    every = [[[logits(b, i, j) for j in range(keys.length)] for i in range(queries.length)] for b in range(2)]
    matrix = torch.stack([torch.stack([torch.stack(row, 1) for row in rows], 1) for rows in every])
    return softmax_rows(matrix, causal) @ v


@pytest.mark.parametrize("buckets", [None, (8, 16)])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("place", PLACES)
def test_output_and_gradients_are_those_of_the_formula(place, causal, buckets):
    torch.manual_seed(0)
    queries, keys = PLACES[place]
    more = {} if buckets is None else {"num_buckets": buckets[0], "max_distance": buckets[1]}
    tupe = Tupe(12, 3, 4, causal, max_length=61, **more)
    for parameter in tupe.norm.parameters():
        parameter.data.add_(torch.randn(12))
    q, k, v = inputs(3, queries.length, keys.length, 4)
    ours = attended(tupe, q, k, v, queries, keys, causal)
    expected = looped(tupe, q, k, v, queries, keys, causal, buckets)
    assert_same_output_and_gradients(ours, expected, [q, k, v, *tupe.parameters()], 1e-5)


@pytest.mark.parametrize("num_buckets", [None, 8])
def test_a_block_of_rows_is_those_rows_of_the_whole(num_buckets):
    tupe = Tupe(12, 3, 4, max_length=20, num_buckets=num_buckets, max_distance=16)
    tables = tupe.prepare(Positions.range(5, 4), Positions.range(9))
    whole = tupe.pair_bias(QueryRows(tables, slice(0, 5), 4, 1.0))
    assert whole.shape == (1, 3, 5, 9)
    for rows in (slice(0, 2), slice(2, 3), slice(3, None)):
        block = QueryRows(tables, rows, 4 + rows.start, 1.0, keys=slice(0, 8))
        torch.testing.assert_close(tupe.pair_bias(block), whole[:, :, rows, :8])


def test_all_layers_share_one_instance():
    shape = StackShape(32, 3, 4, 2, 8)
    assert len(StackEncodings(Tupe, shape).distinct) == 1


def test_the_first_position_is_untied_from_no_other():
    """No token is [CLS] here: the row and the column of position 0 hold correlations like all others."""
    tupe = Tupe(12, 3, 4, max_length=9)
    bias = tupe.pair_bias(QueryRows(tupe.prepare(*PLACES["whole"]), slice(0, 9), 0, 1.0))[0]
    for edge in (bias[:, 0], bias[:, :, 0]):
        assert all(len(head.unique()) == 9 for head in edge)


def test_it_serves_its_last_position_and_refuses_the_next_in_one_sentence():
    tupe = Tupe(12, 3, 4, max_length=16)
    tupe.prepare(Positions.range(1, 15), Positions.range(16))
    tupe.prepare(*(Positions(torch.tensor([-0.6, 15.7]), 16),) * 2)
    with pytest.raises(ValueError, match=r"^max_length=16 positions of TUPE end before position 16; [^\n]+$"):
        tupe.prepare(Positions.range(1, 16), Positions.range(17))


@pytest.mark.parametrize("hyperparameters", [{}, {"num_buckets": 8, "max_distance": 16}, {"max_length": 330}])
def test_it_keeps_what_every_encoding_keeps(hyperparameters):
    check_encoding(partial(Tupe, **hyperparameters))


@pytest.mark.parametrize(
    ("hyperparameters", "sentence"),
    [
        ({"max_length": 0}, "max_length must be a positive integer, got 0"),
        ({"num_buckets": 5}, "num_buckets must be a positive multiple of 2, got 5"),
        ({"num_buckets": 32, "max_distance": 16}, "max_distance must be greater than 16 .*, got 16"),
    ],
)
def test_a_wrong_hyperparameter_is_named(hyperparameters, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        Tupe(32, 4, 8, **hyperparameters)
