from functools import partial

import pytest
import torch
from transformers.models.t5.modeling_t5 import T5Attention

from poslab.encodings import Positions, QueryRows
from poslab.encodings.relative.tupe import Tupe
from tests.encodings.relative.formula import PLACES, assert_formula, ids_of, looped


def formula(tupe, q, k, v, queries, keys, causal, buckets=None):
    """Equation 7 of the paper, and its equation 8 with buckets; one pair at a time, in float64."""
    q, k, v, table, gain, offset, position_query, position_key = (
        x.double()
        for x in (q, k, v, tupe.table, tupe.norm.weight, tupe.norm.bias, tupe.position_query, tupe.position_key)
    )
    query_ids, key_ids, dim = ids_of(queries), ids_of(keys), q.shape[-1]

    def normed(position):
        p = table[round(position.item())]
        return (p - p.mean()) / (p.var(correction=0) + 1e-5).sqrt() * gain + offset

    def logit(b, i, j):
        of_query = torch.einsum("m,hmd->hd", normed(query_ids[b, i]), position_query)
        of_key = torch.einsum("m,hmd->hd", normed(key_ids[b, j]), position_key)
        plain = (q[b, :, i] * k[b, :, j]).sum(-1) / (2 * dim) ** 0.5 + (of_query * of_key).sum(-1) / (2 * dim) ** 0.5
        if buckets is None:
            return plain
        ahead = (key_ids[b, j] - query_ids[b, i]).round().long()
        bucket = T5Attention._relative_position_bucket(ahead, not causal, *buckets)
        return plain + dim**0.5 * tupe.relative_bias.table[bucket].double()

    return looped(logit, v, queries, keys, causal)


@pytest.mark.parametrize("buckets", [None, (8, 16)])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("place", PLACES)
def test_output_and_gradients_are_those_of_the_formula(place, causal, buckets):
    more = {} if buckets is None else {"num_buckets": buckets[0], "max_distance": buckets[1]}
    tupe = Tupe(12, 3, 4, causal, max_length=61, **more)
    for parameter in tupe.norm.parameters():
        parameter.data.add_(torch.randn(12))
    assert_formula(tupe, partial(formula, buckets=buckets), place, causal)


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
    with pytest.raises(ValueError, match=r"^max_length=16.*end before position 16; [^\n]+$"):
        tupe.prepare(Positions.range(1, 16), Positions.range(17))
