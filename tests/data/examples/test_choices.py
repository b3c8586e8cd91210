"""The choices in conf/dataset that are datasets of examples."""

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import get_class

from poslab.configuration.build import build
from poslab.data.examples.example_files import ExampleFiles
from poslab.data.examples.hub_examples import HubExamples
from poslab.data.examples.source import ExampleSource
from poslab.data.sources import AnySource
from tests.data.test_choices import CHOICES as CORPORA
from tests.data.test_choices import CONF, composed

NEED_PATHS = {"hub_classification", "hub_pairs", "hub_answers", "hub_dialogue"}


def choices_of(kind: type) -> list[str]:
    others = {path.stem for path in (CONF / "dataset").glob("[!_]*.yaml")} - set(CORPORA)
    return sorted(choice for choice in others if issubclass(get_class(composed(choice)["_target_"]), kind))


CHOICES = choices_of(ExampleSource)
NEED_FILES = choices_of(ExampleFiles)
PRESETS = sorted(set(choices_of(HubExamples)) - NEED_PATHS)


@pytest.mark.slow
@pytest.mark.parametrize("choice", CHOICES)
def test_a_choice_shows_every_argument_of_its_class(choice: str) -> None:
    node = composed(choice)
    assert set(node) - {"_target_"} == {field.name for field in dataclasses.fields(get_class(node["_target_"]))}


@pytest.mark.parametrize("choice", [choice for choice in CHOICES if choice not in PRESETS])
def test_a_choice_that_is_no_preset_shows_the_defaults_of_its_class(choice: str) -> None:
    node = composed(choice)
    fields = {field.name: field.default for field in dataclasses.fields(get_class(node.pop("_target_")))}
    node = {key: tuple(value) if isinstance(value, list) else value for key, value in node.items()}
    assert node == fields | {"seed": 3}


@pytest.mark.parametrize("choice", PRESETS)
def test_a_preset_of_the_hub_passes_its_check_offline(choice: str) -> None:
    build({"dataset": composed(choice)}, "dataset", AnySource).check()


def test_the_archives_of_scrolls_are_named_after_its_task() -> None:
    files = composed("scrolls")["data_files"]
    assert files["train"] == "zip://gov_report/train.jsonl::hf://datasets/tau/scrolls/gov_report.zip"


@pytest.mark.parametrize("choice", NEED_FILES)
def test_a_choice_of_own_files_asks_for_them(choice: str) -> None:
    with pytest.raises(ValueError, match=r"^dataset.files must be a path, a glob or a list of them, got None$"):
        build({"dataset": composed(choice)}, "dataset", AnySource)


@pytest.mark.slow
def test_checking_imports_neither_torch_nor_datasets_nor_pandas(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("text,label\na,b\n")
    nodes: list[dict[str, Any]] = [composed(choice) for choice in CHOICES if choice not in NEED_PATHS.union(NEED_FILES)]
    nodes += [composed(choice) | {"files": str(tmp_path / "x.csv")} for choice in NEED_FILES]
    program = (
        "import contextlib, sys\n"
        "from poslab.configuration.build import build\n"
        "from poslab.data.sources import AnySource\n"
        f"for node in {nodes!r}:\n"
        "    source = build({'dataset': node}, 'dataset', AnySource)\n"
        "    with contextlib.suppress(ValueError):  # a package that is not installed\n"
        "        source.check()\n"
        "print(sorted({'torch', 'lightning', 'datasets', 'pandas', 'pyarrow', 'tokenizers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
