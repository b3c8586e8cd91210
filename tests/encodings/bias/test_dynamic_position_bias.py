import pytest
import torch
from x_transformers.x_transformers import DynamicPositionBias as Theirs

from poslab.encodings import DynamicPositionBias, Positions
from tests.encodings.agreement import assert_same, bias_matrix


@pytest.mark.parametrize("num_queries", [4, 9])
@pytest.mark.parametrize("depth", [1, 3])
def test_bias_and_gradients_are_those_of_x_transformers(depth, num_queries):
    torch.manual_seed(0)
    ours, theirs = DynamicPositionBias(3, width=8, depth=depth), Theirs(8, heads=3, depth=depth, log_distance=True)
    *hidden, output = theirs.mlp
    for layer, other in zip(ours.hidden, hidden, strict=True):
        other[0].load_state_dict(layer.state_dict())
    output.load_state_dict({"weight": ours.output.weight.detach(), "bias": torch.zeros(3)})
    bias = bias_matrix(ours, Positions.range(num_queries, 9 - num_queries), Positions.range(9))
    sources = [x for layer in theirs.mlp for x in layer.parameters()][:-1]
    assert_same(bias, theirs(num_queries, 9), list(ours.parameters()), sources)
