import pytest
import torch
from torch import nn
from transformers import DebertaConfig, DebertaV2Config
from transformers.models.deberta import modeling_deberta as v1
from transformers.models.deberta_v2 import modeling_deberta_v2 as v2

from poslab.encodings import Positions
from poslab.encodings.relative.deberta import Deberta, log_buckets
from tests.encodings.agreement import assert_same
from tests.encodings.relative.formula import PLACES, assert_formula, attended, ids_of, inputs, looped, softmax_rows


@pytest.mark.parametrize(
    ("num_buckets", "max_distance"), [(256, 512), (32, 128), (4, 5), (8, 16), (64, 1_000), (6, 5), (128, 2_048)]
)
def test_buckets_are_those_of_deberta_v2(num_buckets, max_distance):
    distance = torch.arange(-5_000, 5_001)
    expected = v2.make_log_bucket_position(distance, num_buckets, max_distance).long()
    assert torch.equal(log_buckets(distance, num_buckets, max_distance), expected)


def test_buckets_have_the_documented_edges_and_grow_past_the_table():
    assert log_buckets(torch.tensor([-128, 128, 129, 511, 600, -600]), 256, 512).tolist() == [
        -128, 128, 129, 255, 270, -270
    ]  # fmt: skip


def content(q, k, v):
    """(B, H, T, D) as version 2 lays it out, (B * H, T, D)."""
    return [x.flatten(0, 1) for x in (q, k, v)]


def deberta_v2(ours, q, k, v, causal):
    """The output of version 2 of transformers with our parameters, projections of content left out."""
    config = DebertaV2Config(
        hidden_size=q.shape[1] * q.shape[-1],
        num_attention_heads=q.shape[1],
        relative_attention=True,
        pos_att_type=["c2p", "p2c"],
        position_buckets=ours.num_buckets or -1,
        max_relative_positions=ours.max_distance,
    )
    theirs = v2.DisentangledSelfAttention(config).eval()
    weights = [w.permute(0, 2, 1).flatten(0, 1) for w in (ours.position_key, ours.position_query)]
    for linear, weight in zip((theirs.pos_key_proj, theirs.pos_query_proj), weights, strict=True):
        nn.init.zeros_(linear.bias)
        del linear.weight
        linear.weight = weight
    query, key, value = content(q, k, v)
    bias = theirs.disentangled_attention_bias(query, key, None, ours.table, 3)
    logits = query @ key.transpose(-2, -1) / (3 * q.shape[-1]) ** 0.5 + bias
    return (softmax_rows(logits, causal) @ value).view_as(q)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("num_buckets", "max_distance"), [(4, 8), (8, 16), (6, 40), (None, 5), (None, 64)])
def test_output_and_gradients_are_those_of_deberta_v2(num_buckets, max_distance, causal):
    ours = Deberta(12, 3, 4, max_distance, num_buckets)
    q, k, v = inputs(3, 30, 30, 4)
    whole = Positions.range(30)
    actual, expected = attended(ours, q, k, v, whole, whole, causal), deberta_v2(ours, q, k, v, causal)
    assert_same(actual, expected, [q, k, v, *ours.parameters()])


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("max_distance", [5, 64])
def test_without_buckets_output_and_gradients_are_those_of_deberta_v1(max_distance, causal):
    ours, (q, k, v) = Deberta(12, 3, 4, max_distance, None), inputs(3, 30, 30, 4)
    config = DebertaConfig(
        hidden_size=12,
        num_attention_heads=3,
        relative_attention=True,
        pos_att_type=["c2p", "p2c"],
        max_relative_positions=max_distance,
    )
    theirs = v1.DisentangledSelfAttention(config).eval()
    weights = [w.permute(0, 2, 1).flatten(0, 1) for w in (ours.position_key, ours.position_query)]
    for linear, weight in zip((theirs.pos_proj, theirs.pos_q_proj), weights, strict=True):
        del linear.weight
        linear.weight = weight
    nn.init.zeros_(theirs.pos_q_proj.bias)
    scaled = q / (3 * 4) ** 0.5  # version 1 scales queries before they meet anything
    relative = v1.build_relative_position(q, k)
    logits = scaled @ k.transpose(-2, -1) + theirs.disentangled_att_bias(scaled, k, relative, ours.table, 3)
    expected = softmax_rows(logits, causal) @ v
    actual = attended(ours, q, k, v, Positions.range(30), Positions.range(30), causal)
    assert_same(actual, expected, [q, k, v, *ours.parameters()])


def formula(deberta, q, k, v, queries, keys, causal):
    """Equation 4 of the paper with delta of its equation 3, one pair at a time, in float64.

    Both terms take the row of delta(i, j), where the paper writes delta(j, i) for the second, and no code does.
    """
    q, k, v, table, position_key, position_query = (
        x.double() for x in (q, k, v, deberta.table, deberta.position_key, deberta.position_query)
    )
    limit, (query_ids, key_ids) = len(table) // 2, (ids_of(queries), ids_of(keys))

    def delta(distance):
        bucket = distance.round()
        if deberta.num_buckets is not None:
            bucket = v2.make_log_bucket_position(bucket, deberta.num_buckets, deberta.max_distance)
        bucket = int(bucket)
        return 0 if bucket <= -limit else 2 * limit - 1 if bucket >= limit else bucket + limit

    def logit(b, i, j):
        p = table[delta(query_ids[b, i] - key_ids[b, j])]
        pair = q[b, :, i] * k[b, :, j]
        pair = pair + q[b, :, i] * torch.einsum("m,hmd->hd", p, position_key)
        pair = pair + k[b, :, j] * torch.einsum("m,hmd->hd", p, position_query)
        return pair.sum(-1) / (3 * q.shape[-1]) ** 0.5

    return looped(logit, v, queries, keys, causal)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("num_buckets", "max_distance"), [(None, 4), (6, 12)])
def test_output_and_gradients_are_those_of_the_formula_at_any_positions(num_buckets, max_distance, place, causal):
    torch.manual_seed(1)
    assert_formula(Deberta(12, 3, 4, max_distance, num_buckets), formula, place, causal)
