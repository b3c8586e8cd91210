import torch

from poslab.encodings import Alibi, Bam, Positions
from tests.encodings.agreement import assert_bias, bias_matrix


def test_bias_and_gradients_are_those_of_the_formula():
    bam = Bam(3)
    torch.nn.init.uniform_(bam.exponent, -0.5, 2.0)

    def formula(distance):
        scale, exponent = bam.log_scale.double().exp(), bam.exponent.double()
        return -torch.exp(exponent * torch.log(scale * abs(distance) + 1e-5))

    assert_bias(bam, formula, 5, 9)


def test_at_first_it_is_alibi():
    positions = Positions.range(50)
    ours, alibi = (bias_matrix(make(8), positions, positions) for make in (Bam, Alibi))
    torch.testing.assert_close(ours.tril(), alibi.tril(), rtol=1e-5, atol=2e-5)
