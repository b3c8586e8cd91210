"""Sources that describe positions: a folder, a `config.json`, a GGUF file, or the defaults of a class of transformers.

Nothing in a folder is run, and no file of it is opened but its `config.json`. Code that `auto_map` names is not read.
"""

from __future__ import annotations

import os
import re
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
from poslab.pretrained.inspection.class_code import ClassCode, class_code

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
