import torch

from tests.training.runs import run_of, small


def test_training_takes_numbers_below_the_normal_ones_for_zero(tmp_path):
    """An Intel processor takes many times as long over them, and under ALiBi weights of attention are full of them."""
    run_of(small(tmp_path), tmp_path / "run")
    assert torch.tensor([1e-39]).mul(1.0).item() == 0.0
