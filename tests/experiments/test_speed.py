"""Speed and memory at each length, measured in turn and kept."""

from __future__ import annotations

import dataclasses
import itertools
import shutil
from pathlib import Path

import pytest
import torch

import poslab.experiments.speed as speed
from poslab.experiments.results import Results
from poslab.experiments.speed import with_kept_speeds, with_speeds
from poslab.experiments.tables import RunResult, write_runs
from poslab.io.terminal import HarmlessConsole
from tests.experiments.comparisons import comparison
from tests.training.runs import composed, run_of

from .test_cell_run import ADDITION


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """The directories of two runs, whose encodings are with and without an end, by encoding."""
    folder = tmp_path_factory.mktemp("runs")
    longest = composed(*ADDITION)["dataset"]["sequence_length"]
    learned = ("encoding=learned", f"encoding.max_length={longest}")
    choices = {"rotary": ("encoding=rotary",), "learned": learned}
    return {name: run_of(composed(*ADDITION, *own), folder / name).path for name, own in choices.items()}


@pytest.fixture
def results(places, tmp_path):
    """Results of both on a test of lengths 10 (within the end) and 20, which are 2 and 3 here."""
    return made(places, tmp_path, seeds=1, lengths=(2, 3))


def made(places, output, seeds, lengths):
    """Results of finished runs of both encodings, whose directories are known by encoding, or encoding and seed."""
    asked = comparison(encodings=["rotary", "learned"], seeds=seeds, output=str(output))
    rows = [
        RunResult("copying", name, seed, lengths=lengths, directory=str(places.get((name, seed), places.get(name))))
        for name in ("rotary", "learned")
        for seed in asked.seed_list
    ]
    return Results(asked, rows)


@pytest.fixture
def measurements(monkeypatch):
    """The names of the encodings of each measurement."""
    made, measure = [], speed._measured
    monkeypatch.setattr(speed, "ROUNDS", 3)

    def noting(runs, lengths):
        made.append([encoding for _, encoding, _ in runs])
        return measure(runs, lengths)

    monkeypatch.setattr(speed, "_measured", noting)
    return made


def written(results):
    """Results whose tables are in the directory of the comparison."""
    write_runs(Path(results.comparison.output), results.rows)
    return results


def test_every_encoding_is_timed_at_each_length_that_it_has_positions_for(results, measurements):
    timed = with_speeds(results, HarmlessConsole(quiet=True)).timed("copying")
    assert measurements == [["rotary", "learned"]]
    rotary, learned = timed["rotary"].reading, timed["learned"].reading
    assert rotary["tokens@3"] > rotary["tokens@2"] > 2
    assert rotary["memory_mb@3"] > rotary["memory_mb@2"] > 4 * 16 * 16 * 1e-6
    assert rotary["tokens_per_second@2"] > 0 and learned["tokens_per_second@2"] > 0
    assert "tokens@3" not in learned


def test_a_run_whose_weights_are_gone_is_not_timed_and_its_figures_stay(places, tmp_path):
    """A comparison that goes on elsewhere takes no weights along."""
    at = {
        (name, seed): shutil.copytree(path, tmp_path / f"{name}_{seed}")
        for name, path in places.items()
        for seed in (1, 2)
    }
    results = made(at, tmp_path, seeds=2, lengths=(2,))
    shutil.rmtree(tmp_path / "rotary_1" / "checkpoints")
    console = HarmlessConsole(quiet=True)
    timed = written(with_speeds(results, console)).timed("copying")
    assert {name: run.seed for name, run in timed.items()} == {"rotary": 2, "learned": 1}
    for path in at.values():
        shutil.rmtree(path / "checkpoints", ignore_errors=True)
    assert with_speeds(results, console).timed("copying")["rotary"].reading == timed["rotary"].reading


def test_what_is_kept_is_measured_again_only_if_missing_or_of_another_machine(results, measurements, monkeypatch):
    console = HarmlessConsole(quiet=True)
    first = written(with_speeds(results, console)).timed("copying")["rotary"].reading
    for again in (with_speeds(results, console), with_kept_speeds(results)):
        assert again.timed("copying")["rotary"].reading == first
    assert len(measurements) == 1
    shorter = dataclasses.replace(results, rows=[dataclasses.replace(run, lengths=(2,)) for run in results.rows])
    written(with_speeds(shorter, console))
    assert len(measurements) == 2
    monkeypatch.setattr(speed, "machine_in_words", lambda environment: "another machine")
    assert with_speeds(shorter, console).timed("copying")["rotary"].reading_machine == "another machine"
    assert len(measurements) == 3


def test_a_damaged_table_is_not_read_and_speeds_are_measured_again(results, measurements):
    console, file = HarmlessConsole(quiet=True), Path(results.comparison.output) / "runs.parquet"
    written(with_speeds(results, console))
    file.write_bytes(file.read_bytes()[:-100])
    assert with_kept_speeds(results).timed("copying") == {}
    assert with_speeds(results, console).timed("copying")
    assert len(measurements) == 2


def test_a_case_that_cannot_be_timed_is_left_out_in_one_sentence(results, monkeypatch, capsys):
    def fail(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(speed, "_measured", fail)
    assert with_speeds(results, HarmlessConsole()).timed("copying") == {}
    assert "copying cannot be timed" in capsys.readouterr().out


def test_encodings_take_turns_and_the_fastest_of_each_counts(monkeypatch):
    """A clock by which another program makes every seventh call take a hundred times as long."""
    now, order = [0.0], []

    def call(name, seconds):
        def one():
            order.append(name)
            now[0] += seconds * (100 if len(order) % 7 == 0 else 1)

        return one

    monkeypatch.setattr(speed.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(speed.time, "thread_time", lambda: now[0])
    monkeypatch.setattr(speed, "MAX_SECONDS", 1e9)
    a, b = ("copying", "a", 1), ("copying", "b", 1)
    assert speed._fastest({a: call("a", 1.0), b: call("b", 2.0)}) == {a: 1.0, b: 2.0}
    turns = [name for name, _ in itertools.groupby(order)]
    assert turns.count("a") >= speed.ROUNDS / 2 and order.count("a") == order.count("b")


def test_threads_are_restored_once_all_is_timed(results, monkeypatch):
    threads = []
    monkeypatch.setattr(speed, "_measured", lambda runs, _: threads.append(torch.get_num_threads()) or {})
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with_speeds(results, HarmlessConsole(quiet=True))
        assert (threads, torch.get_num_threads()) == ([1], 2)
    finally:
        torch.set_num_threads(before)
