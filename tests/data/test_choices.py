"""The choices in conf/dataset: each composes, explains its keys, and is what its class takes."""

import dataclasses
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import get_class
from omegaconf import OmegaConf

from poslab.configuration.build import build
from poslab.data.sources import AnySource

CONF = Path(__file__).parents[2] / "conf"
FILES = sorted((CONF / "dataset").glob("*.yaml"))
# tests/data/examples has those of datasets of examples.
CHOICES = sorted(path.stem for path in FILES if re.search("^  - (_text|hub)$", path.read_text(), re.MULTILINE))


def composed(choice: str) -> dict[str, Any]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", overrides=[f"dataset={choice}", "seed=3"])
    node = OmegaConf.to_container(config.dataset, resolve=True)
    assert isinstance(node, dict)
    return {str(key): value for key, value in node.items()}


@pytest.mark.parametrize("choice", CHOICES)
def test_a_choice_shows_every_argument_of_its_class_with_its_default(choice: str) -> None:
    node = composed(choice)
    fields = {field.name: field.default for field in dataclasses.fields(get_class(node.pop("_target_")))}
    assert set(node) == set(fields)
    if choice in ("python_docs", "text", "hub"):
        assert node | {"length_multiples": tuple(node["length_multiples"])} == fields | {"seed": 3}


def test_lists_and_mappings_of_a_configuration_reach_load_dataset_as_its_own() -> None:
    data_files = {"train": ["a.json"], "dev": "b.json"}
    config = {"dataset": {"_target_": "poslab.data.hub_text.HubText", "path": "json", "data_files": data_files}}
    files = build(config, "dataset", AnySource).data_files
    assert (type(files), type(files["train"]), files) == (dict, list, data_files)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_key_is_explained_where_it_first_stands(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert lines[0].startswith("# ")
    explained = {"defaults"} | {key for base in bases(path) for key in keys(base)}
    for before, line in pairwise(lines):
        key = line.partition(":")[0]
        if line[:1].isalpha() and key not in explained:
            assert before.startswith("#"), key


def bases(path: Path) -> list[Path]:
    """The files that a choice begins with."""
    names = OmegaConf.load(path).get("defaults", [])
    direct = [path.with_name(f"{name}.yaml") for name in names if isinstance(name, str) and name != "_self_"]
    return direct + [base for one in direct for base in bases(one)]


def keys(path: Path) -> set[str]:
    return {str(key) for key in OmegaConf.load(path)}
