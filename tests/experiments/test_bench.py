"""Benchmarks of several models become the tables and the report of a comparison, with verdicts over items."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

pytest.importorskip("lm_eval")

from poslab.evaluation.benchmarks.subjects import Subject
from poslab.evaluation.benchmarks.tasks import PromptTask
from poslab.experiments import bench
from poslab.experiments.bench import BenchRequest, measure, results_of, run_bench, write_scores
from poslab.experiments.collect import read_results
from poslab.io.terminal import HarmlessConsole
from tests.evaluation.benchmarks.readers import Reader, needle_items, of_needle

pytestmark = pytest.mark.slow  # it imports the harness
LENGTH = 512
REQUEST = BenchRequest(tasks=["niah_single_1"], lengths=[LENGTH], typed="poslab bench ...")


class ReadingSubject(Subject):
    """A model that writes what a function of the prompt returns, trained on 1,024 tokens."""

    training_length, steps, end, files, tokenizer = 1024, 0, None, (), staticmethod(lambda text: None)

    def __init__(self, name, answer=of_needle, seed=0, **others):
        super().__init__(name, seed, [], "outputs/none", torch.device("cpu"), {"encoding": name})
        self.reader = Reader(answer)
        vars(self).update(others)

    def lm(self, length):
        return self.reader

    def close(self):
        pass


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(bench, "default_cache", lambda: tmp_path / "cache")


def results(*subjects, items=40, request=REQUEST, output=Path("unused")):
    tasks = [PromptTask("niah_single_1", LENGTH, needle_items(items), ["generated", "forced"])]
    measured = {(subject.name, subject.seed): measure(subject, tasks, lambda line: None) for subject in subjects}
    return results_of(subjects, tasks, measured, request, output)


def word(found, name, metric):
    case = "niah_single_1"
    criterion = next(c for c in found.comparison.criteria(case) if c.metric == f"{metric}@{LENGTH}")
    return str(found.verdicts(case, criterion, found.comparison.baseline)[name].word)


def blind_beyond(characters):
    """Return a reader that does not see needles so many characters before the end."""
    return lambda prompt: of_needle(prompt[-characters:]) if "One of" in prompt[-characters:] else " 0000000"


def test_an_encoding_that_drops_a_band_of_distances_is_worse_and_the_same_one_is_equivalent():
    found = results(ReadingSubject("full"), ReadingSubject("same"), ReadingSubject("short", blind_beyond(600)))
    for metric in ("string_match", "choice", "recovery", "answer_loss", "forced_match"):
        assert word(found, "short", metric) == "worse"
        assert word(found, "same", metric) == "equivalent"
    few = results(ReadingSubject("full"), ReadingSubject("same"), items=10)
    assert word(few, "same", "string_match") == "inconclusive"


def test_runs_with_one_seed_have_no_verdict_and_with_two_seeds_have():
    trained = [ReadingSubject(name, steps=100) for name in ("full", "same")]
    assert word(results(*trained), "same", "string_match") == "one seed"
    pairs = [
        ReadingSubject(n, f, s, steps=100)
        for n, f in (("full", of_needle), ("short", blind_beyond(600)))
        for s in (1, 2)
    ]
    assert word(results(*pairs), "short", "string_match") == "worse"


def test_a_model_whose_positions_end_before_has_no_score():
    found = results(ReadingSubject("full"), ReadingSubject("ends", end=LENGTH - 1))
    (criterion, *_) = found.comparison.criteria("niah_single_1")
    assert [*found.scores("niah_single_1", criterion)] == ["full"]


def test_the_report_is_written_and_read_again_from_its_tables(tmp_path, capsys):
    subjects = [ReadingSubject("full"), ReadingSubject("short", blind_beyond(600))]
    tasks = [PromptTask("niah_single_1", LENGTH, needle_items(40), ["generated"])]
    measured = {(subject.name, subject.seed): measure(subject, tasks, print) for subject in subjects}
    (tmp_path / "out").mkdir()
    write_scores(subjects, tasks, measured, REQUEST, tmp_path / "out", HarmlessConsole())
    printed = capsys.readouterr().out
    assert "▼" in printed
    assert "report.html" in printed
    assert "Price at the original length" in (tmp_path / "out" / "report.html").read_text()
    again = read_results(tmp_path / "out")
    assert word(again, "short", "string_match") == "worse"


def test_models_with_other_tokenizers_are_not_compared(monkeypatch):
    tokens = {
        "full": lambda text: type("Ids", (), {"input_ids": [1]}),
        "other": lambda text: type("Ids", (), {"input_ids": [2]}),
    }
    subjects = [ReadingSubject(name, tokenizer=tokenizer) for name, tokenizer in tokens.items()]
    with pytest.raises(ValueError, match="models must have the same tokenizer"):
        run_bench(subjects, BenchRequest(tasks=["fwe"], lengths=[LENGTH]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tasks": []}, "tasks must not be empty"),
        ({"tasks": ["vt"], "scoring": ["asked"]}, "scoring"),
        ({"tasks": ["vt"], "include_path": "nowhere"}, "include_path must be a folder"),
        ({"tasks": ["vt"], "lengths": [0]}, "lengths"),
    ],
)
def test_a_mistake_is_one_sentence(arguments, message):
    with pytest.raises(ValueError, match=message):
        BenchRequest(**arguments)


def test_lengths_are_asked_for_where_a_task_needs_them(tmp_path):
    with pytest.raises(ValueError, match=r"lengths must be given for task=vt"):
        run_bench([ReadingSubject("full")], BenchRequest(tasks=["vt"], output=str(tmp_path / "out")))
