"""model-classes.md: which classes of transformers Poslab supports, with the reason for each that it does not.

`python docs/make.py classes` proves each class of language models on a tiny model, which takes some minutes of a core,
and writes the page for the version of transformers that is installed.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parents[1]

GPU_ONLY = ("fla", "causal_conv1d", "mamba_ssm")
"""Packages with kernels of a GPU, where transformers has its own code for other machines."""

LIKE_PUBLISHED: dict[str, dict[str, Any]] = {
    "deepseek_v2": {"num_experts_per_tok": 6, "n_group": 8, "topk_group": 3, "n_routed_experts": 160},
    "dots1": {"n_routed_experts": 128, "n_shared_experts": 2, "num_experts_per_tok": 6, "n_group": 1, "topk_group": 1},
    "hunyuan_v1_dense": {"head_dim": 128},
    "hunyuan_v1_moe": {"head_dim": 128},
    "lfm2_moe": {"layer_types": ["conv", "conv", "full_attention", "conv"] * 6, "num_hidden_layers": 24},
    "ministral": {"head_dim": 128},
    "nemotron": {"num_key_value_heads": 8},
}
"""Keys that published models of a class have, where the defaults of the class make no model."""

PAGE = """\
# Which classes of transformers

<!-- Made by `python docs/make.py classes`. -->

Poslab replaces the positional encoding of a class of transformers if a tiny model of it, with random weights, passes a
proof. Under its own positions it computes the same with Poslab's attention (1e-5 of the largest logit in float64, 1e-4
in float32), on whole texts, after padding, and in pieces with a cache. Under other encodings nothing of its own
positions is left, it sees no later token, and padding and the cache change nothing. The proof runs once for each
configuration, in about a second.

This table has every class with a head for texts of transformers {version}, in the default configuration of the class:
{proved} of {all} classes are proved, from {folders} of its folders.

{table}
"""


def make(draws: bool) -> None:
    """Write the page."""
    for name in GPU_ONLY:
        sys.modules[name] = None  # type: ignore[assignment]
    from transformers import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    )

    classes = {**MODEL_FOR_MASKED_LM_MAPPING_NAMES, **MODEL_FOR_CAUSAL_LM_MAPPING_NAMES}
    rows, folders = [], set()
    for model_type, name in sorted(classes.items()):
        reason = refusal(CONFIG_MAPPING, model_type)
        if not reason:
            folders.add(CONFIG_MAPPING[model_type].__module__.split(".")[2])
        rows.append(f"| `{name}` | `{model_type}` | {'proved' if not reason else 'not supported: ' + reason} |")
    table = "\n".join(["| class | `model_type` | replacing its encoding |", "| --- | --- | --- |", *rows])
    proved = sum("| proved |" in row for row in rows)
    page = PAGE.format(version=version("transformers"), proved=proved, all=len(rows), folders=len(folders), table=table)
    (DOCS / "model-classes.md").write_text(page, encoding="utf-8")


def refusal(configurations: Any, model_type: str) -> str:
    """Return why a class is not supported; empty if it is."""
    from poslab.pretrained.proof import family_of

    try:
        family_of(configurations[model_type](**LIKE_PUBLISHED.get(model_type, {})))
    except ValueError as error:
        words = str(error).removeprefix(f"model of type {model_type} is not supported: ")
        return words.replace("|", "\\|")[:160]
    except Exception as error:
        return f"its default configuration has no model ({type(error).__name__})"
    return ""
