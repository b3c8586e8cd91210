"""Estimated durations."""

from __future__ import annotations

import pytest
import torch

from poslab.report.text import roughly
from poslab.runs.recipe import Recipe
from poslab.training import duration
from poslab.training.components import prepared_data
from poslab.training.duration import seconds_of_run
from tests.training.runs import small


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    """No other program keeps the machine busy."""
    monkeypatch.setattr(duration, "is_busy", lambda: False)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (3, "about 10 s"),
        (44, "about 40 s"),
        (89, "about 90 s"),
        (91, "about 2 min"),
        (3 * 3600 + 5, "about 3 h"),
        (4 * 86400, "about 4 days"),
    ],
)
def test_a_duration_is_as_exact_as_an_estimate(seconds, words):
    assert roughly(seconds) == words


class Timed:
    """Held-out items by which a clock goes on: so many seconds for each row of a step, and for each token of a reading.

    Args:
        items: the items.
        now: time of the clock, in a list.
        batches: to which the number of rows, and of PyTorch's threads, of each batch are added.
        step: seconds of a row, by the number of the batch.
        read: seconds of a token.
    """

    def __init__(self, items, now, batches, step=lambda number: 0.0, read=0.0):
        self.items, self.now, self.batches, self.step, self.read = items, now, batches, step, read
        self.num_tokens = items.num_tokens

    def __getitems__(self, numbers):
        self.batches.append((len(numbers), torch.get_num_threads()))
        steps = self.step(len(self.batches)) * len(numbers)
        self.now[0] += steps if torch.is_grad_enabled() else self.read * self.num_tokens[numbers].sum()
        return self.items.__getitems__(numbers)


@pytest.fixture
def timed(monkeypatch, tmp_path):
    """Return a function that makes a recipe, its data, a clock of the wall which the data moves, and its batches."""

    def make(*choices, **seconds):
        recipe = Recipe.of(small(tmp_path, "dataset.batch_size=32", "trainer.max_steps=100", *choices))
        data, now, batches = prepared_data(recipe), [0.0], []
        held_out = data.held_out
        monkeypatch.setattr(data, "held_out", lambda *place: Timed(held_out(*place), now, batches, **seconds))
        monkeypatch.setattr(duration.time, "perf_counter", lambda: now[0])
        return recipe, data, now, batches

    return make


@pytest.mark.parametrize(("step", "most"), [(0.001, 32), (0.3, 1)])
def test_a_slow_step_is_timed_with_fewer_rows(timed, step, most):
    """A clock by which a step takes as long for each row; the estimate is that of all rows."""
    recipe, data, _, batches = timed(step=lambda _: step)
    assert seconds_of_run(recipe, data, 2) == pytest.approx(duration.SECONDS_OF_START + 100 * 32 * step)
    assert max(rows for rows, _ in batches) == most


def test_steps_during_which_other_programs_run_do_not_count(timed):
    """Of three steps, two take a hundred times as long."""
    recipe, data, _, _ = timed(step=lambda number: 0.001 if number % 3 == 0 else 0.1)
    assert seconds_of_run(recipe, data, 2) == pytest.approx(duration.SECONDS_OF_START + 100 * 32 * 0.001)


def test_a_run_reads_its_validation_as_often_as_it_validates_and_its_test_twice(timed):
    recipe, data, _, _ = timed("trainer.validations=3", read=0.01)
    estimate = seconds_of_run(recipe, data, 2)
    tokens = {
        split: sum(length * len(data.held_out(split, length).num_tokens) for length in data.lengths_of(split))
        for split in ("validation", "test")
    }
    assert len(data.lengths_of("test")) > 1
    readings = 3 * tokens["validation"] + 2 * tokens["test"]
    assert estimate == pytest.approx(duration.SECONDS_OF_START + 0.01 * readings)


def test_a_worker_is_timed_with_its_threads_and_one_thread_by_its_own_time(monkeypatch, timed):
    """The clock of the wall, which other programs hurry on, runs a thousand times as fast as the processor's."""
    before = torch.get_num_threads()
    recipe, data, now, batches = timed(step=lambda _: 0.001)
    monkeypatch.setattr(duration.time, "process_time", lambda: now[0])
    monkeypatch.setattr(duration.time, "perf_counter", lambda: 1000 * now[0])
    assert seconds_of_run(recipe, data, 1) == pytest.approx(duration.SECONDS_OF_START + 100 * 32 * 0.001)
    assert {threads for _, threads in batches} == {1}
    assert seconds_of_run(recipe, data, 3) == pytest.approx(duration.SECONDS_OF_START + 100 * 32)
    assert {threads for _, threads in batches} == {1, 3}
    monkeypatch.setattr(duration, "is_busy", lambda: True)
    assert seconds_of_run(recipe, data, 3) == pytest.approx(duration.SECONDS_OF_START + 100 * 32 * 0.001)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(("precision", "dtypes"), [("bf16-mixed", "mixed"), ("bf16-true", "true")])
def test_steps_are_timed_in_the_precision_of_the_run(monkeypatch, tmp_path, precision, dtypes):
    recipe = Recipe.of(small(tmp_path, f"trainer.precision={precision}"))
    data, seen, make = prepared_data(recipe), set(), duration.task_and_model_of

    def noting(*arguments):
        task, model = make(*arguments)
        loss = task.loss
        monkeypatch.setattr(task, "loss", lambda model, batch: seen.add(_state(model)) or loss(model, batch))
        return task, model

    def _state(model):
        if torch.is_autocast_enabled("cpu"):
            return "mixed"
        return "true" if next(model.parameters()).dtype == torch.bfloat16 else "32"

    monkeypatch.setattr(duration, "task_and_model_of", noting)
    assert seconds_of_run(recipe, data, 1) > duration.SECONDS_OF_START
    assert seen == {dtypes}
