"""The data of an evaluated run, and the swaps that are refused."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from poslab.data.text_files import TextFiles
from poslab.evaluation.evaluated_run import EvaluatedRun
from poslab.evaluation.opening import open_run, with_different_names
from poslab.runs.directory import RunDirectory
from tests.training.runs import composed


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({"choices": ["encoding=t5", "dataset=text", "dataset.files=a.txt"]}, "dataset=text"),
        ({"choices": ["dataset=text", "dataset=ptb"]}, "dataset=ptb"),
        ({"choices": ["seed=1"]}, "text files"),
        ({"choices": None}, "text files"),
        ({"choices": "dataset=text"}, "text files"),
        (None, "text files"),  # it was lost
    ],
)
def test_a_dataset_is_named_as_it_was_typed_and_else_in_words(tmp_path: Path, environment: object, name: str) -> None:
    if environment is not None:
        (tmp_path / "environment.json").write_text(json.dumps(environment))
    item = SimpleNamespace(
        choices=RunDirectory(tmp_path).choices() or [], recipe=SimpleNamespace(source=TextFiles.__new__(TextFiles))
    )
    assert EvaluatedRun.dataset.fget(item) == name  # type: ignore[attr-defined]


def test_another_encoding_in_a_run_of_another_task_is_refused(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.start(composed("dataset=reverse_string", "model=encoder"), {})
    with pytest.raises(ValueError, match=r"^encoding@swap.*the next token"):
        open_run(run.path, swap={"encoding": {"_target_": "poslab.encodings.NoPosition"}})


def test_a_mistake_in_a_swap_names_the_key_that_was_typed(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.start(composed("dataset=python_docs"), {})
    swap = {"_target_": "poslab.encodings.SelfExtend", "_partial_": True, "training_length": 64, "group": 0}
    with pytest.raises(ValueError, match=r"^swap\.group must"):
        open_run(run.path, swap={"encoding": swap})


def test_a_split_that_is_not_held_out_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^split must .*got train$"):
        open_run(tmp_path, split="train")


def of_config(config: dict[str, object], **swap: object) -> EvaluatedRun:
    recipe = SimpleNamespace(config=config)
    others = dict.fromkeys(
        ("path", "directory", "model", "task", "data", "split", "text", "untrained", "start", "choices")
    )
    return EvaluatedRun(name="", recipe=recipe, swap=swap, **others)  # type: ignore[arg-type]


def test_models_are_named_by_what_differs_and_equal_ones_by_their_paths_too() -> None:
    small, large, other = (composed(word) for word in ("encoding.base=1e3", "encoding.base=1e5", "encoding=alibi"))
    runs = ["outputs/a", "outputs/b", "outputs/c", "outputs/d"]
    named = with_different_names([of_config(item) for item in (small, large, other, other)], runs)
    assert [item.name for item in named] == ["rotary base=1000", "rotary base=1e5", "alibi (c)", "alibi (d)"]
    swapped = with_different_names([of_config(item, encoding=other["encoding"]) for item in (small, large)], runs[:2])
    assert [item.name for item in swapped] == ["rotary base=1000 -> alibi", "rotary base=1e5 -> alibi"]
