import pytest

from poslab.encodings.relative.music import MusicTransformer
from tests.encodings.relative.formula import PLACES, assert_formula, ids_of, looped


def formula(music, q, k, v, queries, keys, causal):
    """Equation 3 of the paper with an explicit vector for each pair, in float64."""
    q, k, v, table = (x.double() for x in (q, k, v, music.table))
    query_ids, key_ids = ids_of(queries), ids_of(keys)

    def vector(b, i, j):
        return table[:, min(max(0, round((query_ids[b, i] - key_ids[b, j]).item())), table.shape[1] - 1)]

    def logit(b, i, j):
        return (q[b, :, i] * (k[b, :, j] + vector(b, i, j))).sum(-1) / q.shape[-1] ** 0.5

    return looped(logit, v, queries, keys, causal)


@pytest.mark.parametrize("num_distances", [1, 4, 9, 20])
@pytest.mark.parametrize("place", PLACES)
def test_output_and_gradients_are_those_of_the_formula(place, num_distances):
    assert_formula(MusicTransformer(3, 4, num_distances), formula, place, causal=True)
