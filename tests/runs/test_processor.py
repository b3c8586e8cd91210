"""Training and evaluation compute faster than by default, and as exactly."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from poslab.runs import processes


@pytest.fixture(autouse=True)
def precision() -> Iterator[None]:
    """Gives the process its precision back."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    processes.onednn_is_exact.cache_clear()
    yield
    processes.onednn_is_exact.cache_clear()
    torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("shape", [(1, 300), (33, 64), (512, 257), (8, 128, 16)], ids=str)
def test_products_of_float32_are_exact(shape):
    processes.set_up_cpu()
    generator = torch.Generator().manual_seed(1)
    x, y = (torch.randn(shape, generator=generator) for _ in range(2))
    torch.testing.assert_close(x @ y.mT, (x.double() @ y.double().mT).float(), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(x.mT @ y, (x.double().mT @ y.double()).float(), rtol=1e-5, atol=1e-4)


def test_a_precision_of_one_backend_stays():
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"
    processes.set_up_cpu()
    assert torch.backends.mkldnn.matmul.fp32_precision == "bf16"
    torch.backends.mkldnn.matmul.fp32_precision = "ieee"


def test_a_processor_that_would_round_keeps_the_products_of_pytorch(monkeypatch):
    monkeypatch.setattr(processes, "MAX_ERROR", 1e-12)  # even float32 rounds more
    processes.set_up_cpu()
    assert torch.get_float32_matmul_precision() == "highest"
