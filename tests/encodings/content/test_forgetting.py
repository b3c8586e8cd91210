from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from x_transformers.x_transformers import DataDependentAlibi

from poslab.attention import Visibility
from poslab.attention.attend import attend
from poslab.encodings import Positions
from poslab.encodings.base import QueryRows
from poslab.encodings.content.forgetting import Forgetting
from poslab.models import Decoder
from tests.encodings.agreement import D_MODEL, HEAD_DIM, HEADS, assert_same, attention_tensors, tensors
from tests.stacked import stacked


def forgetting(gate_bias: float = 0.5) -> Forgetting:
    torch.manual_seed(0)
    return Forgetting(D_MODEL, HEADS, gate_bias)


def biases(state: Tensor, visible: Tensor | None = None, num_queries: int | None = None, rows=slice(None)) -> Tensor:
    """The bias of queries that stand at the last keys, (B, H, R, S)."""
    batch, heads, num_keys, _ = state.shape
    num_queries = num_queries or num_keys
    first, last, _ = rows.indices(num_queries)
    query, key = torch.zeros(batch, heads, last - first, 2), torch.zeros(batch, heads, num_keys, 2)
    query_state = state[:, :, num_keys - num_queries :][:, :, first:last]
    block = QueryRows(None, slice(first, last), num_keys - num_queries + first, 1.0, visible, query_state, state)
    return forgetting().logits(query.to(state.dtype), key.to(state.dtype), block)


@pytest.mark.parametrize("window", [None, 7])
def test_attention_and_gradients_are_those_of_flash_linear_attention(window):
    from fla.ops.forgetting_attn.naive import naive_forgetting_attn  # which takes seconds to import

    length, encoding = 60, forgetting()
    query, key, value, x = attention_tensors(length)
    state = encoding.state(x, Positions.range(length), None)
    ours = attend(query, key, value, encoding, None, Visibility(window=window), state_BHSE=state)
    gates = torch.log(1 / (1 + torch.exp(-(x @ encoding.gate.weight.T + encoding.gate.bias))))
    expected = naive_forgetting_attn(*(y.transpose(1, 2) for y in (query, key, value)), gates, window_size=window)
    expected = expected.transpose(1, 2)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)
    weight = torch.randn(ours.shape, generator=torch.Generator().manual_seed(2))
    sources = [query, key, value, x, *encoding.gate.parameters()]
    actual = torch.autograd.grad((ours * weight).sum(), sources)
    wanted = torch.autograd.grad((expected * weight).sum(), sources)
    for one, other in zip(actual, wanted, strict=True):
        # Of the largest: gradients of the gate are sums over all tokens.
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5 * other.abs().max().item())


def test_the_bias_is_that_of_x_transformers():
    encoding = forgetting()
    (x,) = tensors((2, 40, D_MODEL))
    other = DataDependentAlibi(D_MODEL, HEADS)
    other.to_forget_gates[0].load_state_dict(encoding.gate.state_dict())
    ours = biases(encoding.state(x, Positions.range(40), None))
    torch.testing.assert_close(ours, other(x), rtol=1e-5, atol=1e-5)


def test_in_an_encoder_the_bias_is_that_of_x_transformers_too():
    torch.manual_seed(0)
    encoding, (x,) = Forgetting(D_MODEL, HEADS, 0.5, causal=False), tensors((2, 40, D_MODEL))
    other = DataDependentAlibi(D_MODEL, HEADS, causal=False)
    both = [encoding.gate, encoding.gate_ahead]
    with torch.no_grad():
        for name in ("weight", "bias"):
            getattr(other.to_forget_gates[0], name).copy_(torch.cat([getattr(gate, name) for gate in both]))
    key_state = encoding.state(x, Positions.range(40), None)
    rows = QueryRows(None, slice(0, 40), 0, 1.0, None, key_state, key_state)
    ours = encoding.logits(*torch.zeros(2, 2, HEADS, 40, 2), rows)
    assert_same(ours, other(x), [x])


def test_sums_go_over_the_tokens_between_in_the_same_document_and_not_over_padding():
    # Padding before, between and after two documents; every gate of it is ruinous.
    real = torch.tensor([[0, 0, 1, 1, 1, 0, 1, 1, 0, 1, 1, 1, 0]]).bool()
    segments = torch.tensor([[0] * 9 + [1] * 4])
    (state,) = tensors((1, HEADS, 13, 1), dtype=torch.float64)
    state = -state.detach().abs()
    visible = Visibility(True, None, segments, segments, real).mask(13, 13, state.device)
    for ruin in (-1e9, float("-inf"), float("nan")):
        bias = biases(state.masked_fill(~real[:, None, :, None], ruin), visible)
        for i in range(13):
            for j in range(i + 1):
                if real[0, i] and real[0, j] and segments[0, i] == segments[0, j]:
                    between = [t for t in range(j + 1, i + 1) if real[0, t]]
                    expected = state[0, :, between, 0].sum(-1)
                    torch.testing.assert_close(bias[0, :, i, j], expected, rtol=1e-9, atol=1e-9)


def test_a_block_of_rows_of_one_document_does_not_feel_the_others():
    (state,) = tensors((1, HEADS, 20, 1))
    state = state.detach().clone()
    segments = torch.tensor([[0] * 12 + [1] * 8])
    visible = Visibility(True, None, segments, segments).mask(20, 20, state.device)
    before = biases(state, visible[:, :, 12:], rows=slice(12, 20))
    state[:, :, :12] = -1e7
    assert torch.equal(biases(state, visible[:, :, 12:], rows=slice(12, 20))[..., 12:], before[..., 12:])


def test_near_tokens_at_8192_are_as_near_as_at_the_beginning():
    # In bfloat16, sums of some thousands would lose whole nats, in float32 some thousandths of one.
    (x,) = tensors((1, 8_192, D_MODEL))
    state = forgetting().state(x, Positions.range(8_192), None).detach()
    last = biases(state, num_queries=1)[0, :, 0, -9:]
    exact = state.double()[0, :, -9:, 0]
    expected = exact.sum(-1, keepdim=True) - exact.cumsum(-1)
    torch.testing.assert_close(last.double(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("gate_bias", "gate"), [(0.0, 0.5), (5.0, 0.9933071)])
def test_gates_of_a_model_begin_at_their_bias(gate_bias, gate):
    model = stacked(Decoder, 10, partial(Forgetting, gate_bias=gate_bias), D_MODEL, num_layers=2, num_heads=HEADS)
    for encoding in model.encodings:
        state = encoding.state(torch.zeros(1, 3, D_MODEL), Positions.range(3), None)
        torch.testing.assert_close(state.exp(), torch.full((1, HEADS, 3, 1), gate))


def test_a_gate_that_is_shut_forgets_all_before_it_and_has_finite_gradients():
    encoding = forgetting()
    x = torch.zeros(1, 4, D_MODEL, requires_grad=True)
    with torch.no_grad():
        encoding.gate.weight.zero_()
        encoding.gate.bias.fill_(-300.0)
    query, key, value = tensors(*[(1, HEADS, 4, HEAD_DIM)] * 3)
    output = attend(
        query, key, value, encoding, None, Visibility(), state_BHSE=encoding.state(x, Positions.range(4), None)
    )
    torch.testing.assert_close(output, value)
    gradients = torch.autograd.grad(functional.mse_loss(output, -value), [query, key, encoding.gate.bias])
    assert all(gradient.isfinite().all() for gradient in gradients)
