"""What a run on a CPU sets for its process."""

import ctypes

import pytest
import torch

from tests.training.runs import run_of, small

C = ctypes.CDLL(None)
FIELDS = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")


class MallocInfo(ctypes.Structure):
    """What glibc says of its memory; `fordblks` are bytes that it keeps for the next tensor."""

    _fields_ = [(name, ctypes.c_size_t) for name in FIELDS]


def test_training_takes_numbers_below_the_normal_ones_for_zero(tmp_path):
    """An Intel processor takes many times as long over them, and under ALiBi weights of attention are full of them."""
    run_of(small(tmp_path), tmp_path / "run")
    assert torch.tensor([1e-39]).mul(1.0).item() == 0.0


@pytest.mark.skipif(not hasattr(C, "mallinfo2"), reason="another allocator than glibc's, or an earlier one")
def test_training_keeps_memory_that_was_freed(tmp_path):
    run_of(small(tmp_path), tmp_path / "run")
    tensors = [torch.ones(2**16) for _ in range(384)]  # 96 MB, more than glibc keeps by itself
    tensors.clear()
    C.mallinfo2.restype = MallocInfo
    assert C.mallinfo2().fordblks > 90 * 2**20
