"""model-classes.md: which classes of transformers Poslab supports, with the reason for each that it does not.

`python docs/make.py classes` inspects each class of language models, proves it on a tiny model and writes that again,
which takes some minutes of a core, and makes the page for the version of transformers that is installed.
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

This table has every class with a head for texts of transformers {version}, with and without images, in the default
configuration of the class: {proved} of {all} classes are proved, from {folders} of its folders;
[`poslab inspect`](guides/inspect.md) reads {inspected}. Exported under "any encoding", a class needs Poslab; under "its
rotations" or "another base" it stays that class of transformers. Models of images and texts whose tokens have positions
on several axes (M-RoPE) can be inspected; replacing their encoding is out of scope.

{table}
"""


def make(draws: bool) -> None:
    """Write the page."""
    for name in GPU_ONLY:
        sys.modules[name] = None  # type: ignore[assignment]
    from transformers import CONFIG_MAPPING
    from transformers.models.auto import modeling_auto

    heads = ("MASKED_LM", "IMAGE_TEXT_TO_TEXT", "CAUSAL_LM")
    classes = {k: v for head in heads for k, v in getattr(modeling_auto, f"MODEL_FOR_{head}_MAPPING_NAMES").items()}
    rows, folders = [], set()
    for model_type, name in sorted(classes.items()):
        if isinstance(name, tuple):
            name = name[0]
        config_class = CONFIG_MAPPING[model_type]
        reason = refusal(config_class, model_type)
        if not reason:
            folders.add(config_class.__module__.split(".")[2])
        row = (f"`{name}`", f"`{model_type}`", inspected(name), f"no: {reason}" if reason else "proved")
        rows.append((*row, "" if reason else exported(config_class, model_type)))
    head = [("class", "`model_type`", "inspected", "replacing its encoding", "exported under"), ("---",) * 5]
    page = PAGE.format(
        version=version("transformers"),
        proved=sum(row[3] == "proved" for row in rows),
        all=len(rows),
        folders=len(folders),
        inspected=sum(row[2] == "yes" for row in rows),
        table="\n".join(f"| {' | '.join(row)} |" for row in [*head, *rows]),
    )
    (DOCS / "model-classes.md").write_text(page, encoding="utf-8")


def configuration(config_class: Any, model_type: str) -> Any:
    return config_class(**LIKE_PUBLISHED.get(model_type, {}))


def inspected(name: str) -> str:
    """Return yes, or why the positions of a class are not read."""
    from poslab.pretrained.inspection import inspect_positions

    try:
        inspect_positions(name)
    except ValueError as error:
        return f"no: {str(error).replace('|', chr(92) + '|')[:120]}"
    return "yes"


def refusal(config_class: Any, model_type: str) -> str:
    """Return why a class is not supported; empty if it is."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    from poslab.pretrained.proof import family_of

    try:
        config = configuration(config_class, model_type)
        folder = Path(sys.modules[config_class.__module__].__file__ or "").parent
        has_axes = any("mrope_section" in file.read_text() for file in folder.glob("modeling_*.py"))
        if has_axes and model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:  # which read images too
            return "out of scope: positions on several axes (M-RoPE)"
        family_of(config)
    except ValueError as error:
        words = str(error)
        return words[words.find("is not supported: ") + 1 and words.find(": ") + 2 :].replace("|", "\\|")[:160]
    except Exception as error:
        return f"its default configuration has no model ({type(error).__name__})"
    return ""


def exported(config_class: Any, model_type: str) -> str:
    """Return the encodings under which a tiny model of a class can be written."""
    import torch

    from poslab.pretrained.borrow import exchange
    from poslab.pretrained.discovery import tiny_config, tiny_model, tiny_text
    from poslab.pretrained.export.directory import form_of
    from poslab.pretrained.families import FAMILIES

    if model_type in FAMILIES:
        return "any encoding"
    config = configuration(config_class, model_type)
    if getattr(config, "text_config", None):
        return "no: its text layers are in a model with towers for other data"
    reason = ""
    for words, encoding, values in (("its rotations", "yarn", {}), ("another base", "rotary", {"base": 5000.0})):
        try:
            model = tiny_model(tiny_config(config), torch.float32)
            exchange(model, encoding, **values)
            form = form_of(model, 16)
            written = form.model_class._from_config(form.config).eval()
            written.load_state_dict(form.weights, strict=False)
            with torch.no_grad():
                text = {"input_ids": tiny_text(), "use_cache": False}
                if torch.allclose(written(**text).logits, model(**text).logits, rtol=1e-4, atol=1e-4):
                    return words
            reason = "its logits differ"
        except Exception as error:
            reason = reason or str(error)
    _, _, reason = reason.rpartition("under a rotation that its own class has")
    return f"no: {reason.removeprefix(': ').replace('|', chr(92) + '|')[:120] or 'it has no rotation'}"
