import pytest
import torch
from torch import Tensor

from poslab.encodings import Positions
from poslab.encodings.base import QueryRows
from poslab.encodings.content.path import PaTH
from tests.encodings.agreement import D_MODEL, HEAD_DIM, HEADS, KV_HEADS, assert_same, attention_tensors, tensors


def path_attention(**hyperparameters) -> PaTH:
    torch.manual_seed(0)
    path = PaTH(D_MODEL, HEADS, KV_HEADS, HEAD_DIM, **hyperparameters)
    with torch.no_grad():
        for parameter in path.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
    return path


def logits(
    path: PaTH, query: Tensor, key: Tensor, state: Tensor, rows: slice = slice(None), scale: float = 1.0
) -> Tensor:
    """Of some rows of queries, which stand at the last keys."""
    num_queries, num_keys = query.shape[2], key.shape[2]
    row_slice = slice(*rows.indices(num_queries)[:2])
    first_key = num_keys - num_queries + row_slice.start
    query_state = state[:, :, num_keys - num_queries :]
    key = key.repeat_interleave(HEADS // KV_HEADS, dim=1)
    block = QueryRows(None, row_slice, first_key, scale, None, query_state[:, :, row_slice], state)
    return path.logits(query[:, :, row_slice], key, block)


def parts_of(state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """w, beta and log gates, each (B, G, T, ...)."""
    return state[..., :HEAD_DIM], state[..., 2 * HEAD_DIM], state[..., 2 * HEAD_DIM + 1 :]


def reflection(w: Tensor, beta: Tensor) -> Tensor:
    return torch.eye(HEAD_DIM, dtype=w.dtype) - beta * torch.outer(w, w)


@pytest.mark.slow
@pytest.mark.parametrize("forget_gate", [False, True])
def test_logits_and_gradients_are_those_of_products_of_matrices(forget_gate):
    path, length = path_attention(forget_gate=forget_gate).double(), 70
    query, key, x = tensors(
        (1, HEADS, length, HEAD_DIM), (1, KV_HEADS, length, HEAD_DIM), (1, length, D_MODEL), dtype=torch.float64
    )
    state = path.state(x, Positions.range(length), None).detach()
    inputs = [query, key, state.requires_grad_()]
    heads = [0, 3]
    ours = logits(path, *inputs, scale=0.3)[:, heads].tril()
    w, beta, gates = parts_of(state)
    rows = []
    for head in heads:
        group = head // 2
        for i in range(length):
            looked_for, forgotten, row = query[0, head, i], 0.0, [torch.zeros((), dtype=torch.float64)] * length
            for j in range(i, -1, -1):
                row[j] = 0.3 * (key[0, group, j] @ looked_for + forgotten)
                looked_for = reflection(w[0, group, j], beta[0, group, j]) @ looked_for
                if forget_gate:
                    forgotten = forgotten + gates[0, group, j, head % 2]
            rows.append(torch.stack(row))
    expected = torch.stack(rows).view(1, 2, length, length)
    assert_same(ours, expected, inputs, tolerance=1e-9)


@pytest.mark.parametrize("forget_gate", [False, True])
@pytest.mark.parametrize("length", [30, 150])
def test_attention_and_gradients_are_those_of_flash_linear_attention(forget_gate, length):
    from fla.ops.path_attn.naive import naive_path_attn  # which takes seconds to import

    path = path_attention(forget_gate=forget_gate)
    query, key, value, x = attention_tensors(length)
    state = path.state(x, Positions.range(length), None).detach()
    inputs = [query, key, value, state.requires_grad_()]
    scale = HEAD_DIM**-0.5
    future = torch.ones(length, length, dtype=torch.bool).triu(1)
    weights = logits(path, query, key, state, scale=scale).masked_fill(future, float("-inf")).softmax(-1)
    ours = weights @ value.repeat_interleave(HEADS // KV_HEADS, dim=1)
    w, beta, gates = parts_of(state)
    gates = gates.movedim(-1, 2).flatten(1, 2) if forget_gate else torch.zeros(2, HEADS, length)
    expected = naive_path_attn(*(y.transpose(1, 2) for y in (query, key, value, w, beta, gates)), scale).transpose(1, 2)
    assert_same(ours, expected, inputs)


def test_near_tokens_at_8192_are_as_near_as_at_the_beginning():
    path = path_attention(forget_gate=True)
    (x,) = tensors((1, 8_192, D_MODEL))
    state = path.state(x, Positions.range(8_192), None).detach()
    nothing = torch.zeros(1, HEADS, 1, HEAD_DIM), torch.zeros(1, KV_HEADS, 8_192, HEAD_DIM)
    last = logits(path, *nothing, state)[0, :, 0, -9:]
    gates = state[0, :, -9:, 2 * HEAD_DIM + 1 :].movedim(-1, 1).flatten(0, 1).double()
    expected = gates.sum(-1, keepdim=True) - gates.cumsum(-1)
    torch.testing.assert_close(last.double(), expected, rtol=0, atol=1e-5)


def convolved_plainly(path: PaTH, x_TM: Tensor, head: int) -> Tensor:
    """w of each token of one text, (T, D), token by token and channel by channel."""
    projected = x_TM @ path.down.T @ path.up.T
    rows = []
    for t in range(len(x_TM)):
        channels = []
        for channel in range(head * HEAD_DIM, (head + 1) * HEAD_DIM):
            total = sum(path.kernel[channel, lag] * projected[t - lag, channel] for lag in range(min(t + 1, 3)))
            channels.append(total / (1 + torch.exp(-total)))
        rows.append(torch.stack(channels) / torch.stack(channels).norm())
    return torch.stack(rows)


def test_directions_are_unit_vectors_from_the_current_and_two_earlier_tokens_and_betas_and_gates_are_sigmoids():
    path = path_attention(forget_gate=True).double()
    (x,) = tensors((2, 9, D_MODEL), dtype=torch.float64)
    w, beta, gates = parts_of(path.state(x, Positions.range(9, 1_000_000), None))
    for row in range(2):
        for head in range(KV_HEADS):
            expected = convolved_plainly(path, x[row], head)
            torch.testing.assert_close(w[row, head], expected, rtol=0, atol=1e-5)  # 1e-6 under the root of the norm
            expected_beta = 2 / (1 + torch.exp(-(x[row] @ path.beta_weight[head] + path.beta_bias[head])))
            torch.testing.assert_close(beta[row, head], expected_beta)
            for n in range(2):
                query_head = 2 * head + n
                expected_gate = 1 / (
                    1 + torch.exp(-(x[row] @ path.gate_weight[query_head] + path.gate_bias[query_head]))
                )
                torch.testing.assert_close(gates[row, head, :, n], expected_gate.log())


def test_the_state_of_parts_is_the_state_of_the_whole():
    path = path_attention(forget_gate=True)
    (x,) = tensors((2, 12, D_MODEL))
    whole = path.state(x, Positions.range(12), None)
    past = None
    for begin, end in [(0, 1), (1, 2), (2, 3), (3, 9), (9, 12)]:
        new = path.state(x[:, begin:end], Positions.range(end), past)
        past = new if past is None else torch.cat([past, new], dim=2)
    torch.testing.assert_close(past, whole, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "positions",
    [
        Positions.packed(torch.tensor([[3, 3, 3, 3, 7, 7, 7, 7, 7]])),
        Positions(torch.arange(9)[None], 9, True, torch.tensor([[3, 3, 3, 3, 7, 7, 7, 7, 7]])),
        Positions.padded(torch.arange(9)[None] >= 4),
    ],
)
@pytest.mark.parametrize("split", [9, 5, 6])
def test_a_direction_knows_nothing_of_padding_or_of_another_document(positions, split):
    path = path_attention()
    (x,) = tensors((1, 9, D_MODEL))

    def part(begin: int, end: int) -> Positions:
        segments = positions.segments
        return Positions(positions.ids[:, :end], 9, True, None if segments is None else segments[:, :end])

    state = path.state(x[:, :split], part(0, split), None)
    if split < 9:
        state = torch.cat([state, path.state(x[:, split:], part(0, 9), state)], dim=2)
    alone = path.state(x[:, 4:], Positions.range(5), None)
    torch.testing.assert_close(state[:, :, 4:], alone, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("rows", [slice(0, 1), slice(0, 40), slice(40, 90), slice(89, 90)])
def test_a_block_of_rows_is_those_rows_of_all(rows):
    path = path_attention(forget_gate=True)
    query, key, x = tensors((1, HEADS, 90, HEAD_DIM), (1, KV_HEADS, 100, HEAD_DIM), (1, 100, D_MODEL))
    state = path.state(x, Positions.range(100), None)
    whole = logits(path, query, key, state)
    torch.testing.assert_close(logits(path, query, key, state, rows), whole[:, :, rows], rtol=1e-5, atol=1e-5)
    # The last of 90 queries stands at the last of 100 keys.
    last = logits(path, query[:, :, -1:], key, state)
    torch.testing.assert_close(last, whole[:, :, -1:], rtol=1e-5, atol=1e-5)
