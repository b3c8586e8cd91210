from types import SimpleNamespace

import pytest
import torch
from torch import nn
from transformers.models.vits.configuration_vits import VitsConfig
from transformers.models.vits.modeling_vits import VitsAttention
from transformers.models.wav2vec2_bert.modeling_wav2vec2_bert import _apply_relative_key_position_encoding

from poslab.encodings import Positions, QueryRows
from poslab.encodings.relative.shaw import Shaw
from tests.encodings.relative.formula import PLACES, assert_formula, attended, ids_of, inputs, softmax_rows


def formula(shaw, q, k, v, queries, keys, causal):
    """Equations 3 and 4 of the paper, one pair at a time, in float64."""
    q, k, v, key_table, value_table = (x.double() for x in (q, k, v, shaw.key_table, shaw.value_table))
    limit, (query_ids, key_ids) = (len(key_table) - 1) // 2, (ids_of(queries), ids_of(keys))

    def row(b, i, j):
        return max(-limit, min(limit, round((key_ids[b, j] - query_ids[b, i]).item()))) + limit

    def logits(b, i):
        pairs = [q[b, :, i] * (k[b, :, j] + key_table[row(b, i, j)]) for j in range(keys.length)]
        return torch.stack(pairs, dim=1).sum(-1) / q.shape[-1] ** 0.5

    weights = softmax_rows(
        torch.stack([torch.stack([logits(b, i) for i in range(queries.length)], 1) for b in range(2)]), causal
    )
    rows = [
        [
            sum(weights[b, :, i, j, None] * (v[b, :, j] + value_table[row(b, i, j)]) for j in range(keys.length))
            for i in range(queries.length)
        ]
        for b in range(2)
    ]
    return torch.stack([torch.stack(row, dim=1) for row in rows])


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("place", PLACES)
def test_output_and_gradients_are_those_of_the_formula(place, causal):
    assert_formula(Shaw(head_dim=4, max_distance=3), formula, place, causal)


def rows_of(shaw, length):
    positions = Positions.range(length)
    return QueryRows(shaw.prepare(positions, positions), slice(0, length), 0, 0.5)


def test_logits_are_those_of_wav2vec2_bert_with_relative_keys():
    shaw, (q, k, _) = Shaw(head_dim=4, max_distance=5), inputs(3, 20, 20, 4)
    theirs = SimpleNamespace(
        left_max_position_embeddings=5,
        right_max_position_embeddings=5,
        scaling=0.5,
        distance_embedding=nn.Embedding.from_pretrained(shaw.key_table.detach()),
    )
    _, relative = _apply_relative_key_position_encoding(theirs, q, k)
    expected = q @ k.transpose(-2, -1) * 0.5 + relative
    torch.testing.assert_close(shaw.logits(q, k, rows_of(shaw, 20)), expected, rtol=1e-5, atol=1e-5)


def test_output_is_that_of_vits_where_no_distance_is_clipped():
    """VITS gives zero to distances outside its window; inside it, its keys and values are those of the paper."""
    vits = VitsAttention(VitsConfig(hidden_size=12, num_attention_heads=3, window_size=8, attention_dropout=0.0))
    vits.eval()
    for projection in (vits.q_proj, vits.k_proj, vits.v_proj, vits.out_proj):
        nn.init.zeros_(projection.bias)
    shaw = Shaw(head_dim=4, max_distance=8)
    shaw.key_table.data.copy_(vits.emb_rel_k[0])
    shaw.value_table.data.copy_(vits.emb_rel_v[0])
    x = torch.randn(2, 9, 12)
    q, k, v = (p(x).unflatten(-1, (3, 4)).transpose(1, 2) for p in (vits.q_proj, vits.k_proj, vits.v_proj))
    ours = attended(shaw, q, k, v, *PLACES["whole"], causal=False)
    torch.testing.assert_close(vits.out_proj(ours.transpose(1, 2).flatten(2)), vits(x)[0], rtol=1e-5, atol=1e-5)


def test_values_are_not_scaled_and_clip_rather_than_vanish():
    shaw = Shaw(head_dim=4, max_distance=2)
    weights = torch.eye(9).flip(-1)[None, None]  # query 0 reads key 8 alone, query 8 key 0
    read = shaw.values(weights, torch.zeros(1, 1, 9, 4), rows_of(shaw, 9))[0, 0]
    torch.testing.assert_close(read[0], shaw.value_table[4])
    torch.testing.assert_close(read[8], shaw.value_table[0])
    torch.testing.assert_close(read[4], shaw.value_table[2])
