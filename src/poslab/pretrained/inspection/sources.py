"""Sources that describe positions: a folder, a `config.json`, a GGUF file, or the defaults of a class of transformers.

Nothing in a folder is run, and no file of it is opened but its `config.json`. Code that `auto_map` names is not read.

A configuration does not say which channels form a pair, which layers rotate, or whether a head has a sink: the code of
the class in transformers does, which is read and never imported. Where no pattern matches it, that is unknown.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from poslab.arguments import nearest, shown
from poslab.io.files import read_json
from poslab.io.gguf import read_gguf, words_of_transformers
from poslab.pretrained import directory

MAX_CONFIG = 10_000_000
"""Most bytes of a `config.json`; the largest published ones, with names of classes, have about 2,000,000."""


@dataclass(frozen=True)
class Description:
    """A description of the positions of a model."""

    name: str  # its class, or its architecture in llama.cpp
    origin: str  # where that is written
    # what the file contains, about the language model; empty for the defaults of a class
    written: Mapping[str, Any]
    config: Any  # the same with the defaults of its class, as attributes
    code: ClassCode | None = None  # what the source of the class says; None where there is no class
    tensors: frozenset[str] = frozenset()  # names of the tensors of a GGUF file

    def get(self, key: str, default: Any = None, layer: int | None = None) -> Any:
        """Return a value of the configuration, of a layer where layers differ."""
        is_layered = layer is not None and getattr(self.config, "is_heterogeneous", False)
        value = getattr(self.config.per_layer_config[layer] if is_layered else self.config, key, None)
        return default if value is None else value

    def count(self, *keys: str, layer: int | None = None, default: int | None = None, most: int = 2**31 - 1) -> int:
        """Return a size by the first of several names that is there; ValueError unless it is an integer above 0."""
        key = next((key for key in keys if self.get(key, layer=layer) is not None), keys[0])
        value = self.get(key, default, layer)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not 0 < value <= most or value != int(value):
            raise ValueError(f"{self.origin}: {key} must be an integer in [1, {most}], got {shown(value)}")
        return int(value)


def describe(source: str) -> Description:
    """Return the description of the positions of a model.

    ValueError in one sentence, for a source that is not there, is damaged, or cannot be read by transformers.

    Args:
        source: folder with `config.json`, such a file, a GGUF file, the name of a class or of a `model_type`, or the
            name of a model of the hub that is on this machine.
    """
    path = Path(source)
    if source.endswith(".gguf"):
        keys, tensors = read_gguf(path)
        written = words_of_transformers(keys, tensors)
        directory.check_configuration(written, path)
        return Description(written["model_type"], source, written, SimpleNamespace(**written), None, frozenset(tensors))
    if os.path.isdir(source):
        path = path / directory.CONFIG
        directory.check_link(path, source)
    elif not source.endswith(".json") and not os.path.exists(source):
        directory.require_transformers("inspect")
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", source):
            return _of_class(source)
        path = directory.snapshot(source) / directory.CONFIG
    return _of_file(path)


def _of_file(file: Path) -> Description:
    directory.require_transformers("inspect")
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    written = read_json(file, MAX_CONFIG)
    directory.check_configuration(written, file)
    kind, names = str(written.get("model_type")), written.get("architectures")
    name = str(names[0]) if isinstance(names, list) and names else kind
    if kind not in CONFIG_MAPPING:
        text = written.get("text_config")
        return Description(name, str(file), written, SimpleNamespace(**(text if isinstance(text, dict) else written)))
    with directory.errors_of_library(str(file)):
        plain = {key: value for key, value in written.items() if key != "auto_map"}
        config = CONFIG_MAPPING[kind].from_dict(deepcopy(plain))  # it writes into what it is given
        text = config.get_text_config()
    of_text = [value for key, value in written.items() if text is not config and getattr(config, key, None) is text]
    return Description(name, str(file), (of_text or [written])[0], text, class_code(type(text)))


def _of_class(name: str) -> Description:
    from transformers.models.auto.configuration_auto import (  # type: ignore[attr-defined]
        CONFIG_MAPPING,
        CONFIG_MAPPING_NAMES,
    )

    types = {class_name.removesuffix("Config"): kind for kind, class_name in reversed(CONFIG_MAPPING_NAMES.items())}
    kind = types.get(re.sub(r"(For[A-Z]\w+|LMHeadModel|Model|Config)$", "", name), name)
    if kind not in CONFIG_MAPPING_NAMES:
        hint = nearest(name, [*CONFIG_MAPPING_NAMES, *(f"{prefix}ForCausalLM" for prefix in types)])
        raise ValueError(f"{shown(name)} is no folder, config.json or GGUF file, and no class of transformers{hint}")
    with directory.errors_of_library(name):
        config = CONFIG_MAPPING[kind]().get_text_config()
    return Description(name, f"defaults of {type(config).__name__}", {}, config, class_code(type(config)))


INTERLEAVED = re.compile(
    r"\.\.\., ?0?::2\]|:, ?::2\]|view_as_complex|repeat_interleave\(2\b|repeat_interleave\([^\n]*, ?2, |-1, 1, 2\)"
)
HALF_SPLIT = re.compile(r"shape\[-1\] // 2|chunk\([^()\n]*\b2, dim=-1\)")
"""Code that takes neighbouring channels as a pair, and code that takes channels half a head apart."""

CONDITION = re.compile(r"\n +if ([^\n]+?):[^\n]*\n(?: +cos, sin[^\n]*\n)?[^\n]* = (?:self\.)?_?apply_\w*rot\w*\(")
"""The condition under which an attention module rotates."""

ALWAYS = {
    "position_embeddings is not None",
    "self.config.rope_interleave",
    "not is_cross_attention",
    "self.rotary_value",
}
"""Conditions that do not decide which layers rotate."""


@dataclass(frozen=True)
class ClassCode:
    """The parts of a modeling file that a model reaches."""

    text: str  # all of it
    attention: str  # its attention modules
    rotation: str  # the functions that rotate
    rotary: str  # the modules that make cosines and sines

    @property
    def has_sinks(self) -> bool:
        return bool(re.search(r"self\.sinks\b|s_aux|learnable_sink", self.attention))

    def pairing(self, config: Any) -> str | None:
        """Return `interleaved` or `half-split`; None if the text does not say."""
        if INTERLEAVED.search(self.rotation):
            chooses = "if self.config.rope_interleave" in self.attention
            return "half-split" if chooses and not getattr(config, "rope_interleave", True) else "interleaved"
        return "half-split" if HALF_SPLIT.search(self.rotation) else None

    def reads_share(self) -> bool:
        """Return True if the type `default` rotates only the share of each head that `partial_rotary_factor` gives."""
        default = re.search(r"def compute_default_rope_parameters.*?(?=\n    def |\Z)", self.rotary, re.DOTALL)
        return "partial_rotary_factor" in (default[0] if default else self.rotary)

    def rotates(self, config: Any, layer: int, is_sliding: bool) -> bool | None:
        """Return True if a layer rotates; None if that depends on a condition that is not understood."""
        if not self.rotation or not re.search(r"rotary|rotate|position_embeddings|freqs_cis", self.attention):
            return False
        kind, flags = getattr(config, "position_embedding_type", "rope"), getattr(config, "no_rope_layers", None) or []
        is_dense = (getattr(config, "mlp_layer_types", None) or [])[layer : layer + 1] == ["dense"]
        known = {
            "self.use_rope": bool(flags[layer]) if layer < len(flags) else None,
            "self.sliding_window is not None": is_sliding,
            "self.is_local_attention": is_sliding,
            "self.sliding_window is None or self.is_sliding": is_sliding or not getattr(config, "sliding_window", None),
            "self.sliding_window is not None or self.force_rope": is_sliding
            or (is_dense and getattr(config, "prefix_dense_sliding_window_pattern", None) == 1),
            "alibi is None": not getattr(config, "alibi", False),
            "self.config.use_mem_rope": bool(getattr(config, "use_mem_rope", False)),
            'self.position_embedding_type == "rotary"': kind == "rotary",
        }
        answers = {known.get(condition) for condition in {*CONDITION.findall(self.attention)} - ALWAYS}
        if kind not in ("rope", "rotary", "absolute"):
            return False
        return answers.pop() if len(answers) == 1 else None if answers else True


def class_code(config_class: Any) -> ClassCode:
    """Return the code of the class that a configuration class of transformers is for."""
    file, prefix = (
        Path(str(sys.modules[config_class.__module__].__file__)),
        config_class.__name__.removesuffix("Config"),
    )
    file = file.with_name(file.name.replace("configuration_", "modeling_"))
    if not file.is_file():  # as Exaone's configuration, whose models are of Llama's class
        from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

        prefix = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(config_class.model_type, "").removesuffix("ForCausalLM")
        files = file.parents[1].glob("*/modeling_*.py") if prefix else ()
        file = next((x for x in files if f"class {prefix}ForCausalLM(" in x.read_text(encoding="utf-8")), file)
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    blocks = re.split(r"^(?=(?:class|def) |[A-Z_]+ = )", text, flags=re.MULTILINE)[1:]
    named = {match[1]: block for block in blocks if (match := re.match(r"(?:class |def )?(\w+)", block))}
    first = [name for name in (f"{prefix}Model", f"{prefix}ForCausalLM", f"{prefix}PreTrainedModel") if name in named]
    waiting, reached = first[:1] or list(named), dict[str, str]()
    while waiting:
        if (name := waiting.pop()) not in reached:
            reached[name] = named[name]
            words = {*re.findall(r"\w+", named[name])} & named.keys()
            waiting += [word for word in sorted(words) if not word.endswith("PreTrainedModel")]
    attention = [block for name, block in reached.items() if "Attention" in name or "get_interface(" in block]
    rotation = [block for name, block in reached.items() if block[:3] == "def" and re.search("rot(ary|ate)", name)]
    rotary = [block for name, block in reached.items() if re.search("Rotary|RoPE|Rope", name)]
    return ClassCode(*("\n".join(part) for part in (reached.values(), attention, rotation, rotary)))
