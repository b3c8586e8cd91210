"""The data of an evaluated run, and the swaps that are refused."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from poslab.data.text_files import TextFiles
from poslab.evaluation.subjects import Subject, subject
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
    one = SimpleNamespace(run=RunDirectory(tmp_path), recipe=SimpleNamespace(source=TextFiles.__new__(TextFiles)))
    assert Subject.dataset.fget(one) == name  # type: ignore[attr-defined]


def test_another_encoding_in_a_run_of_another_task_is_refused(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.start(composed("dataset=reverse_string", "model=encoder"), {})
    with pytest.raises(ValueError, match=r"^encoding@swap serves runs that have learned to predict the next token"):
        subject(run.path, swap={"encoding": {"_target_": "poslab.encodings.NoPosition"}})
