import math
from types import SimpleNamespace

import pytest
import torch
from transformers.models.swinv2.modeling_swinv2 import Swinv2SelfAttention

from poslab.encodings import Positions, SwinV2Bias
from tests.encodings.agreement import bias_matrix


def swin_v2(grid, heads=3):
    torch.manual_seed(0)
    made = SwinV2Bias(heads, grid)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return made


def theirs(ours, window, pretrained_window):
    """The bias of its attention layer, (heads, T, T)."""
    attention = Swinv2SelfAttention(SimpleNamespace(qkv_bias=True, attention_probs_dropout_prob=0.0), 12, 3, window)
    attention.pretrained_window_size = pretrained_window
    table, index = attention.create_coords_table_and_index()
    mlp = attention.continuous_position_bias_mlp
    for there, here in zip(mlp.parameters(), ours.parameters(), strict=True):
        there.data.copy_(here)
    by_offset = mlp(table).view(-1, 3)
    bias = by_offset[index.view(-1)].view(*index.shape, 3).permute(2, 0, 1)
    return 16 * torch.sigmoid(bias)


@pytest.mark.parametrize("window", [(8, 8), (3, 5), (2, 7)])
def test_on_its_own_grid_it_is_the_bias_of_swin_v2(window):
    ours, positions = swin_v2(window), Positions.grid(*window)
    expected = theirs(ours, window, [0, 0])
    torch.testing.assert_close(bias_matrix(ours, positions, positions), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("window", [(6, 10), (4, 4)])
def test_on_another_grid_it_is_that_of_swin_v2_under_its_pretrained_window(window):
    ours, positions = swin_v2([3, 5]), Positions.grid(*window)
    expected = theirs(ours, window, [3, 5])
    torch.testing.assert_close(bias_matrix(ours, positions, positions), expected, rtol=0, atol=1e-5)


def test_it_is_the_formula():
    ours = swin_v2([4, 3])
    weight, bias, output = (p.tolist() for p in ours.parameters())
    for offset in ([3, -2], [0, 0], [-11, 1]):
        x = [
            math.copysign(math.log2(1 + 8 * abs(d) / (n - 1)) / math.log2(8), d)
            for d, n in zip(offset, (4, 3), strict=True)
        ]
        hidden = [max(0.0, w[0] * x[0] + w[1] * x[1] + b) for w, b in zip(weight, bias, strict=True)]
        for head in range(3):
            logit = sum(u * h for u, h in zip(output[head], hidden, strict=True))
            expected = 16 / (1 + math.exp(-logit))
            assert ours.bias_of(torch.tensor(offset))[head].item() == pytest.approx(expected, abs=1e-4)
