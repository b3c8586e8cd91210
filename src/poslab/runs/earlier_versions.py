"""Configurations of runs that earlier versions wrote, in the words of now."""

from __future__ import annotations

from typing import Any

MOVED = {
    "poslab.training.settings.TrainerSettings": "poslab.runs.trainer_settings.TrainerSettings",
    "poslab.training.optimizer.AdamWithCosine": "poslab.runs.optimizer.AdamWithCosine",
}
"""Classes that a `_target_` may name by where they once were."""


def as_of_now(node: Any) -> Any:
    """Return a configuration with classes named by where they are now."""
    if isinstance(node, dict):
        moved = {key: as_of_now(value) for key, value in node.items()}
        name = moved.get("_target_")
        return moved if not isinstance(name, str) or name not in MOVED else {**moved, "_target_": MOVED[name]}
    return [as_of_now(item) for item in node] if isinstance(node, list) else node
