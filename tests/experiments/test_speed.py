"""Speed and memory at each length, measured in turn and kept."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest
import torch

import poslab.experiments.speed as speed
from poslab.experiments.costs import FILE, kept_speeds
from poslab.experiments.results import Results
from poslab.experiments.speed import with_kept_speeds, with_speeds
from poslab.experiments.tables import RunResult
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
    made, measure = [], speed._costs
    monkeypatch.setattr(speed, "ROUNDS", 3)

    def noting(runs, *arguments):
        made.append(list(runs))
        return measure(runs, *arguments)

    monkeypatch.setattr(speed, "_costs", noting)
    return made


def test_every_encoding_is_timed_at_each_length_that_it_has_positions_for(results, measurements):
    found = with_speeds(results, HarmlessConsole(quiet=True)).speeds["copying"]
    assert measurements == [["rotary", "learned"]]
    at_2, at_3 = found.at("rotary", 2), found.at("rotary", 3)
    assert (at_2.relative_speed, at_3.relative_speed) == (1.0, 1.0)
    assert at_3.tokens > at_2.tokens > 2
    assert at_3.memory_mb > at_2.memory_mb > 4 * 16 * 16 * 1e-6
    assert found.at("learned", 2).relative_speed > 0
    assert found.at("learned", 3) is None
    assert {"python", "packages", "commit"} == set(found.versions)


def test_a_run_whose_weights_are_gone_is_not_timed_and_its_figures_stay(places, tmp_path):
    """A study that goes on elsewhere takes no weights along."""
    at = {
        (name, seed): shutil.copytree(path, tmp_path / f"{name}_{seed}")
        for name, path in places.items()
        for seed in (1, 2)
    }
    results = made(at, tmp_path, seeds=2, lengths=(2,))
    shutil.rmtree(tmp_path / "rotary_1" / "checkpoints")
    console = HarmlessConsole(quiet=True)
    timed = with_speeds(results, console).speeds["copying"]
    assert timed.runs == {"rotary": str(tmp_path / "rotary_2"), "learned": str(tmp_path / "learned_1")}
    for place in at.values():
        shutil.rmtree(place / "checkpoints", ignore_errors=True)
    assert with_speeds(results, console).speeds["copying"] == timed


def test_what_is_kept_is_measured_again_only_if_missing_or_of_another_machine(results, measurements, monkeypatch):
    console = HarmlessConsole(quiet=True)
    first = with_speeds(results, console)
    assert with_speeds(results, console).speeds == first.speeds == with_kept_speeds(results).speeds
    assert len(measurements) == 1
    shorter = dataclasses.replace(results, rows=[dataclasses.replace(run, lengths=(2,)) for run in results.rows])
    with_speeds(shorter, console)
    assert len(measurements) == 2
    monkeypatch.setattr(speed, "machine_in_words", lambda environment: "another machine")
    assert with_speeds(shorter, console).speeds["copying"].machine == "another machine"
    assert len(measurements) == 3


@pytest.mark.parametrize(
    "damage",
    [
        lambda node: {},
        lambda node: {"copying": 3},
        lambda node: {"copying": {**node["copying"], "costs": [{}]}},
        lambda node: {"copying": {**node["copying"], "costs": [{**node["copying"]["costs"][0], "memory_mb": "x"}]}},
        lambda node: {"copying": {**node["copying"], "runs": {"rotary": "elsewhere"}}},
    ],
)
def test_a_damaged_file_is_not_read_and_measured_again(results, measurements, tmp_path, damage):
    console, file = HarmlessConsole(quiet=True), tmp_path / FILE
    with_speeds(results, console)
    file.write_text(json.dumps(damage(json.loads(file.read_text()))))
    assert with_kept_speeds(results).speeds == {}
    assert with_speeds(results, console).speeds
    assert len(measurements) == 2


def test_a_case_that_cannot_be_timed_is_left_out_in_one_sentence(results, measurements, monkeypatch, capsys):
    def fail(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(speed, "_costs", fail)
    assert with_speeds(results, HarmlessConsole()).speeds == {}
    assert "copying cannot be timed: CUDA out of memory" in capsys.readouterr().out
    assert kept_speeds(results.comparison.output) == {}


def test_encodings_take_turns_and_the_fastest_of_each_counts(monkeypatch):
    """A clock by which another program makes every third call take a hundred times as long."""
    now, order = [0.0], []

    def call(name, seconds):
        def one():
            order.append(name)
            now[0] += seconds * (100 if len(order) % 3 == 0 else 1)

        return one

    monkeypatch.setattr(speed.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(speed.time, "thread_time", lambda: now[0])
    monkeypatch.setattr(speed, "LONGEST", 1e9)
    assert speed._fastest({"a": call("a", 1.0), "b": call("b", 2.0)}) == {"a": 1.0, "b": 2.0}
    assert len(order) == 2 * (1 + speed.ROUNDS)
    assert order[2:6] in (["b", "a", "a", "b"], ["a", "b", "b", "a"])


def test_a_processor_reads_with_one_thread_that_is_timed_by_its_own_time(monkeypatch):
    monkeypatch.setattr(speed.time, "thread_time", iter((0.0, 4.0)).__next__)
    monkeypatch.setattr(speed.time, "perf_counter", iter((0.0, 1000.0)).__next__)
    monkeypatch.setattr(speed.torch.cuda, "is_available", lambda: False)
    assert speed._seconds(lambda: None, 2) == 2.0


def test_threads_are_those_of_before_once_all_is_timed(results, monkeypatch):
    threads = []
    monkeypatch.setattr(speed, "_costs", lambda *_: threads.append(torch.get_num_threads()) or [])
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert with_speeds(results, HarmlessConsole(quiet=True)).speeds["copying"].machine.endswith(", 1 thread")
        assert (threads, torch.get_num_threads()) == ([1], 2)
    finally:
        torch.set_num_threads(before)
