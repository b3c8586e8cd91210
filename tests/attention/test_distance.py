"""The distance route over several blocks of queries, and what PyTorch's transformations make of its operator."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from poslab.attention import Visibility, attend, distance_gradients
from poslab.attention.distance import OF_ROWS, DistanceAttention, distance_attention, distance_attention_backward
from poslab.attention.distance_gradients import BLOCK, KERNEL_BLOCK
from poslab.encodings import DistanceBias, PositionalEncoding, Positions

HEADS, HEAD_DIM = 2, 8
LENGTH = 2 * KERNEL_BLOCK + BLOCK // 2 + 3
SEGMENTS = torch.tensor([[0] * 200 + [1] * (LENGTH - 200), [0] * 400 + [1] * (LENGTH - 400)])
REAL = torch.arange(LENGTH) >= torch.tensor([[150], [0]])


class LearnedByDistance(DistanceBias):
    """A number for each head and distance."""

    def __init__(self, learns: bool = True) -> None:
        super().__init__()
        table = torch.randn(HEADS, 2 * LENGTH, generator=torch.Generator().manual_seed(1))
        self.table = torch.nn.Parameter(table, requires_grad=learns)

    def bias_at(self, distance: Tensor) -> Tensor:
        return self.table[:, distance + LENGTH]


def output_and_gradients(
    encoding: DistanceBias, visibility: Visibility, num_queries: int, route: str = "auto"
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, HEADS, LENGTH, HEAD_DIM, generator=generator).requires_grad_() for _ in range(3))
    keys = Positions.range(LENGTH)
    tables = encoding.prepare(Positions.range(num_queries, LENGTH - num_queries), keys)
    y = attend(q[:, :, -num_queries:], k, v, encoding, tables, visibility, route)
    weight = torch.randn(y.shape, generator=generator)
    sources = [x for x in (q, k, v, *encoding.parameters()) if x.requires_grad]
    return [y, *torch.autograd.grad((y * weight).sum(), sources)]


@pytest.mark.parametrize("learns", [True, False])
@pytest.mark.parametrize("num_queries", [LENGTH, 300, 1])
@pytest.mark.parametrize(
    "rules",
    [
        {},
        {"causal": False},
        {"window": 100},
        {"causal": False, "window": 100},
        {"key_segments": SEGMENTS},
        {"real_keys": REAL},
        {"causal": False, "real_keys": REAL, "key_segments": SEGMENTS},
    ],
    ids=str,
)
def test_many_blocks_give_the_output_and_gradients_of_the_definition(rules, num_queries, learns):
    if "key_segments" in rules:
        rules = rules | {"query_segments": SEGMENTS[:, -num_queries:]}
    encoding, visibility = LearnedByDistance(learns), Visibility(**rules)
    ours, exact = (output_and_gradients(encoding, visibility, num_queries, route) for route in ("auto", "dense"))
    torch.testing.assert_close(ours, exact, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("encoding", [LearnedByDistance(), PositionalEncoding()], ids=["bias", "nothing"])
def test_queries_that_outnumber_their_keys_see_all_of_them(encoding, padded):
    """As those of a decoder that looks at a short text."""
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(2, HEADS, LENGTH, HEAD_DIM, generator=generator)
    k, v = torch.randn(2, 2, HEADS, 20, HEAD_DIM, generator=generator).unbind()
    tables = encoding.prepare(Positions.range(LENGTH), Positions.range(20))
    real = torch.arange(20) < torch.tensor([[20], [15]]) if padded else None
    ours, dense = (
        attend(q, k, v, encoding, tables, Visibility(causal=False, real_keys=real), route)
        for route in ("auto", "dense")
    )
    torch.testing.assert_close(ours, dense, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("taken", [("SHORT",), ("SHORT", "CACHED")], ids=["items", "heads"])
def test_what_is_taken_one_by_one_gives_the_same(taken, monkeypatch):
    """As items and heads of long texts are, so that the logits of a block stay in a processor's cache."""
    encoding = LearnedByDistance()
    together = output_and_gradients(encoding, Visibility(), LENGTH)
    for bound in taken:
        monkeypatch.setattr(distance_gradients, bound, 1)
    ours = output_and_gradients(encoding, Visibility(), LENGTH)
    torch.testing.assert_close(ours, together, rtol=1e-4, atol=1e-5)


