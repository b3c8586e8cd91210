"""Benchmarks of several models become the tables and the report of a comparison, with verdicts over items."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

pytest.importorskip("lm_eval")

from poslab.evaluation.benchmarks.subjects import Subject
from poslab.evaluation.benchmarks.tasks import PromptTask
from poslab.experiments.bench import command
from poslab.experiments.bench.command import measure, run_bench
from poslab.experiments.bench.models import pretrained_subjects
from poslab.experiments.bench.plan import BenchRequest, benchmarks_of
from poslab.experiments.bench.report import results_of, write_scores
from poslab.experiments.collect import read_results
from poslab.experiments.jobs import one_at_a_time
from poslab.io.terminal import HarmlessConsole
from tests.evaluation.benchmarks.readers import Reader, needle_items, of_needle

pytestmark = pytest.mark.slow  # it imports the harness
LENGTH = 512
REQUEST = BenchRequest(tasks=["niah_single_1"], lengths=[LENGTH], typed="poslab bench ...")


class ReadingSubject(Subject):
    """A model that writes what a function of the prompt returns, trained on 1,024 tokens."""

    training_length, steps, end, files, encodings, untrained, export, check_export = (
        1024,
        0,
        None,
        (),
        (),
        0,
        None,
        None,
    )
    tokenizer = staticmethod(lambda text: SimpleNamespace(input_ids=list(text.encode())))

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
    monkeypatch.setattr(command, "default_cache", lambda: tmp_path / "cache")


def results(*subjects, items=40, request=REQUEST, output=Path("unused")):
    tasks = [PromptTask("niah_single_1", LENGTH, needle_items(items), ["generated", "forced"])]
    measured = {subject: measure(subject, tasks, lambda line: None) for subject in subjects}
    return results_of(tasks, measured, request, output)


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
    measured = {subject: measure(subject, tasks, print) for subject in subjects}
    (tmp_path / "out").mkdir()
    write_scores(tasks, measured, REQUEST, tmp_path / "out", HarmlessConsole())
    printed = capsys.readouterr().out
    assert "▼" in printed
    assert "report.html" in printed
    assert "Price at the original length" in (tmp_path / "out" / "report.html").read_text()
    assert not list((tmp_path / "out" / "figures").glob("seeds_*"))
    checked = pd.read_csv(tmp_path / "out" / "figures" / "checks.csv")
    assert checked["holds"].all()
    again = read_results(tmp_path / "out")
    assert word(again, "short", "string_match") == "worse"


def test_an_encoding_with_several_seeds_is_a_table_with_each(tmp_path):
    subjects = [ReadingSubject("full", seed=1), ReadingSubject("full", blind_beyond(600), seed=2)]
    tasks = [PromptTask("niah_single_1", LENGTH, needle_items(40), ["generated"])]
    measured = {subject: measure(subject, tasks, print) for subject in subjects}
    write_scores(tasks, measured, REQUEST, tmp_path, HarmlessConsole())
    table = pd.read_csv(tmp_path / "scores.csv")
    assert dict(zip(table["seed"], table["value"], strict=True)) == {1: 100, 2: 50}
    written = (tmp_path / "scores.csv").read_bytes()
    write_scores(tasks, dict(reversed(measured.items())), REQUEST, tmp_path, HarmlessConsole())
    assert (tmp_path / "scores.csv").read_bytes() == written


def test_the_files_of_an_output_are_of_the_same_encodings_and_tasks(tmp_path):
    subjects = [ReadingSubject("full"), ReadingSubject("short", blind_beyond(600))]
    tasks = [PromptTask(name, LENGTH, needle_items(4), ["generated"]) for name in ("niah_single_1", "niah_multikey_2")]
    measured = {subject: measure(subject, tasks, print) for subject in subjects}

    def written(of_subjects, of_tasks):
        chosen = {subject: measured[subject][: len(of_tasks)] for subject in of_subjects}
        write_scores(of_tasks, chosen, REQUEST, output, HarmlessConsole())
        return {path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file()}

    (output := tmp_path / "out").mkdir()
    both = written(subjects, tasks)
    assert {"report.html", "figures/table_niah_multikey_2.csv", "runs.parquet"} <= both
    fewer = written(subjects, tasks[:1])
    assert fewer < both
    assert not [name for name in fewer if "multikey" in name]
    assert written(subjects[:1], tasks) == {"scores.csv"}
    assert written(subjects, tasks) == both


def test_an_output_that_another_process_writes_is_a_mistake(tmp_path):
    request = replace(REQUEST, tasks=["json_kv"], samples=1, output=str(tmp_path))
    with one_at_a_time(tmp_path), pytest.raises(ValueError, match=f"output={tmp_path} is being written by another"):
        run_bench([ReadingSubject("full"), ReadingSubject("same")], request)


def test_a_plan_counts_what_each_encoding_takes_for_each_item_once_and_loading(capsys, monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(command, "time", SimpleNamespace(monotonic=lambda: clock.now))

    class Slow(ReadingSubject):
        """A model that takes 100 seconds to be loaded, and two minutes more for its first answer of all."""

        def __init__(self, name, seconds, seed=0):
            super().__init__(name, lambda prompt: self.answered(prompt, seconds), seed)
            self.is_cold = True

        @property
        def end(self):
            clock.now += 100 * self.is_cold

        def answered(self, prompt, seconds):
            clock.now += seconds + 120 * self.is_cold
            self.is_cold = False
            return of_needle(prompt)

    tasks = [PromptTask("niah_single_1", LENGTH, needle_items(40), ["generated"])]
    monkeypatch.setattr(command, "benchmarks_of", lambda subjects, request: tasks)
    run_bench([Slow("fast", 10), Slow("slow", 60, seed=1), Slow("slow", 60, seed=2)], replace(REQUEST, dry_run=True))
    times = {row[0]: row[-3:] for line in capsys.readouterr().out.splitlines() if (row := line.split())}
    assert times["loading"] == ["about", "5", "min"]
    assert times["niah_single_1"] == ["about", "87", "min"]  # 40 (10 + 2 * 60) seconds


def test_lengths_beyond_the_positions_of_every_encoding_are_a_mistake(tmp_path):
    subjects = [ReadingSubject(name, end=LENGTH - 1) for name in ("ends", "too")]
    request = replace(REQUEST, tasks=["json_kv"], samples=1, output=str(tmp_path / "out"))
    with pytest.raises(ValueError, match="the positions of every encoding end before 512 tokens"):
        run_bench(subjects, request)


class TemplateTokenizer:
    """A tokenizer of bytes with a chat template."""

    chat_template = "[{user}] {assistant}"

    def __call__(self, text):
        return SimpleNamespace(input_ids=list(text.encode()))

    def apply_chat_template(self, messages, **_):
        return self.chat_template.format(**{message["role"]: message["content"] for message in messages})


def test_a_prompt_fits_its_length_with_its_chat_template():
    request = replace(REQUEST, tasks=["json_kv"], lengths=[1500], samples=2, chat=True)
    (task,) = benchmarks_of([ReadingSubject("full", tokenizer=TemplateTokenizer())], request)
    for item in task.items:
        prompt = TemplateTokenizer.chat_template.format(user=item["input"], assistant=item["gen_prefix"])
        assert 1500 - 200 < len(prompt) + item["max_new_tokens"] <= 1500


@pytest.mark.parametrize(
    ("template", "message"), [(None, "needs a model with a chat template"), ("{other}", "chat template of .* fails")]
)
def test_a_chat_template_that_is_missing_or_fails_is_a_mistake(template, message):
    tokenizer = TemplateTokenizer()
    tokenizer.chat_template = template
    with pytest.raises(ValueError, match=message):
        [*benchmarks_of([ReadingSubject("full", tokenizer=tokenizer)], replace(REQUEST, chat=True))]


def test_answers_are_asked_again_where_the_code_of_an_encoding_was_edited(tmp_path, monkeypatch):
    code = tmp_path / "mine.py"
    code.write_text("class Mine: pass")
    monkeypatch.syspath_prepend(tmp_path)
    subject = ReadingSubject("mine", encodings=(importlib.import_module("mine").Mine(),))
    before = subject.identity
    assert subject.identity == before
    code.write_text("class Mine: edited = True")
    assert subject.identity != before


def test_an_encoding_that_no_training_has_set_is_a_warning(capsys):
    results(ReadingSubject("fire", untrained=1234), ReadingSubject("full"))
    (warning,) = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert warning.startswith("warning: fire learns 1,234 numbers, which no training has set")


@pytest.mark.parametrize("dtype", [None, ["float32"], "float23"])
def test_an_unknown_dtype_is_a_mistake(dtype):
    with pytest.raises(ValueError, match="dtype must be one of float32, bfloat16, float16, got "):
        pretrained_subjects([], dtype, "cpu", 0)


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
    assert not (tmp_path / "out").exists()


def test_an_unknown_task_is_refused_with_the_nearest_name_without_an_index(monkeypatch):
    monkeypatch.setattr("poslab.experiments.bench.plan.harness_tasks", None)  # which indexes all tasks
    for typed, meant in (("longpppl", "longppl"), ("harness:hellaswagg", "hellaswag")):
        request = replace(REQUEST, tasks=["json_kv", typed])
        with pytest.raises(ValueError, match=f"^unknown task '.*'; did you mean '{meant}'"):
            next(benchmarks_of([ReadingSubject("full")], request))
