"""Computations repeated in float64, the measure of float32 rounding and of gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map


class Float64(TorchDispatchMode):
    """Mode that runs every operation of float32 or less in float64."""

    def __torch_dispatch__(
        self, operator: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        args, kwargs = tree_map(_doubled, (args, kwargs or {}))
        return operator(*args, **kwargs)

    def __enter__(self) -> Any:
        self._default_dtype = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        torch.set_default_dtype(self._default_dtype)


def _doubled(value: Any) -> Any:
    """Return float64 for a shorter dtype, or a tensor of one cast to it; other values as they are."""
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.double()
    return torch.float64 if isinstance(value, torch.dtype) and value.is_floating_point else value
