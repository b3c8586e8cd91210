import pytest
import torch

from poslab.encodings import Positions
from poslab.encodings.bias.tisa import Tisa
from tests.encodings.agreement import assert_bias, bias_matrix


@pytest.mark.parametrize("num_queries", [1, 7])
def test_bias_and_gradients_are_those_of_the_formula(num_queries):
    tisa = Tisa(2, num_kernels=3)
    tisa.sharpness.data[0] *= -1  # only its size counts

    def formula(distance):
        amplitudes, sharpness, offsets = (p.double() for p in (tisa.amplitudes, tisa.sharpness, tisa.offsets))
        return (amplitudes * torch.exp(-sharpness.abs() * (-distance - offsets) ** 2)).sum(0)

    assert_bias(tisa, formula, num_queries, 7)


def test_a_bump_with_a_positive_offset_lies_ahead_of_the_query():
    tisa = Tisa(1, num_kernels=1)
    torch.nn.init.constant_(tisa.offsets, 3.0)
    torch.nn.init.constant_(tisa.amplitudes, 1.0)
    positions = Positions.range(9)
    bias = bias_matrix(tisa, positions, positions)[0]
    assert bias[2].argmax() == 5
    assert bias[2, 5] == 1


def test_parameters_start_as_in_the_later_version_of_the_authors_code():
    tisa = Tisa(64, num_kernels=64)
    for parameter, mean, std in ((tisa.offsets, 0, 5), (tisa.amplitudes, 0.1, 0.01), (tisa.sharpness, 0.1, 0.01)):
        assert float(parameter.detach().mean()) == pytest.approx(mean, abs=std / 10)
        assert float(parameter.detach().std()) == pytest.approx(std, rel=0.05)
