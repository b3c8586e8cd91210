"""The console output of a run."""

import contextlib
import io
import re

import lightning as L
import pytest
from rich.console import Console

from poslab.data.algorithmic.chomsky import ReverseString
from poslab.data.tokenizers import SymbolTokenizer
from poslab.runs.directory import RunDirectory
from poslab.runs.errors import RunInterruptedError
from poslab.tasks.answering import WrittenAnswers
from poslab.tasks.language_modelling import LanguageModelling
from poslab.training.checking import check
from poslab.training.checkpoints import StopOnSignals
from poslab.training.console import RunConsole, conclusion, facts_table, test_table
from poslab.training.fit import train_here
from tests.training.runs import recorded, run_of, small

test_table.__test__ = False  # type: ignore[attr-defined]  # pytest, it is no test


def printed(content: object) -> list[list[str]]:
    """The words of each line."""
    out = io.StringIO()
    Console(file=out, width=100).print(content)
    return [line.split() for line in out.getvalue().splitlines() if line.strip()]


def test_the_table_has_a_row_for_each_length_and_a_dash_past_the_end():
    metrics = {"test/loss@512": 1.25, "test/perplexity@512": 3.4903, "test/bits_per_byte@512": 1.80337}
    lines = printed(test_table(LanguageModelling({}), metrics, [512, 1024], trained=512, step=1200))
    assert " ".join(lines[0]) == "Test results (best checkpoint, step 1,200)"
    assert lines[1] == ["context", "x", "training", "loss", "(nats)", "perplexity", "bits", "per", "byte"]
    assert ["512", "1x", "1.2500", "3.4903", "1.8034"] in lines
    assert ["1,024", "2x", "–", "–", "–"] in lines


def test_a_table_of_examples_has_a_row_for_all_and_one_for_those_beyond_the_training_length():
    metrics = {"test/accuracy@10": 100.0, "test/accuracy@20": 50, "test/accuracy": 62.5, "test/accuracy_beyond": 50}
    metrics |= {"test/examples": 1600, "test/examples@10": 400, "test/examples@20": 1200}
    task = WrittenAnswers(ReverseString(), [1, 10], SymbolTokenizer(ReverseString().symbols))
    lines = printed(test_table(task, metrics, [10, 20], trained=10, step=7))
    assert ["10", "400", "100.00", "–", "–"] in lines and ["20", "1,200", "50.00", "–", "–"] in lines
    assert ["all", "1,600", "62.50", "–", "–"] in lines and ["beyond", "50.00", "–", "–"] in lines
    assert " ".join(lines[-1]) == "out of 100: accuracy, exact match"


@pytest.mark.parametrize(
    ("bits", "loss", "words"),
    [
        ({64: 2.2, 128: 2.0, 256: 2.01, 512: 3.5}, 1.0, ["degrades", "512", "2.00 -> 3.50", "4x"]),
        ({128: 2.0, 512: float("nan")}, 1.0, ["degrades", "512"]),
        ({128: 2.0, 256: 1.9, 512: 2.01}, 1.0, ["does not degrade", "512", "2.00 -> 2.01", "4x"]),
        ({128: 2.0, 512: 2.0}, 2.9, ["Not trained enough", "2.90", "3.00"]),
    ],
)
def test_a_run_ends_with_how_it_does_beyond_its_training_length(bits, loss, words):
    metrics = {f"test/bits_per_byte@{length}": value for length, value in bits.items()} | {"test/loss@128": loss}
    line = conclusion("rotary", LanguageModelling({}), metrics, trained=128, unigram=3.0)
    assert all(word in line for word in words), line
    assert len(line) <= 80


def test_a_run_of_scores_ends_with_its_conclusion_and_a_run_without_longer_tests_has_none():
    task = WrittenAnswers(ReverseString(), [1, 10], SymbolTokenizer(ReverseString().symbols))
    tags = {10: "test/accuracy@10", 20: "test/accuracy@20"}
    assert "degrades from length 20" in conclusion("t5", task, {tags[10]: 99.0, tags[20]: 60.0}, trained=10)
    assert "does not degrade" in conclusion("t5", task, {tags[10]: 99.0, tags[20]: 98.0}, trained=10)
    assert "Not trained enough" in conclusion("t5", task, {tags[10]: 52.0, tags[20]: 51.0}, trained=10)
    assert conclusion("t5", task, {tags[10]: 99.0}, trained=10) == ""


def test_facts_stand_under_one_another():
    assert printed(facts_table({"parameters": "1,820", "next": ""})) == [["parameters", "1,820"], ["next"]]


def test_the_log_has_what_the_terminal_has(tmp_path, capsys):
    console = RunConsole(tmp_path / "train.log")
    console.print("long [/brackets] and :smile: " * 5)
    console.print(facts_table({"written to": "outputs/run [bold]"}))
    text = capsys.readouterr().out
    assert (tmp_path / "train.log").read_text().split() == text.split()
    assert "[/brackets] and :smile:" in text and "outputs/run [bold]" in text


def test_other_processes_are_silent_and_keep_no_log(tmp_path, capsys):
    RunConsole(tmp_path / "train.log", silent=True).print("hello")
    assert capsys.readouterr().out == ""
    assert not (tmp_path / "train.log").exists()


