"""Checks for interpolations of a file that would read more than the configuration, such as the environment."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_KNOWN = re.compile(
    r"\$\{(now:[^${}]*|hydra:[\w.]+|oc\.select:(?:pretrained|dataset)\.[^${}]*|(?:divided|groups):[\w.,]*|"
    r"[\w.\[\]]*)\}"
)
"""Interpolations of conf/: another key, the time, Hydra's facts of the job, what a model or dataset may know, and
shares of a number."""
DEEPEST = 3
"""Most interpolations within each other; those of conf/ have 1."""
MAX_INTERPOLATIONS = 24
"""Interpolations of a file; those of conf/ have up to 11. A value that repeats another twice doubles it: a chain of 40
such values would fill any memory."""


def check_interpolations(node: Any, file: Path) -> None:
    """Check the texts of a file's unresolved contents, whoever wrote them, before OmegaConf resolves them.

    `${oc.env:SECRET}` would put a secret into printed and stored text.

    Raises:
        ValueError: naming the file, for an interpolation that is not another key, a share of one, `now` or `hydra`, and
            for more than `MAX_INTERPOLATIONS`.
    """
    if (count := sum(text.count("${") for text in texts(node))) > MAX_INTERPOLATIONS:
        raise ValueError(f"{file} must have at most {MAX_INTERPOLATIONS} interpolations, got {count}")
    for text in texts(node):
        rest = text
        for _ in range(DEEPEST):
            rest = _KNOWN.sub("x", rest)
        if "${" in rest:
            raise ValueError(
                f"{file} must have no interpolations but those of other keys, now: and hydra:, got {text[:80]!r}"
            )


def texts(node: Any) -> Iterator[str]:
    """Yield every key and every text of plain data."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield str(key)
            yield from texts(value)
    elif isinstance(node, list):
        for item in node:
            yield from texts(item)
    elif isinstance(node, str):
        yield node