def operands(length: int = 40, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(2)
    shapes = [(2, HEADS, length, HEAD_DIM)] * 3
    made = [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]
    made.append(torch.randn(HEADS, 2 * length - 1, generator=generator))
    return [x.requires_grad_() for x in made]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_is_an_operator_of_pytorch(dtype):
    """With a fake kernel, a gradient and a schema that are what the operator does."""
    real = torch.ones(2, 40, dtype=torch.bool)
    torch.library.opcheck(distance_attention, (*operands(dtype=dtype), None, 0, 40, 0.3))
    torch.library.opcheck(
        distance_attention, (*operands(dtype=dtype), torch.zeros(HEADS, 1), -40, 40, 0.3, None, None, real)
    )


@pytest.mark.parametrize("learns", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_both_operators_keep_their_promises_for_transposed_views(dtype, learns):
    """As the bias of T5 is one, of a look-up (distances, heads), and queries, keys and values are of a linear layer."""
    with torch.no_grad():
        inputs = [x.mT.contiguous().mT for x in operands(dtype=dtype)]
        assert not any(x.is_contiguous() for x in inputs)
        sinks = torch.randn(HEADS, 1) if learns else None
        outputs = distance_attention(*inputs, sinks, 0, 40, 0.3)
        arguments = (inputs[0], *inputs, sinks, *outputs, learns, 0, 40, 0.3, *[None] * OF_ROWS)
        torch.library.opcheck(distance_attention, (*inputs, sinks, 0, 40, 0.3))
        torch.library.opcheck(distance_attention_backward, arguments, test_utils=("test_schema", "test_faketensor"))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 1e-2), (torch.float16, 1e-3)])
def test_in_half_precision_the_bias_stays_float32(dtype, tolerance):
    """Queries and keys of zero leave the bias alone; around 40, numbers of half precision lie far apart."""
    place = torch.arange(64)
    bias = -40 - 0.02 * place.flip(0).float()  # of a single query to each key
    values = torch.nn.functional.one_hot(place // 4, 16).to(dtype)[None, None]
    q, k = (torch.zeros(1, 1, length, 16, dtype=dtype) for length in (1, 64))

    def shares(by_key: Tensor) -> Tensor:
        return distance_attention(q, k, values, by_key.flip(0)[None], None, -64, 64, 1.0)[0][0, 0, 0].double()

    expected = bias.double().softmax(0).view(16, 4).sum(1)
    assert ((shares(bias) - expected).abs() / expected).max() < tolerance
    assert ((shares(bias.to(dtype).float()) - expected).abs() / expected).max() > tolerance


def test_in_bfloat16_gradients_are_about_as_near_the_exact_ones_as_those_of_pytorchs_kernel():
    """It has none for the bias: that sums numbers that are not rounded to bfloat16, and is nearer."""
    q, k, v, bias = operands(LENGTH, torch.bfloat16)
    weight = torch.randn(q.shape, generator=torch.Generator().manual_seed(3))
    scale = HEAD_DIM**-0.5

    def matrix(by_distance: Tensor) -> Tensor:
        place = LENGTH - 1 + torch.arange(LENGTH).unsqueeze(-1) - torch.arange(LENGTH)
        return by_distance[:, place].masked_fill(torch.ones(LENGTH, LENGTH, dtype=torch.bool).triu(1), -torch.inf)

    exact = [x.detach().double().requires_grad_() for x in (q, k, v, bias)]
    y = (exact[0] @ exact[1].mT * scale + matrix(exact[3])).softmax(-1) @ exact[2]
    exact_gradients = torch.autograd.grad((y * weight.double()).sum(), exact)
    kernel = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=matrix(bias.detach()), scale=scale)
    kernel_gradients = torch.autograd.grad((kernel.float() * weight).sum(), [q, k, v])
    ours = distance_attention(q, k, v, bias, None, 0, LENGTH, scale)[0]
    gradients = torch.autograd.grad((ours.float() * weight).sum(), [q, k, v, bias])

    def error(gradient: Tensor, expected: Tensor) -> float:
        return ((gradient.double() - expected).norm() / expected.norm()).item()

    errors = [error(*pair) for pair in zip(gradients, exact_gradients, strict=True)]
    of_kernel = [error(*pair) for pair in zip(kernel_gradients, exact_gradients[:3], strict=True)]
    assert all(own < 1.6 * theirs for own, theirs in zip(errors[:3], of_kernel, strict=True)), (errors, of_kernel)
    assert errors[3] < min(of_kernel)


@pytest.mark.parametrize("shared", ["bias", "nothing"])
@pytest.mark.parametrize("hidden", ["nothing", "segments"])
def test_gradients_of_each_sample_under_vmap_are_those_of_a_loop(shared, hidden):
    generator = torch.Generator().manual_seed(0)
    samples, length = 3, BLOCK + 5
    q, k, v = torch.randn(3, samples, 2, HEADS, length, HEAD_DIM, generator=generator).unbind()
    bias = torch.randn(samples, HEADS, 2 * length - 1, generator=generator)
    segments = torch.randint(2, (samples, 2, length), generator=generator)
    bias_dim = None if shared == "bias" else 0
    segments_dim = 0 if hidden == "segments" else None

    def loss(q, k, v, bias, segments):
        output, _ = DistanceAttention.apply(q, k, v, bias, None, 0, length, 0.3, segments, segments, None, None, None)
        return output.square().sum()

    of_one = torch.func.grad(loss, argnums=(0, 1, 2, 3))
    inputs = (q, k, v, bias[0] if shared == "bias" else bias, segments if hidden == "segments" else None)
    in_dims = (0, 0, 0, bias_dim, segments_dim)
    together = torch.func.vmap(of_one, in_dims=in_dims)(*inputs)
    for sample in range(samples):
        one = [x if dim is None else x[sample] for x, dim in zip(inputs, in_dims, strict=True)]
        torch.testing.assert_close([x[sample] for x in together], of_one(*one))