def test_a_run_tells_its_story_to_a_file_without_a_bar(tmp_path, capsys):
    run = run_of(small(tmp_path, "encoding=t5", "encoding.num_buckets=16"), tmp_path / "run")
    text = capsys.readouterr().out
    assert "\x1b" not in text and "\r" not in text
    assert "t5 num_buckets=16: 8,288 parameters, 32-true" in text
    assert re.search(r"text: [\d,]+ train, .*test tokens \(bytes, 257\)", text)
    assert re.search(r"overlap with training: [\d.]+% .*test", text)
    lines = [line.split() for line in text.splitlines()]
    assert ["|", "validation:", "bits", "per", "byte", "at", "context", "(tokens)"] in lines
    assert ["step", "train", "|", "16", "32"] in lines
    assert [line[0] for line in lines if len(line) == 5 and line[0] in ("2", "4")] == ["2", "4"]
    for fact in ("parameters", "training", "total", "peak", "written", "curves", "report", "sample", "Not"):
        assert any(line and line[0] == fact for line in lines), fact
    for command in (f"tensorboard --logdir {run.path.parent}", f'python -m src.generate run={run.path} prompt="The "'):
        assert command in text, "not on one line"


@pytest.mark.slow
def test_a_terminal_gets_a_live_bar(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes whatever it writes to for a terminal
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    run = run_of(small(tmp_path, "trainer.max_steps=60", "trainer.validations=1"), tmp_path / "run")
    text = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", capsys.readouterr().out)
    assert re.search(r"train .* \d+/60 loss \d\.\d{3}  bits per byte \d\.\d{3}  [\d,]+ tokens/s", text)
    assert "\x1b" not in run.log_file.read_text() and not re.search(r"bits per byte \d", run.log_file.read_text())


def test_lines_of_tables_in_the_log_do_not_end_in_blanks(tmp_path):
    console = RunConsole(tmp_path / "train.log")
    console.print(facts_table({"parameters": "1", "written to": "outputs"}))
    assert (tmp_path / "train.log").read_text() == "parameters  1\nwritten to  outputs\n"


class RequestsAStop(L.Callback):
    """Requests a stop, as a signal does, in a batch of the validation after a step, or of the step itself."""

    def __init__(self, step: int, validates: bool) -> None:
        self.step, self.validates = step, validates

    def on_validation_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: object) -> None:
        if self.validates and trainer.global_step == self.step:
            pl_module.stop_requested = True  # type: ignore[assignment]

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: object) -> None:
        if not self.validates and trainer.global_step == self.step - 1:
            pl_module.stop_requested = True  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("step", "validates", "micro_batch_size", "announced", "last_step"),
    [
        (2, True, 4, "this validation and one more step", 3),
        (4, True, 4, "this validation", 4),
        (2, False, 4, "this validation", 2),
        (1, False, 4, None, 1),
        (1, False, 2, "this step and any validation that is due", 1),
    ],
)
def test_a_stop_is_announced_once_with_what_the_run_still_does(
    tmp_path, capsys, step, validates, micro_batch_size, announced, last_step
):
    run, signals = RunDirectory(tmp_path / "run"), StopOnSignals()
    config = small(tmp_path, f"trainer.micro_batch_size={micro_batch_size}")
    run.start(config, {})
    with contextlib.nullcontext() if last_step == 4 else pytest.raises(RunInterruptedError):
        train_here(run, check(config, None), None, signals, callbacks=[RequestsAStop(step, validates)])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("stopping")]
    assert lines == ([f"stopping after {announced}; Ctrl-C again stops at once"] if announced else [])
    assert max(step for step, _, _ in recorded(run)) == last_step


class Clock(L.Callback):
    """A clock by which a step takes a second, and one from step 20 on as many seconds as it says."""

    def __init__(self, slow_step_s: float) -> None:
        self.slow_step_s, self.now = slow_step_s, 0.0

    def monotonic(self) -> float:
        return self.now

    def on_train_batch_start(self, trainer: L.Trainer, *_: object) -> None:
        self.now += 1.0 if trainer.global_step < 20 else self.slow_step_s


def lines_of_a_run(tmp_path, monkeypatch, capsys, slow_step_s):
    clock = Clock(slow_step_s)
    monkeypatch.setattr("poslab.training.console.time", clock)
    recipe = check(small(tmp_path, "trainer.max_steps=40", "trainer.validations=1"))
    run = RunDirectory(tmp_path / "run")
    run.start(recipe.config, {})
    train_here(run, recipe, None, StopOnSignals(), callbacks=[clock])
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(("slow_step_s", "warnings"), [(2.5, 0), (6.0, 1)])
def test_steps_that_become_three_times_as_long_are_warned_of_once(tmp_path, monkeypatch, capsys, slow_step_s, warnings):
    lines = lines_of_a_run(tmp_path, monkeypatch, capsys, slow_step_s)
    assert ["6 s" in line and "6 times" in line for line in lines if line.startswith("warning: ")] == [True] * warnings


def test_a_run_without_a_terminal_prints_a_line_a_minute(tmp_path, monkeypatch, capsys):
    lines = [line.split() for line in lines_of_a_run(tmp_path, monkeypatch, capsys, 20.0)]
    assert [int(line[0]) for line in lines if line[-2:] == ["min", "left"]] == [22, 25, 28, 31, 34, 37]
