from dataclasses import replace

import pytest
import torch
from transformers import LayoutLMv3Config
from transformers.models.layoutlmv3.modeling_layoutlmv3 import LayoutLMv3Encoder

from poslab.encodings import Positions, T5Axes, T5Bias
from tests.encodings.agreement import bias_matrix

HEADS, HEAD_DIM = 3, 8


def t5_axes(num_axes=2, **buckets):
    torch.manual_seed(0)
    return T5Axes(HEADS, HEAD_DIM, HEADS * HEAD_DIM, num_axes, **buckets)


def test_it_is_the_spatial_bias_of_layoutlmv3():
    config = LayoutLMv3Config(
        hidden_size=HEADS * HEAD_DIM, num_attention_heads=HEADS, num_hidden_layers=0, intermediate_size=8
    )
    theirs, ours = LayoutLMv3Encoder(config), t5_axes(num_buckets=64, max_distance=256)
    y, x = ours.table.detach() * HEAD_DIM**0.5  # theirs has no factor, and is divided by it with the logits
    theirs.rel_pos_y_bias.weight.data.copy_(y.T)
    theirs.rel_pos_x_bias.weight.data.copy_(x.T)
    boxes = torch.randint(1_000, (2, 40, 4), generator=torch.Generator().manual_seed(1))
    page = Positions.grids(torch.tensor([[[1, 40]], [[1, 40]]]), 40, (1, 40))
    positions = replace(page, places=page.places.at(boxes[..., [3, 0]]))
    bias = ours.bias(ours.prepare(positions, positions)).matrix()
    torch.testing.assert_close(bias, theirs._cal_2d_pos_emb(boxes), rtol=0, atol=1e-5)


@pytest.mark.parametrize("sizes", [(7,), (3, 5), (2, 3, 4)])
def test_it_is_the_sum_of_a_t5_for_each_axis(sizes):
    ours, positions = t5_axes(len(sizes), num_buckets=8, max_distance=5), Positions.grid(*sizes)
    expected = torch.zeros(HEADS, positions.length, positions.length)
    for axis in range(len(sizes)):
        of_axis = T5Bias(HEADS, HEAD_DIM, HEADS * HEAD_DIM, False, 8, 5)
        of_axis.table.data.copy_(ours.table[axis])
        on_axis = Positions(positions.places.cells[:, axis], max(sizes))
        expected += bias_matrix(of_axis, on_axis, on_axis)
    torch.testing.assert_close(bias_matrix(ours, positions, positions), expected, rtol=0, atol=1e-6)


def test_a_causal_stack_has_buckets_for_both_sides_of_an_axis():
    """A patch to the right may stand earlier in storage."""
    ours = t5_axes(num_buckets=8, max_distance=5)
    assert not torch.equal(ours.bias_of(torch.tensor([1, -2])), ours.bias_of(torch.tensor([1, 0])))
