import pytest
import torch
from torch import Tensor
from transformers.models.inkling.modeling_inkling import InklingRelativeLogits
from x_transformers.x_transformers import RelativeProjPositionalBias

from poslab.attention import Visibility
from poslab.attention.attend import attend
from poslab.encodings import Positions
from poslab.encodings.base import QueryRows
from poslab.encodings.content.relative_projection import RelativeProjection
from tests.encodings.agreement import assert_same, attention_inputs, tensors

D_MODEL, HEADS, KV_HEADS, HEAD_DIM = 24, 4, 2, 8


def relative_projection(rank: int = 5, extent: int = 7) -> RelativeProjection:
    torch.manual_seed(0)
    encoding = RelativeProjection(D_MODEL, HEADS, rank, extent)
    torch.nn.init.normal_(encoding.bank)
    return encoding


def biases(encoding: RelativeProjection, x: Tensor, queries: Positions, keys: Positions) -> Tensor:
    """The bias of queries that stand at the last keys, (B, H, T, S)."""
    state, first = encoding.state(x, keys, None), keys.length - queries.length
    query, key = (torch.zeros(len(x), HEADS, n, 2, dtype=x.dtype) for n in (queries.length, keys.length))
    rows = slice(0, queries.length)
    block = QueryRows(encoding.prepare(queries, keys), rows, first, 1.0, None, state[:, :, first:], state)
    return encoding.logits(query, key, block)


@pytest.mark.parametrize("extent", [1, 7, 64])
def test_attention_and_gradients_are_those_of_transformers(extent):
    length, encoding = 30, relative_projection(extent=extent)
    query, key, value, x = attention_inputs(length, HEADS, KV_HEADS, HEAD_DIM, D_MODEL)
    positions = Positions.range(length)
    state = encoding.state(x, positions, None)
    tables = encoding.prepare(positions, positions)
    ours = attend(query, key, value, encoding, tables, Visibility(), state_BHSE=state)
    inkling = InklingRelativeLogits(5, extent)
    inkling.proj.data.copy_(encoding.bank.data)
    relative_states = torch.nn.functional.linear(x, encoding.projection.weight).view(2, length, HEADS, 5)
    storage = torch.arange(length)
    logits = query @ key.repeat_interleave(2, dim=1).mT * HEAD_DIM**-0.5 + inkling(relative_states, storage, storage)
    future = torch.ones(length, length, dtype=torch.bool).triu(1)
    expected = logits.masked_fill(future, float("-inf")).softmax(-1) @ value.repeat_interleave(2, dim=1)
    sources = [query, key, value, x, encoding.projection.weight]
    assert_same(ours, expected, [*sources, encoding.bank], [*sources, inkling.proj])


@pytest.mark.parametrize("num_queries", [1, 9, 20])
def test_the_bias_is_that_of_x_transformers_also_for_the_last_queries_of_many_keys(num_queries):
    encoding = relative_projection()
    (x,) = tensors((2, 20, D_MODEL))
    other = RelativeProjPositionalBias(D_MODEL, HEADS, 5, 7)
    with torch.no_grad():
        other.distance_bank.copy_(encoding.bank)
        other.to_distance_weights[0].weight.copy_(encoding.projection.weight)
        other.to_distance_weights[0].bias.zero_()
    ours = biases(encoding, x, Positions.range(num_queries, 20 - num_queries), Positions.range(20))
    expected = other(x[:, 20 - num_queries :], seq_len_k=20)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)


def test_distance_is_that_of_positions_whole_or_rounded():
    encoding = relative_projection().double()
    (x,) = tensors((2, 6, D_MODEL), dtype=torch.float64)
    for ids in (torch.tensor([[0, 2, 3, 9, 11, 12], [4, 5, 6, 7, 8, 30]]), torch.arange(6) * 1.3 + 0.2):
        positions = Positions(ids, 31)
        ours = biases(encoding, x, positions, positions)
        for row in range(2):
            place = ids[row] if ids.dim() == 2 else ids
            for head in range(HEADS):
                mix = encoding.projection.weight[head * 5 : head * 5 + 5] @ x[row].T
                for i in range(6):
                    for j in range(i + 1):
                        distance = round((place[i] - place[j]).item())
                        expected = mix[:, i] @ encoding.bank[:, distance] if distance < 7 else torch.zeros(())
                        torch.testing.assert_close(ours[row, head, i, j], expected.double(), rtol=1e-9, atol=1e-9)


def test_there_is_no_bias_beyond_the_extent_nor_ahead():
    (x,) = tensors((1, 20, D_MODEL))
    bias = biases(relative_projection(extent=7), x, Positions.range(20), Positions.range(20))
    storage = torch.arange(20)
    distance = storage[:, None] - storage
    inside = (distance >= 0) & (distance < 7)
    assert (bias[..., inside] != 0).all() and (bias[..., ~inside] == 0).all()
