"""Model FLOPs utilisation (MFU): the arithmetic of a model in training, relative to the machine's matrix products.

    MFU = FLOPs of a token * tokens per second / FLOP/s of a matrix product in the precision of the run

The arithmetic of encodings does not count, so that a slower encoding has a lower MFU. Lightning's ThroughputMonitor has
the theoretical FLOP/s only of GPUs, and makes a GPU wait in every step; its `measure_flops` counts hidden pairs too.

Source: Chowdhery et al., "PaLM: Scaling Language Modeling with Pathways" (2022), appendix B.
"""

from __future__ import annotations

import functools

import torch
from torch import nn
from torch.utils.benchmark import Timer

from poslab.attention import Visibility
from poslab.encodings import Positions, StackEncodings
from poslab.models import Model

MEASURED_S = 0.02  # seconds for which matrix products are measured


def flops_per_token(model: Model, length: int) -> float | None:
    """Return the floating point operations of a token in training; None if the model has a source.

        2 W (forward, and gradient of inputs)  +  2 W (gradient of weights that learn)  +  12 H D K per layer

    with W numbers in the weights of matrix products, and K the mean number of keys that a query sees in windows of the
    given length. Padding, documents that are kept apart and recomputation are not looked at.
    """
    if "source" in model.capabilities:  # its tokens pass through one of two stacks
        return None
    encodings = {module for part in model.modules() if isinstance(part, StackEncodings) for module in part.modules()}
    flops = 0.0
    for module in model.modules():
        if module not in encodings and not isinstance(module, nn.Embedding):
            for weight in module.parameters(recurse=False):
                if weight.ndim > 1:
                    flops += (6 if weight.requires_grad else 4) * weight.numel()
    shape, positions = model.encodings.shape, Positions.range(length)
    for spec, window in zip(model.encodings.specs, model.windows, strict=True):
        if not spec.mixer:
            seen = Visibility.between(positions, positions, causal=shape.causal, window=window, chunk=spec.chunk)
            mean_keys = seen.counts(length, length, torch.device("cpu")).mean().item()
            flops += 12 * shape.num_heads * shape.head_dim * mean_keys
    return flops


@functools.cache
def products_per_second(device: torch.device, dtype: torch.dtype, num_threads: int) -> float:
    """Return the FLOP/s of a large matrix product, the best of some; measured once in a process."""
    size = 4096 if device.type == "cuda" else 1024
    generator = torch.Generator(device).manual_seed(0)
    operands = {name: torch.randn(size, size, generator=generator, device=device).to(dtype) for name in ("a", "b")}
    measured = Timer("a @ b", globals=operands, num_threads=num_threads).blocked_autorange(min_run_time=MEASURED_S)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)  # operands are no memory of the run
    return 2 * size**3 / min(measured.times)
