"""Estimated durations."""

from __future__ import annotations

import pytest
import torch

from poslab.comparison import duration
from poslab.comparison.duration import roughly, seconds_of_run
from poslab.runs.recipe import Recipe
from poslab.training.components import prepared_data
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


@pytest.mark.parametrize(("step", "rows"), [(0.001, 32), (0.3, 1)])
def test_a_slow_step_is_timed_with_fewer_rows(monkeypatch, tmp_path, step, rows):
    """A clock by which a step takes as long for each row; the estimate is that of all rows."""
    recipe = Recipe.of(small(tmp_path, "dataset.batch_size=32", "trainer.max_steps=100"))
    data, read, now = prepared_data(recipe), [], [0.0]
    held_out = data.held_out

    class Watched:
        def __init__(self, items):
            self.items = items

        def __getitems__(self, numbers):
            read.append(len(numbers))
            now[0] += step * len(numbers)
            return self.items.__getitems__(numbers)

    monkeypatch.setattr(data, "held_out", lambda *place: Watched(held_out(*place)))
    monkeypatch.setattr(duration.time, "perf_counter", lambda: now[0])
    estimate = seconds_of_run(recipe, data, 2)
    assert estimate == pytest.approx(duration.SECONDS_BESIDE_STEPS + 100 * 32 * step)
    assert max(read) == rows


def test_steps_during_which_other_programs_run_do_not_count(monkeypatch, tmp_path):
    """Of three steps, two take a hundred times as long."""
    recipe = Recipe.of(small(tmp_path, "dataset.batch_size=32", "trainer.max_steps=100"))
    data, steps, now = prepared_data(recipe), [0], [0.0]
    held_out = data.held_out

    class Disturbed:
        def __init__(self, items):
            self.items = items

        def __getitems__(self, numbers):
            steps[0] += 1
            now[0] += 0.001 * len(numbers) * (1 if steps[0] % 3 == 0 else 100)
            return self.items.__getitems__(numbers)

    monkeypatch.setattr(data, "held_out", lambda *place: Disturbed(held_out(*place)))
    monkeypatch.setattr(duration.time, "perf_counter", lambda: now[0])
    assert seconds_of_run(recipe, data, 2) == pytest.approx(duration.SECONDS_BESIDE_STEPS + 100 * 32 * 0.001)


def test_a_worker_is_timed_with_its_threads_and_one_thread_by_its_own_time(monkeypatch, tmp_path):
    """The clock of the wall, which other programs hurry on, runs a thousand times as fast as the processor's."""
    recipe = Recipe.of(small(tmp_path, "dataset.batch_size=32", "trainer.max_steps=100"))
    data, threads, before = prepared_data(recipe), set(), torch.get_num_threads()
    held_out, now = data.held_out, [0.0]

    class Watched:
        def __init__(self, items):
            self.items = items

        def __getitems__(self, numbers):
            threads.add(torch.get_num_threads())
            now[0] += 0.001 * len(numbers)
            return self.items.__getitems__(numbers)

    monkeypatch.setattr(data, "held_out", lambda *place: Watched(held_out(*place)))
    monkeypatch.setattr(duration.time, "process_time", lambda: now[0])
    monkeypatch.setattr(duration.time, "perf_counter", lambda: 1000 * now[0])
    assert seconds_of_run(recipe, data, 1) == pytest.approx(duration.SECONDS_BESIDE_STEPS + 100 * 32 * 0.001)
    assert threads == {1}
    assert seconds_of_run(recipe, data, 3) == pytest.approx(duration.SECONDS_BESIDE_STEPS + 100 * 32)
    assert threads == {1, 3}
    monkeypatch.setattr(duration, "is_busy", lambda: True)
    assert seconds_of_run(recipe, data, 3) == pytest.approx(duration.SECONDS_BESIDE_STEPS + 100 * 32 * 0.001)
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
    assert seconds_of_run(recipe, data, 1) > duration.SECONDS_BESIDE_STEPS
    assert seen == {dtypes}
