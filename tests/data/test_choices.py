"""The choices in conf/dataset: each composes, explains its keys, and is what its class takes."""

import dataclasses
import subprocess
import sys
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import get_class
from omegaconf import OmegaConf

from poslab.configuration.build import build
from poslab.data.corpus import Corpus
from poslab.data.examples.tables import ExampleFiles
from poslab.data.patched.source import PatchedSource
from poslab.data.source import DataSource, Source

CONF = Path(__file__).parents[2] / "conf"
FILES = sorted((CONF / "dataset").glob("*.yaml"))


@cache
def loaded(path: Path) -> Any:
    return OmegaConf.load(path)


def bases(path: Path) -> list[Path]:
    """The files that a choice begins with."""
    names = loaded(path).get("defaults", [])
    direct = [path.with_name(f"{name}.yaml") for name in names if isinstance(name, str) and name != "_self_"]
    return direct + [base for one in direct for base in bases(one)]


def keys(path: Path) -> set[str]:
    return {str(key) for key in loaded(path)}


def class_of(path: Path) -> type:
    """The class of a choice, without the fifth of a second in which Hydra composes it."""
    named = next(file for file in (path, *bases(path)) if "_target_" in keys(file))
    return get_class(loaded(named)["_target_"])


CLASSES = {path.stem: class_of(path) for path in FILES if not path.stem.startswith("_")}
PRESETS = {
    path.stem for path in FILES if "_target_" not in keys(path) or any("_target_" in keys(base) for base in bases(path))
}
"""Choices that begin with another one, and say what it is to read."""


def choices_of(kind: type) -> list[str]:
    return [choice for choice, of_choice in CLASSES.items() if issubclass(of_choice, kind)]


CHOICES = choices_of(Corpus)


@cache
def composed(choice: str) -> dict[str, Any]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", overrides=[f"dataset={choice}", "seed=3"])
    node = OmegaConf.to_container(config.dataset, resolve=True)
    assert isinstance(node, dict)
    return {str(key): value for key, value in node.items()}


@pytest.mark.parametrize("choice", [choice for choice in choices_of(Source) if choice not in choices_of(PatchedSource)])
def test_a_choice_shows_every_argument_of_its_class_with_its_default_unless_it_is_a_preset(choice: str) -> None:
    fields = {field.name: field.default for field in dataclasses.fields(CLASSES[choice])}
    node = {key: tuple(value) if isinstance(value, list) else value for key, value in composed(choice).items()}
    assert set(node) - {"_target_"} == set(fields)
    if choice not in PRESETS:
        assert node == fields | {"seed": 3, "_target_": node["_target_"]}


@pytest.mark.parametrize("choice", choices_of(PatchedSource))
def test_a_choice_of_patches_shows_every_argument_of_its_class(choice: str) -> None:
    """With its default, but for the sequence length, which follows from others, and what a hub data set is named by."""
    named = {"path", "test_split"} if choice in ("fashion_mnist", "pixels") else set()
    fields = {field.name: field.default for field in dataclasses.fields(CLASSES[choice])}
    node = {key: tuple(value) if isinstance(value, list) else value for key, value in composed(choice).items()}
    given = {"seed": 3, "_target_": node["_target_"], "sequence_length": None}
    assert node == fields | given | {key: node[key] for key in named}


@pytest.mark.parametrize("choice", sorted(PRESETS.intersection(choices_of(Source))))
def test_a_preset_of_the_hub_passes_its_check_offline(choice: str) -> None:
    build({"dataset": composed(choice)}, "dataset", DataSource).check()


def test_the_archives_of_scrolls_are_named_after_its_task() -> None:
    files = composed("scrolls")["data_files"]
    assert files["train"] == "zip://gov_report/train.jsonl::hf://datasets/tau/scrolls/gov_report.zip"


@pytest.mark.parametrize("choice", choices_of(ExampleFiles))
def test_a_choice_of_own_files_asks_for_them(choice: str) -> None:
    with pytest.raises(ValueError, match=r"^dataset.files.*them, got null$"):
        build({"dataset": composed(choice)}, "dataset", DataSource)


def test_checking_imports_neither_torch_nor_datasets_nor_pandas(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("text,label\n" + "a,b\n" * 4_000)
    given = {"path": "x/y", "files": str(tmp_path / "x.csv"), "sequence_length": 100_000}
    nodes = [
        {key: given.get(key) if value is None else value for key, value in composed(choice).items()}
        for choice in choices_of(Source)
    ]
    program = (
        "import contextlib, sys\n"
        "from poslab.configuration.build import build\n"
        "from poslab.data.source import DataSource\n"
        f"for node in {nodes!r}:\n"
        "    source = build({'dataset': node}, 'dataset', DataSource)\n"
        "    with contextlib.suppress(ValueError):  # a package that is not installed\n"
        "        source.check()\n"
        "print(sorted({'torch', 'lightning', 'datasets', 'pandas', 'pyarrow', 'tokenizers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_lists_and_mappings_of_a_configuration_reach_load_dataset_as_its_own() -> None:
    data_files = {"train": ["a.json"], "dev": "b.json"}
    config = {"dataset": {"_target_": "poslab.data.hub_text.HubText", "path": "json", "data_files": data_files}}
    files = build(config, "dataset", DataSource).data_files
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
