"""What a run on a CPU sets for its process."""

import ctypes
import resource

import pytest
import torch

from tests.training.runs import run_of, small


def test_training_takes_numbers_below_the_normal_ones_for_zero(tmp_path):
    """An Intel processor takes many times as long over them, and under ALiBi weights of attention are full of them."""
    run_of(small(tmp_path), tmp_path / "run")
    assert torch.tensor([1e-39]).mul(1.0).item() == 0.0


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="another allocator than glibc's")
def test_training_reuses_memory_that_was_freed(tmp_path):
    run_of(small(tmp_path), tmp_path / "run")

    def activations() -> None:
        """Hold 96 MB at once, more than glibc keeps by itself, and free them."""
        _tensors = [torch.ones(2**16) for _ in range(384)]

    activations()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    activations()
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    assert faults * resource.getpagesize() < 96 * 2**20 / 4  # threads that write events may allocate meanwhile
