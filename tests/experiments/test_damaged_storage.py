"""A storage that is damaged is one sentence that names it, whatever the place."""

from __future__ import annotations

import contextlib
import io
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from poslab.experiments.search import TrialResult
from poslab.experiments.storage import naming_storage
from poslab.experiments.sweep import Sweep
from poslab.experiments.sweep_command import write_results
from poslab.experiments.trial_run import TrialConfigurations
from poslab.io.terminal import HarmlessConsole
from poslab.runs.errors import RunStoppedError

from .sweeps import CONF, joined, small_sweep

PAGE = 4096
"""Bytes of a page of SQLite, which has tables and indices on pages of their own."""


def complete_all(sweep: Sweep, metrics: dict[str, float]) -> None:
    study = joined(sweep)
    while (job := study.take("worker")) is not None:
        trial = study.trial(job)
        assert trial is not None
        sweep.search_space.suggest(trial)
        study.complete(job, TrialResult([1.0], metrics))


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    """A sweep whose trials are complete."""
    sweep = small_sweep(tmp_path)
    complete_all(sweep, {})
    return sweep


@pytest.fixture(scope="module")
def whole_sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """A sweep of two trials that are complete, whose file tests copy."""
    sweep = small_sweep(tmp_path_factory.mktemp("whole"), n_trials=2)
    complete_all(sweep, {"validation/loss": 1.0})
    return sweep


def attribute(name: str, value: str) -> str:
    """SQL that sets a user attribute of trial 1."""
    return f"INSERT OR REPLACE INTO trial_user_attributes (trial_id, key, value_json) VALUES (2, '{name}', '{value}')"


def numbers(most: int, rest: str) -> str:
    return f"WITH RECURSIVE n(i) AS (SELECT 100 UNION ALL SELECT i + 1 FROM n WHERE i < {most}) {rest}"


ENDLESS = "SELECT i AS trial_id, i AS number, 1 AS study_id, 'COMPLETE' AS state, NULL AS a, NULL AS b FROM n"
WRONG = {
    "an endless view": (
        f"ALTER TABLE trials RENAME TO others; CREATE VIEW trials AS {numbers(10**18, ENDLESS)}",
        "trials is computed",
    ),
    "a trigger": ("CREATE TRIGGER t AFTER UPDATE ON trials BEGIN DELETE FROM trials; END", "t is computed"),
    "a computed column": ("ALTER TABLE trials ADD COLUMN c AS (zeroblob(1000000000))", "trials is computed"),
    "100,000 trials": (
        numbers(100_100, "INSERT INTO trials SELECT i, i, 1, 'COMPLETE', NULL, NULL FROM n"),
        "at most 20,000 rows of trials, and has 100,00",
    ),
    "a value of 20 MB": (attribute("figures", '{"a": "' + "x" * 20_000_000 + '"}'), "too big"),
    "an unknown state": ("UPDATE trials SET state = 'DONE'", "damaged: .*DONE"),
    "a number that is none": ("UPDATE trials SET number = 'x' WHERE number = 1", "damaged: "),
    "a negative number": ("UPDATE trials SET number = -5 WHERE number = 1", "damaged: trial -5"),
    "a date that is none": ("UPDATE trials SET datetime_start = 'yesterday'", "damaged: .*yesterday"),
    "an infinite value": ("UPDATE trial_values SET value_type = 'INF_POS', value = NULL", "damaged: trial 0"),
    "no value": ("DELETE FROM trial_values", "damaged: trial 0"),
    "a value that is text": ("UPDATE trial_values SET value = 'x'", "damaged: trial 0"),
    "no parameters": ("DELETE FROM trial_params", "the parameters of trial 0"),
    "a parameter outside of its range": (
        "UPDATE trial_params SET param_value = 1e300 WHERE param_name = 'encoding.base'",
        "the parameters of trial 0",
    ),
    "a distribution that is none": ("UPDATE trial_params SET distribution_json = '[1]'", "damaged: "),
    "text in the place of JSON": (attribute("figures", "nonsense"), "damaged: JSONDecodeError"),
    "JSON without an end": (attribute("figures", "[" * 100_000 + "]" * 100_000), "damaged: RecursionError"),
    "metrics that are a list": (attribute("figures", "[1]"), "damaged: trial 1"),
    "metrics that are texts": (attribute("figures", '{"a": "b"}'), "damaged: trial 1"),
    "a job that is a list": ("UPDATE poslab_jobs SET record = '[1]' WHERE name = '1'", "something else than a job"),
    "a job that is not JSON": ("UPDATE poslab_jobs SET record = 'x' WHERE name = '1'", "a job that is not JSON"),
    "a worker that is a list": (
        """UPDATE poslab_jobs SET record = '{"attempts": [{"worker": [1], "failure": null}]}' WHERE name = '1'""",
        "something else than a job",
    ),
    "a path in the place of a number": ("UPDATE poslab_jobs SET name = '../../x' WHERE name = '1'", "there is no job"),
    "a specification that is a list": ("UPDATE study_user_attributes SET value_json = '[1]'", "lacks what it was"),
    "no origin": ("DELETE FROM study_user_attributes WHERE key = 'made_with'", "lacks what it was"),
    "a direction that is none": ("UPDATE study_directions SET direction = 'UP'", "damaged: .*UP"),
}


@pytest.mark.parametrize("way", WRONG)
def test_a_database_that_poslab_does_not_write_is_one_sentence_that_names_it(way, whole_sweep, tmp_path):
    (tmp_path / "sweep").mkdir()
    file, (damage, sentence) = tmp_path / "sweep" / "study.db", WRONG[way]
    shutil.copy(Path(whole_sweep.output) / "study.db", file)
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.executescript(damage)
    sweep = replace(whole_sweep, output=str(file.parent))

    named = pytest.raises((ValueError, RunStoppedError), match=rf"^storage=sqlite:.*study\.db .*{sentence}")
    with named as raised, naming_storage(sweep):
        write_results(joined(sweep), TrialConfigurations(CONF, sweep), HarmlessConsole(io.StringIO()))
    assert len(str(raised.value)) < 600


def test_a_sweep_has_no_more_trials_than_are_read(tmp_path):
    with pytest.raises(ValueError, match=r"^n_trials must .*10000\], got 100000$"):
        small_sweep(tmp_path, n_trials=100_000)


def damages(whole: bytes) -> Iterator[bytes]:
    """Yield the contents of a file with one page after another lost, and cut short."""
    for begin in range(0, len(whole), PAGE):
        yield whole[:begin] + b"\xff" * PAGE + whole[begin + PAGE :]
    for share in (0.1, 0.5, 0.9):
        yield whole[: int(len(whole) * share)]


@pytest.mark.slow
def test_a_damaged_storage_is_read_or_named_in_one_sentence(sweep):
    file = Path(sweep.output) / "study.db"
    whole, sentences = file.read_bytes(), []
    for damaged in damages(whole):
        file.write_bytes(damaged)
        try:
            with naming_storage(sweep):
                joined(sweep).finished()
        except (ValueError, RunStoppedError) as error:
            sentences.append(str(error))

    assert len(sentences) >= 3
    assert all("storage=sqlite:" in sentence for sentence in sentences), sentences
    assert all(file.name in sentence and "\n" not in sentence for sentence in sentences), sentences
