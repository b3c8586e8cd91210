import pytest
import torch
from torch import Tensor

from poslab.attention import Visibility
from poslab.attention.attend import attend
from poslab.encodings import Positions
from poslab.encodings.base import QueryRows
from poslab.encodings.content.stick_breaking import StickBreaking
from tests.encodings.agreement import HEAD_DIM, HEADS, assert_same, attention_tensors, tensors


def shares(encoding: StickBreaking, query: Tensor, key: Tensor, visibility: Visibility) -> Tensor:
    """The weights of queries that stand at the keys."""
    length = query.shape[2]
    visible = visibility.mask(length, length, query.device)
    block = QueryRows(None, slice(0, length), 0, HEAD_DIM**-0.5, visible)
    return encoding.weights(encoding.logits(query, key, block), visible)


@pytest.mark.parametrize("attend_current", [False, True])
@pytest.mark.parametrize("size", [1.0, 6.0])
def test_attention_and_gradients_are_those_of_flash_linear_attention(attend_current, size):
    from fla.ops.stickbreaking_attn.naive import naive_stickbreaking_attn  # which takes seconds to import

    length = 60
    query, key, value, _ = attention_tensors(length)
    query, key = ((size * x).detach().requires_grad_() for x in (query, key))
    ours = attend(query, key, value, StickBreaking(attend_current), None, Visibility())
    expected, _ = naive_stickbreaking_attn(
        *(x.double().transpose(1, 2) for x in (query, key, value)), attend_current=attend_current
    )
    expected = expected.transpose(1, 2).float()
    assert_same(ours, expected, [query, key, value])


@pytest.mark.parametrize("attend_current", [False, True])
def test_what_a_query_does_not_see_takes_nothing_of_the_stick(attend_current):
    length, window = 13, 5
    query, key = (x.detach() for x in tensors(*[(1, HEADS, length, HEAD_DIM)] * 2, dtype=torch.float64))
    segments = torch.tensor([[0] * 8 + [1] * 5])
    real = torch.arange(length)[None] >= 2
    ours = shares(StickBreaking(attend_current), query, key, Visibility(True, window, segments, segments, real))
    for head in range(HEADS):
        for i in range(length):
            begin = max(i - window + 1, 2, 8 if i >= 8 else 0)
            left, expected = 1.0, torch.zeros(length, dtype=torch.float64)
            for j in range(i if attend_current else i - 1, begin - 1, -1):
                beta = 1 / (1 + torch.exp(-(query[0, head, i] @ key[0, head, j]) / HEAD_DIM**0.5))
                expected[j], left = left * beta, left * (1 - beta)
            torch.testing.assert_close(ours[0, head, i], expected, rtol=1e-9, atol=1e-12)


def test_a_query_that_sees_nothing_before_it_gets_exactly_zero():
    query, key, value = tensors(*[(1, HEADS, 9, HEAD_DIM)] * 3)
    segments = torch.tensor([[0] * 4 + [1] * 5])
    output = attend(query, key, value, StickBreaking(), None, Visibility(True, None, segments, segments))
    assert (output[:, :, [0, 4]] == 0).all()
    assert (output[:, :, [1, 2, 3, 5, 6, 7, 8]] != 0).all()
    gradients = torch.autograd.grad(output.square().sum(), [query, key, value])
    assert all(gradient.isfinite().all() for gradient in gradients)
    alone = attend(query[:, :, :1], key[:, :, :1], value[:, :, :1], StickBreaking(), None, Visibility())
    assert (alone == 0).all()


def test_weights_sum_to_less_than_one_and_what_is_left_goes_nowhere():
    query, key, value = (x.detach() for x in tensors(*[(2, HEADS, 30, HEAD_DIM)] * 3))
    sums = shares(StickBreaking(), query, key, Visibility()).sum(-1)
    assert (sums[:, :, :8] < 1).all() and (sums < 1 + 1e-6).all() and (sums[:, :, 1] < 0.99).all()
    output = attend(query, key, torch.ones_like(value), StickBreaking(), None, Visibility())
    torch.testing.assert_close(output, sums[..., None].expand_as(output))


@pytest.mark.parametrize("size", [30.0, 1e6])
def test_extreme_logits_give_finite_weights_and_gradients(size):
    query, key = tensors(*[(1, HEADS, 40, HEAD_DIM)] * 2)
    weights = shares(StickBreaking(), size * query, size * key, Visibility())
    exact = shares(StickBreaking(), size * query.double(), size * key.double(), Visibility())
    if size < 100:
        # Logits of some thousands: float32 holds their sums to 1e-3, and a share is the exponential of one.
        torch.testing.assert_close(weights, exact.float(), rtol=0, atol=1e-3)
    assert ((weights >= 0) & (weights <= 1)).all()
    gradients = torch.autograd.grad(weights.square().sum(), [query, key])
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_it_has_no_parameters_and_reads_no_positions():
    encoding = StickBreaking()
    assert not list(encoding.parameters())
    assert encoding.prepare(Positions.range(3), Positions.range(3)) is None
