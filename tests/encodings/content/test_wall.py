"""Wall attention against flash-linear-attention, and where channels fade at once."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from poslab.attention import Visibility, attend
from poslab.encodings import Positions, Wall
from tests.encodings.agreement import D_MODEL, HEAD_DIM, HEADS, assert_same, attention_tensors


def wall(gate_bias: float) -> Wall:
    torch.manual_seed(0)
    return Wall(D_MODEL, HEADS, HEAD_DIM, gate_bias)


def attended(encoding: Wall, tensors: list[Tensor], window: int | None = None) -> Tensor:
    query, key, value, x = tensors
    state = encoding.state(x, Positions.range(x.shape[1]), None)
    return attend(query, key, value, encoding, None, Visibility(window=window), state_BHSE=state)


@pytest.mark.parametrize(("gate_bias", "window"), [(8.0, None), (0.0, 7)])
def test_attention_and_gradients_are_those_of_flash_linear_attention(gate_bias, window, monkeypatch):
    from fla.ops.wall_attn import naive  # which takes seconds to import

    # Their sums are a kernel for a GPU.
    monkeypatch.setattr(naive, "chunk_global_cumsum", lambda g, cu_seqlens, scale: g.cumsum(1) * scale)
    encoding, tensors = wall(gate_bias), attention_tensors(50)
    *operands, x = tensors
    gates = functional.logsigmoid(x @ encoding.gate.weight.T + encoding.gate.bias).unflatten(-1, (HEADS, HEAD_DIM))
    expected = naive.naive_wall_attn(
        *(y.transpose(1, 2) for y in operands), gates, scale=HEAD_DIM**-0.5, window_size=window
    )
    sources = [*tensors, *encoding.parameters()]
    assert_same(attended(encoding, tensors, window), expected.transpose(1, 2), sources)


def test_channels_that_fade_at_once_leave_every_earlier_key_a_logit_of_zero_and_finite_gradients():
    encoding, tensors = wall(-300.0), attention_tensors(40)
    query, key, value, _ = tensors
    ours = attended(encoding, tensors)
    key, value = (y.repeat_interleave(2, dim=1) for y in (key, value))
    own = torch.diag_embed((query * key).sum(-1) * HEAD_DIM**-0.5)
    weights = own.masked_fill(torch.ones(40, 40).triu(1).bool(), float("-inf")).softmax(-1)
    torch.testing.assert_close(ours, weights @ value, rtol=0, atol=1e-5)
    gradients = torch.autograd.grad(ours.square().sum(), [*tensors, *encoding.parameters()])
    assert all(gradient.isfinite().all() for gradient in gradients)
