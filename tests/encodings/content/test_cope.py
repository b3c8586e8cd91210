import pytest
import torch
from x_transformers.x_transformers import CoPE as OtherCoPE

from poslab.attention import Visibility
from poslab.attention.attend import attend
from poslab.encodings import Positions, StackEncodings, StackShape
from poslab.encodings.base import QueryRows
from poslab.encodings.content.cope import CoPE
from tests.encodings.agreement import assert_same, tensors

HEADS, HEAD_DIM = 3, 8


def cope(num_positions: int = 6) -> CoPE:
    encoding = CoPE(HEAD_DIM, num_positions)
    with torch.no_grad():
        encoding.position_embedding.copy_(torch.randn(num_positions, HEAD_DIM))
    return encoding


def causal_rows(num_queries: int, num_keys: int, scale: float) -> QueryRows:
    visible = torch.ones(num_queries, num_keys, dtype=torch.bool).tril(num_keys - num_queries)
    return QueryRows(None, slice(0, num_queries), num_keys - num_queries, scale, visible[None, None])


@pytest.mark.parametrize("num_positions", [2, 6, 30])
def test_attention_and_gradients_are_those_of_x_transformers(num_positions):
    length, scale = 20, HEAD_DIM**-0.5
    encoding = cope(num_positions)
    query, key, value = tensors(*[(2, HEADS, length, HEAD_DIM)] * 3)
    ours = attend(query, key, value, encoding, None, Visibility())
    other = OtherCoPE(HEAD_DIM, HEADS, num_positions)
    other.pos_emb.data.copy_(encoding.position_embedding.data)
    future = torch.ones(length, length, dtype=torch.bool).triu(1)
    logits = (query @ key.mT * scale).masked_fill(future, -torch.finfo(torch.float32).max)
    expected = (logits + other(query, logits)).softmax(-1) @ value
    sources = [query, key, value]
    assert_same(ours, expected, [*sources, encoding.position_embedding], [*sources, other.pos_emb])


def test_a_query_counts_only_what_it_sees():
    # Two documents, the first behind padding, in a window of 5: of every pair the count is made key by key.
    length, num_positions, window = 12, 3, 5
    encoding = cope(num_positions).double()
    query, key = (x.detach() for x in tensors(*[(1, HEADS, length, HEAD_DIM)] * 2, dtype=torch.float64))
    segments, real = torch.tensor([[0] * 7 + [1] * 5]), torch.arange(length)[None] >= 2
    visibility = Visibility(True, window, segments, segments, real)
    visible = visibility.mask(length, length, query.device)
    ours = encoding.logits(query, key, QueryRows(None, slice(0, length), 0, 0.3, visible))
    for head in range(HEADS):
        for i in range(length):
            for j in range(max(0, i - window + 1, 2, 7 if i >= 7 else 0), i + 1):
                count = 0.0
                for t in range(j, i + 1):
                    count += 1 / (1 + torch.exp(-(query[0, head, i] @ key[0, head, t]) / HEAD_DIM**0.5)).item()
                count = min(count, num_positions - 1)
                low = min(int(count), num_positions - 2)
                embedding = encoding.position_embedding[low] * (low + 1 - count)
                embedding = embedding + encoding.position_embedding[low + 1] * (count - low)
                expected = query[0, head, i] @ key[0, head, j] * 0.3 + query[0, head, i] @ embedding
                torch.testing.assert_close(ours[0, head, i, j], expected, rtol=1e-9, atol=1e-9)


def test_with_all_gates_open_it_is_the_distance_plus_one_exactly_up_to_4096():
    length = 4_096
    encoding = CoPE(HEAD_DIM, num_positions=5_000)
    with torch.no_grad():
        encoding.position_embedding[:, 0] = torch.arange(5_000.0)
    query, key = torch.zeros(1, 1, 1, HEAD_DIM), torch.full((1, 1, length, HEAD_DIM), 1_000.0)
    query[..., 0] = 1.0
    bias = encoding.logits(query, key, causal_rows(1, length, 0.0))[0, 0, 0]
    assert torch.equal(bias, torch.arange(length, 0, -1.0))


def test_the_scale_of_the_logits_is_not_that_of_gates_and_embeddings():
    # So a temperature on the logits leaves the counting alone.
    encoding = cope()
    query, key = (x.detach() for x in tensors(*[(2, HEADS, 9, HEAD_DIM)] * 2))
    one, three = (encoding.logits(query, key, causal_rows(9, 9, scale)) for scale in (1.0, 3.0))
    torch.testing.assert_close(three - one, 2 * query @ key.mT, rtol=1e-5, atol=1e-5)


def test_each_layer_has_embeddings_of_its_own_at_zero():
    layers = list(StackEncodings(CoPE, StackShape(32, 2, 4, 4, 8)))
    assert len(layers) == 2
    assert all((layer.position_embedding == 0).all() and layer.position_embedding.shape == (64, 8) for layer in layers)


def test_positions_are_not_read():
    encoding = cope()
    assert encoding.prepare(Positions.range(3), Positions.range(3)) is None
