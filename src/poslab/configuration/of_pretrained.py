"""Learning rates of pretrained models, by their number of weights."""

from __future__ import annotations

import math
import os
from pathlib import Path

LARGEST_AT_A_TENTH = 135e6
"""Weights of the largest pretrained model that learns at a tenth of the rate of a new one."""


def rate(usual: float, fraction: float) -> float:
    """Return the learning rate of a pretrained model, of two digits, from that of a new one."""
    return float(f"{usual * fraction:.2g}")


def rate_fraction(path: str) -> float | None:
    """Return the default learning rate of a pretrained model over that of a new one, by its number of weights N.

        0.1 min(1, sqrt(135e6 / N))

    With AdamW's 2e-3 that is 2e-4 for SmolLM2-135M, whose validation loss rises at 2e-3, 2.8e-5 for 7 billion weights
    and 9e-6 for 65 billion.

    Args:
        path: folder of the model, or its name on the hub, of which there is None unless it is on this machine.

    Source: Chen et al., "Extending Context Window of Large Language Models via Positional Interpolation" (2023),
        section 3.1: 2e-5 for 7 and 13 billion weights, 1e-5 for 33 and 65 billion. We interpolate by the square root.
    """
    folder = Path(path)
    if not path or not os.path.isdir(path):
        try:
            from huggingface_hub import try_to_load_from_cache

            cached = try_to_load_from_cache(path, "config.json")
        except (ImportError, ValueError):  # which is reported where the model is read
            return None
        if not isinstance(cached, str):
            return None
        folder = Path(cached).parent
    return 0.1 * min(1.0, math.sqrt(LARGEST_AT_A_TENTH / max(1, sum(map(_number_of_weights, _weights(folder))))))


def _weights(folder: Path) -> list[Path]:
    return [file for file in folder.glob("model*.safetensors") if file.is_file()]


def _number_of_weights(file: Path) -> int:
    """Return how many numbers a file of weights has; 0 for a damaged one, which is reported where it is read."""
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:
        return 0
    try:
        with safe_open(file, framework="numpy") as weights:
            return sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118
    except (SafetensorError, OSError):
        return 0
