"""Readers of YAML and JSON files that somebody else may have written: bounded in size and depth, and free of code."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

MAX_YAML = 200_000
"""Most bytes of a configuration; one of ours has about 5,000."""
MAX_JSON = 100_000_000
"""Most bytes of a JSON file; 100,000 names of classes need about 2,000,000."""
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Reads five times faster where PyYAML was built with libyaml."""
NUMBER = re.compile(r"[-+]?[\da-fxo_.:]+", re.IGNORECASE)
"""Number in any base of YAML, 60 included, whose reading takes time quadratic in its digits."""
LONGEST = 1000
"""Most characters of a number or an interpolation in YAML."""
DEEPEST = 32
"""Most levels of a YAML file; a configuration of ours has about 6."""


def read_yaml(path: Path) -> dict[str, Any]:
    """Read the keys and values of a YAML file, as Hydra does, with interpolations left as text.

    Raises:
        ValueError: naming the file, if it cannot be read, does not hold keys and values, is larger than 200 kB, is
            nested more than 32 deep or uses aliases, a few of which can stand for terabytes.
    """
    text = read_text(path, MAX_YAML)
    try:
        reason = _too_much(text)
        node = None if reason else OmegaConf.to_container(OmegaConf.load(io.StringIO(text)))  # 1e-3 is a number to it
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f", line {error.problem_mark.line + 1}"
        raise ValueError(f"{path}{line} is not YAML: {error.problem}") from error
    except Exception as error:  # anything that YAML's constructors and OmegaConf's interpolations raise
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if reason:
        raise ValueError(f"{path} {reason}")
    if not isinstance(node, dict):
        raise ValueError(f"{path} must hold keys and values")
    return {str(key): value for key, value in node.items()}


def _too_much(text: str) -> str:
    """Return the reason not to build YAML, found before it is built; "" if there is none."""
    depth = 0
    for event in yaml.parse(text, Loader=LOADER):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent):
            return f"must not use aliases, got *{event.anchor}"
        if isinstance(event, yaml.ScalarEvent) and len(event.value) > LONGEST:
            if NUMBER.fullmatch(event.value):
                return "must not have a number of more than 1,000 digits"
            if "${" in event.value:
                return "must not have an interpolation of more than 1,000 characters"
        if isinstance(event, yaml.ScalarEvent) and event.value.count("${") > DEEPEST:
            return f"must not have more than {DEEPEST} interpolations in one value"
        if depth > DEEPEST:
            return f"must not be nested more than {DEEPEST} deep"
    return ""


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds one object.

    Raises:
        ValueError: naming the file, if it cannot be read, holds something else or is larger than 100 MB.
    """
    text = read_text(path, MAX_JSON)
    try:
        node = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: it is not JSON") from error
    if not isinstance(node, dict):
        raise ValueError(f"{path} must hold an object, got {type(node).__name__}")
    return node


def read_text(path: Path, most: int = MAX_YAML) -> str:
    """Read a text file of at most `most` bytes; ValueError, naming the file, if it cannot be read or is another."""
    try:
        return read_bytes(path, most).decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text") from error


def read_bytes(path: Path, most: int) -> bytes:
    """Read a file of at most `most` bytes; ValueError, naming the file, if it cannot be read or is longer."""
    if path.exists() and not path.is_file():  # a pipe waits for a writer, and a device may not end
        raise ValueError(f"{path} cannot be read: it is not a regular file")
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > most:
        raise ValueError(f"{path} must be at most {most:,} bytes long, and is longer")
    return content
