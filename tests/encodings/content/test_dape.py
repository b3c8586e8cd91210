from functools import partial

import pytest
import torch
from torch import nn

from poslab.encodings import Alibi, NoPosition, Positions, QueryRows, StackShape
from poslab.encodings.bias.fire import Fire
from poslab.encodings.content.dape import Dape, DapeV2
from tests.encodings.agreement import assert_same

SHAPE = StackShape(d_model=16, num_layers=2, num_heads=3, num_kv_heads=3, head_dim=4)
CAUSAL = torch.ones(9, 9, dtype=torch.bool).tril()


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, 9, 4, generator=generator), torch.randn(2, 3, 9, 4, generator=generator)


def logits(dape, q, k, visible=CAUSAL):
    positions = Positions.range(9)
    tables = dape.prepare(positions, positions)
    return dape.logits(q, k, QueryRows(tables, slice(0, 9), 0, 0.5, visible[None, None]))


def network(dape) -> nn.Sequential:
    """f as the authors write it, in float64, with the bias at its output that we leave out."""
    width, channels, kernel_size = dape.hidden_weight.shape
    layers = nn.Sequential(
        nn.Conv1d(channels, width, kernel_size, padding=kernel_size // 2),
        nn.LeakyReLU(),
        nn.Conv1d(width, channels // 2, kernel_size, padding=kernel_size // 2),
    ).double()
    layers[0].weight.data.copy_(dape.hidden_weight)
    layers[0].bias.data.copy_(dape.hidden_bias)
    layers[2].weight.data.copy_(dape.output_weight)
    return layers


def loop(f, q, k, slopes):
    """Query by query over the keys that it sees alone, (B, H, T, T) float64; minus infinity elsewhere."""
    q, k = q.double(), k.double()
    rows = []
    for text in range(2):
        for i in range(9):
            content = torch.stack([k[text, head, : i + 1] @ q[text, head, i] / 2 for head in range(3)])
            distance = torch.arange(i, -1, -1, dtype=torch.float64)
            static = torch.stack([-slope * distance for slope in slopes])
            both = torch.cat([content, static])
            row = content + static + f(both)
            rows.append(nn.functional.pad(row, (0, 8 - i), value=-torch.inf))
    return torch.stack(rows).unflatten(0, (2, 9)).transpose(1, 2)


@pytest.mark.parametrize("make", [Dape, DapeV2, partial(DapeV2, kernel_size=5)])
def test_weights_and_gradients_are_those_of_the_authors_network_over_the_visible_keys(make):
    dape = make(SHAPE, over=Alibi, width=7)
    f, (q, k) = network(dape), inputs()
    slopes = [2.0**-4, 2.0**-8, 2.0**-2]
    q, k = q.requires_grad_(), k.requires_grad_()
    ours = dape.weights(logits(dape, q, k), CAUSAL)
    expected = loop(f, q, k, slopes).softmax(-1)
    sources = [q, k, dape.hidden_weight, dape.hidden_bias, dape.output_weight]
    assert_same(ours, expected, sources, [q, k, f[0].weight, f[0].bias, f[2].weight])
    # The bias that we leave out adds one number to all logits of a head.
    (gradient,) = torch.autograd.grad((expected * torch.randn(expected.shape)).sum(), f[2].bias)
    assert gradient.abs().max() < 1e-12


def test_dape_v2_with_a_kernel_of_1_is_dape():
    one, two = Dape(SHAPE, width=5), DapeV2(SHAPE, width=5, kernel_size=1)
    two.load_state_dict(one.state_dict())
    assert torch.equal(logits(one, *inputs()), logits(two, *inputs()))


@pytest.mark.parametrize("kernel_size", [3, 5])
def test_what_a_masked_key_says_reaches_no_visible_logit(kernel_size):
    dape, (q, k) = DapeV2(SHAPE, kernel_size=kernel_size), inputs()
    visible = CAUSAL.clone()
    visible[:, 4] = False
    changed = k.clone()
    changed[:, :, 4] += 100.0
    before, after = logits(dape, q, k, visible), logits(dape, q, changed, visible)
    assert torch.equal(before[..., visible], after[..., visible])
    seen_by_neighbours = logits(dape, q, changed)[..., visible]
    assert (seen_by_neighbours - before[..., visible]).abs().max() > 0.1


@pytest.mark.parametrize("over", [NoPosition, Fire, partial(Alibi, max_exponent=4.0)])
def test_b_is_the_bias_of_the_encoding_underneath(over):
    dape, (q, k) = Dape(SHAPE, over=over), inputs()
    with torch.no_grad():
        dape.output_weight.zero_()  # f = 0
        ours = logits(dape, q, k)
        positions, plain = Positions.range(9), dape.over
        block = QueryRows(plain.prepare(positions, positions), slice(0, 9), 0, 0.5, CAUSAL[None, None])
        torch.testing.assert_close(ours, plain.logits(q, k, block))


def test_the_encoding_underneath_says_whether_it_is_relative_and_serves_encoders():
    assert Dape(SHAPE).relative and not Dape(SHAPE).causal_only
    assert not Dape(SHAPE, over=Fire).relative and Dape(SHAPE, over=Fire).causal_only
