"""Values of conf/ that a pretrained model gives itself: `${oc.select:pretrained.base,10000.0}`.

There is no key `pretrained`, so that models of ours have what stands behind the comma. For a pretrained model, the key
is left out of the configuration, and what is built takes the model's own value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from poslab.io.reading import LOADER

_VALUE = re.compile(r"\$\{oc\.select:pretrained\.\w+,(.*)\}")


def is_pretrained(model: Any) -> bool:
    """Return True for the node of a pretrained model."""
    return isinstance(model, Mapping) and str(model.get("_target_")).startswith("poslab.pretrained.")


def usual(value: Any) -> Any:
    """Return what a value of conf/ is for a model of ours: a number, a word, or another interpolation."""
    found = _VALUE.fullmatch(value) if isinstance(value, str) else None
    return value if found is None else found[1] if "$" in found[1] else yaml.load(found[1], Loader=LOADER)


def with_usual(node: Any) -> Any:
    """Return a node of conf/ with the values that it has in a model of ours."""
    return {key: with_usual(value) for key, value in node.items()} if isinstance(node, dict) else usual(node)


def without_usual(node: Any, unresolved: Any) -> Any:
    """Return a resolved node without the keys that a pretrained model gives itself."""
    if not isinstance(node, Mapping) or not isinstance(unresolved, Mapping):
        return node
    return {
        key: without_usual(value, unresolved[key])
        for key, value in node.items()
        if not (isinstance(unresolved[key], str) and _VALUE.fullmatch(unresolved[key]))
    }
