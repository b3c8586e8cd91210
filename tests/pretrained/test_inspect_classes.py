"""Pairs and frequencies that `inspect` reads in the text of each class equal those that transformers computes."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from transformers import PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING, CONFIG_MAPPING_NAMES

from poslab.pretrained.inspection.layers import rope_of
from poslab.pretrained.inspection.sources import Description, class_code

FILES = sorted((Path(transformers.__file__).parent / "models").glob("*/modeling_*.py"))
NOT_OF_TEXT = re.compile("Vision|Sam[23]|EdgeTam|Dinov3|LoFTR|Audio|MusicFlamingo|RoPE.*Attention")
ALREADY_PERMUTED = "Ernie4_5_VLMoeTextRotaryEmbedding"
"""Its frequencies are in another order, for the axes of images."""

LENGTHS = {"factor": 3.0, "original_max_position_embeddings": 128}
TYPES: dict[str, dict[str, Any]] = {
    "default": {},
    "linear": {"factor": 3.0},
    "dynamic": {"factor": 3.0},
    "yarn": LENGTHS | {"beta_fast": 16.0, "beta_slow": 2.0},
    "llama3": LENGTHS | {"low_freq_factor": 1.0, "high_freq_factor": 4.0},
    "proportional": {"partial_rotary_factor": 0.5},
    "longrope": LENGTHS,
}


def rotary_classes(file: Path) -> Iterator[tuple[type, Any]]:
    """The rotary modules of a file, each with its configuration."""
    names = re.findall(r"^class (\w*(?:Rotary|RoPE)\w*)\(", file.read_text(), re.MULTILINE)
    module: Any = importlib.import_module(f"transformers.models.{file.parent.name}.{file.stem}") if names else None
    for name in names:
        parameter = inspect.signature(getattr(module, name).__init__).parameters.get("config")
        kind = getattr(parameter, "annotation", None)
        kind = getattr(module, kind, None) if isinstance(kind, str) else kind
        if not NOT_OF_TEXT.search(name) and isinstance(kind, type) and issubclass(kind, PreTrainedConfig):
            config: Any = kind()
            config = config if isinstance(getattr(config, "rope_parameters", None), dict) else config.get_text_config()
            if isinstance(getattr(config, "rope_parameters", None), dict):
                yield getattr(module, name), config


def layer_of(config: Any, label: str | None) -> int | None:
    """A layer of a kind, where layers differ in sizes."""
    return config.layer_types.index(label) if getattr(config, "is_heterogeneous", False) else None


def compared(rotary_class: Any, config: Any, rope_type: str) -> Iterator[tuple[Any, Any, float, float]]:
    """The frequencies and attention factors of a class under a type: those of transformers, and ours."""
    config = deepcopy(config)
    labels: list[Any] = [key for key, block in config.rope_parameters.items() if isinstance(block, dict)]
    description = Description("", "", {}, config, class_code(type(config)))
    labels = labels or [None]
    try:
        for label in labels:
            block = config.rope_parameters[label] if label else config.rope_parameters
            block |= TYPES[rope_type] | ({} if rope_type == "default" else {"rope_type": rope_type})
            block.setdefault("rope_type", "default")
            if rope_type == "longrope":
                pairs = (rope_of(description, block, layer_of(config, label), None).rotary_dim + 1) // 2
                block |= {"short_factor": np.linspace(1, 2, pairs).tolist(), "long_factor": [9.0] * pairs}
        module = rotary_class(config)
    except (KeyError, AttributeError, ValueError, TypeError, RuntimeError):  # it has no such type, or no such sizes
        return
    for label in labels:
        prefix = f"{label}_" if label else ""
        if (theirs := getattr(module, f"{prefix}inv_freq", None)) is None:
            continue
        block = dict(config.rope_parameters[label] if label else config.rope_parameters)
        if label:
            block["truncate"] = config.rope_parameters.get("truncate", True)
        rope = rope_of(description, block, layer_of(config, label), None)
        factor = getattr(module, f"{prefix}attention_scaling", 1.0)
        yield theirs.double().numpy(), rope.frequencies(1), factor, rope.attention_factor


@pytest.mark.slow
@pytest.mark.parametrize("rope_type", TYPES)
def test_frequencies_of_every_rotary_class(rope_type):
    count = 0
    for file in FILES:
        for rotary_class, config in rotary_classes(file):
            for theirs, ours, factor, our_factor in compared(rotary_class, config, rope_type):
                if rotary_class.__name__ == ALREADY_PERMUTED:
                    theirs, ours = np.sort(theirs), np.sort(ours)
                np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=0, err_msg=rotary_class.__name__)
                assert our_factor == pytest.approx(factor, rel=1e-6), rotary_class.__name__
                count += 1
    assert count > 150


def rotated_pairs(config: Any) -> str | None:
    """How the functions of a class pair channels, by rotating one channel at a time; None if they cannot be called."""
    code = class_code(type(config))
    name = type(config).__module__.replace("configuration_", "modeling_")
    if importlib.util.find_spec(name) is None:  # as Exaone's, whose models are of Llama's class
        return None
    module = importlib.import_module(name)
    names = [*re.findall(r"^def (apply_\w*rot\w*|apply_rotary)\(", code.rotation, re.MULTILINE)]
    names = [name for name in names if getattr(config, "rope_interleave", True) == ("interleave" in name)] or names
    for rotary in re.findall(r"^class (\w+)\(", code.rotary, re.MULTILINE):
        try:
            made = getattr(module, rotary)(config)
            more = {"layer_type": next(iter(made.rope_type))} if isinstance(made.rope_type, dict) else {}
            angles = made(torch.zeros(1, 1, 1, dtype=torch.float64), torch.tensor([[3]]), **more)
        except Exception:  # of another class, or it needs more than positions
            continue
        angles = angles if isinstance(angles, tuple) else (angles,)
        for name in names:
            for width in (angles[0].shape[-1], 2 * angles[0].shape[-1]):
                one_hot = torch.eye(width, dtype=torch.float64)[None, :, None]
                try:
                    rotated = getattr(module, name)(one_hot, one_hot, *angles)[0].reshape(width, -1)
                except Exception:
                    continue
                reached = [frozenset(row.abs().gt(1e-9).nonzero().flatten().tolist()) for row in rotated]
                partners = [m for m in range(1, width) if reached[m] == reached[0]]
                if len(reached[0]) == 2 and partners in ([1], [width // 2]):
                    return "interleaved" if partners == [1] else "half-split"
    return None


@pytest.mark.slow
def test_the_pairs_of_every_class():
    checked = 0
    for kind in CONFIG_MAPPING_NAMES:
        try:
            config = CONFIG_MAPPING[kind]().get_text_config()
        except Exception:
            continue
        if class_code(type(config)).rotation and (pairs := rotated_pairs(config)):
            assert class_code(type(config)).pairing(config) == pairs, kind
            checked += 1
    assert checked > 200
