"""Terminal output of a run: a live bar, a line for each validation, a table, and commands to copy."""

from __future__ import annotations

import contextlib
import io
import math
import re
import shlex
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning as L
import torch
from omegaconf import OmegaConf
from rich import box
from rich.console import RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from poslab.configuration.build import is_pretrained
from poslab.configuration.command_line import assignment, poslab_command, trusting
from poslab.configuration.labels import OF_THE_ENCODING, choice_file
from poslab.data.patched.source import PatchedSource
from poslab.encodings import Alibi, NoPosition, PositionalEncoding, PretrainedPositions, Rotary
from poslab.io.terminal import HarmlessConsole
from poslab.runs.directory import RunDirectory
from poslab.runs.recipe import Recipe
from poslab.tasks.answering import Answering
from poslab.tasks.language_modelling import CONTEXT_MARGIN
from poslab.tasks.task import Task
from poslab.training.checking import check
from poslab.training.learner import Learner

LOG_WIDTH = 100

TIMED_STEPS = 10  # steps over which the time of a step is averaged: some are longer than others only by their texts
SLOW_FACTOR = 3.0  # a step that takes as many times the fastest one is slow enough for a warning
TOLERANCE = 0.05  # share by which a metric other than bits per byte may be worse beyond the training length
LEARNED = 0.75  # share of the loss of token frequencies above which a model of text is not trained enough to judge
MIN_SCORE = 10.0  # score out of 100 below which a run has not learned its task
LINE_INTERVAL_S = 60.0  # seconds without a line after which a run that has no terminal prints where it is


class RunConsole:
    """A printer to the terminal and to a log, if there is one; silent in all processes of a run but the first."""

    def __init__(self, log_file: Path | None = None, silent: bool = False) -> None:
        self.terminal = HarmlessConsole(quiet=silent)
        self._log_file = None if silent else log_file

    def print(self, content: RenderableType) -> None:
        """Print a line or a table."""
        soft_wrap = isinstance(content, str | Text)
        self.terminal.print(content, soft_wrap=soft_wrap)
        if self._log_file is not None:
            text = io.StringIO()
            HarmlessConsole(text, force_terminal=False, width=LOG_WIDTH).print(content, soft_wrap=soft_wrap)
            with self._log_file.open("a") as file:
                file.writelines(f"{line.rstrip()}\n" for line in text.getvalue().splitlines())


class ConsoleProgress(L.Callback):
    """A live bar with loss, the task's headline and tokens per second, and a line for each validation.

    Without a terminal the console gets only the lines, and another one after every minute without any. A warning
    is printed once of steps that take several times as long as the fastest ones.
    """

    def __init__(self, console: RunConsole) -> None:
        self.console = console
        self._says_that_it_stops = False
        self._fastest_step_s, self._warned_of_slow_steps = math.inf, False
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[metrics]}"),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=console.terminal,
            transient=True,
            disable=not console.terminal.is_terminal,
            expand=True,
        )

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, Learner)
        task = pl_module.task
        lengths = [f"{length:,}" for length in pl_module.lengths["validation"]]
        columns = [*(["all"] if task.aggregate_lengths else []), *lengths]
        unit = task.length_words.of.partition(" in ")[2]
        at = f"{task.length_words.name} ({unit})" if unit else task.length_words.name
        self.console.print(f"{'':>18} | validation: {words(task.headline)} at {at}")
        self.console.print(f"{'step':>8}{'train':>10} |" + "".join(f"{name:>{_width(columns)}}" for name in columns))
        if not trainer.is_global_zero:
            return
        self._timed_from = trainer.global_step, time.monotonic()
        self._newest_line = time.monotonic()
        self._bar.start()
        self._task = self._bar.add_task("train", total=trainer.max_steps, completed=trainer.global_step, metrics="")

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, Learner)
        if not trainer.is_global_zero:
            return
        metrics = pl_module.metrics
        shown = ""
        if "train/loss" in metrics:
            task = pl_module.task
            headline = task.headline
            shown = f"loss {metrics['train/loss']:.3f}  " if headline != "loss" else ""
            newest = metrics[f"train/{headline}"]
            shown += f"{words(headline)} {shown_metric(task, headline, newest, open_ended=3)}"
            if (rate := metrics.get("train/tokens_per_second")) is not None:
                shown += f"  {rate:,.0f} tokens/s"
        self._bar.update(self._task, completed=trainer.global_step, metrics=shown, description="train")
        if (batch_idx + 1) % trainer.accumulate_grad_batches:  # the step is not over
            self._announce_stop(pl_module, "this step and any validation that is due")
        else:
            self._time_steps(trainer, shown)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero and trainer.state.fn == "fit":
            self._bar.update(self._task, description="validate")

    def on_validation_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        assert isinstance(pl_module, Learner)
        if trainer.is_global_zero and trainer.state.fn == "fit":
            is_last = pl_module.stopping or trainer.global_step == trainer.max_steps
            self._announce_stop(pl_module, "this validation" if is_last else "this validation and one more step")

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, Learner)
        if trainer.is_global_zero and trainer.state.fn == "fit":
            metrics, task = pl_module.metrics, pl_module.task
            headline = task.headline
            tags = [f"validation/{headline}@{length}" for length in pl_module.lengths["validation"]]
            if task.aggregate_lengths:
                tags.insert(0, f"validation/{headline}")
            # A run that has just resumed may have no recorded training step yet.
            newest = metrics.get(f"train/{headline}")
            train = "–" if newest is None else shown_metric(task, headline, newest)
            width = _width(tags)
            columns = (f"{shown_metric(task, headline, metrics[tag]):>{width}}" for tag in tags)
            self.console.print(f"{trainer.global_step:>8}{train:>10} |" + "".join(columns))
            self._newest_line = time.monotonic()
            self._timed_from = trainer.global_step, self._newest_line

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._bar.stop()
        for callback in trainer.early_stopping_callbacks:
            if reason := callback.stopping_reason_message:
                self.console.print(f"training ends early: {reason.removesuffix(' Signaling Trainer to stop.')}")

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._bar.stop()

    def _time_steps(self, trainer: L.Trainer, metrics: str) -> None:
        """Warn once of steps that have become slow, and print where training is if no line has for long."""
        step, now = trainer.global_step, time.monotonic()
        first, began = self._timed_from
        if step == first:
            return
        step_s = (now - began) / (step - first)
        if step - first >= TIMED_STEPS:
            self._timed_from = step, now
            self._fastest_step_s = min(self._fastest_step_s, step_s)
            if step_s > SLOW_FACTOR * self._fastest_step_s and not self._warned_of_slow_steps:
                self._warned_of_slow_steps = True
                has_threads = trainer.strategy.root_device.type == "cpu" and torch.get_num_threads() > 1
                advice = "; OMP_NUM_THREADS=1 may help" if has_threads else ""
                self.console.print(
                    f"warning: a step takes {step_s:.2g} s, {step_s / self._fastest_step_s:.0f} times the fastest: "
                    f"other programs may use the machine{advice}"
                )
        is_silent = not self.console.terminal.is_terminal and now - self._newest_line >= LINE_INTERVAL_S
        if is_silent and step < trainer.max_steps:
            self._newest_line = now
            minutes = math.ceil((trainer.max_steps - step) * step_s / 60)
            self.console.print(f"{step:>8}  {metrics}  about {minutes:,} min left")

    def _announce_stop(self, learner: Learner, last_work: str) -> None:
        """Print once what the run still does after a signal; not in the signal's handler, where printing is unsafe."""
        if learner.stop_requested and not self._says_that_it_stops:
            self._says_that_it_stops = True
            self.console.print(f"stopping after {last_work}; Ctrl-C again stops at once")


def _width(columns: Sequence[str]) -> int:
    """Return the width of a column of metrics: 9, or 8 if all would not fit into 80 characters."""
    return 9 if 9 * len(columns) <= 60 else 8


def test_table(task: Task, metrics: Mapping[str, float], lengths: Sequence[int], trained: int, step: int) -> Table:
    """Return the test metrics of a run, a row for each of ascending lengths, a dash beyond the end of the encoding.

    Rows of examples have their number, since metrics of few are uncertain. `metrics` are by tag, `trained` is the
    longest training length, and `step` the step of the tested checkpoint.
    """
    table = Table(box=box.SIMPLE_HEAD, title=f"Test results (best checkpoint, step {step:,})", title_justify="left")
    if scored := [words(name) for name in task.shown if name not in task.open_ended]:
        table.caption, table.caption_justify = f"out of 100: {', '.join(scored)}", "left"
    second = "examples" if task.aggregate_lengths else "x training"
    for name in (task.length_words.name, second, *(words(name).replace("loss", "loss (nats)") for name in task.shown)):
        table.add_column(name, justify="right")

    rows = [(f"{length:,}", f"@{length}", f"{round(length / trained, 2):g}x") for length in lengths]
    rows += [("all", "", "")] if task.aggregate_lengths else []
    rows += [("beyond", "_beyond", "")] if any(f"test/{name}_beyond" in metrics for name in task.shown) else []
    for length, suffix, multiple in rows:
        examples = "" if length == "beyond" else f"{metrics.get(f'test/examples{suffix}', 0):,}"
        tags = {name: f"test/{name}{suffix}" for name in task.shown}
        cells = (shown_metric(task, name, metrics[tag]) if tag in metrics else "–" for name, tag in tags.items())
        table.add_row(length, examples if task.aggregate_lengths else multiple, *cells)
    return table


def conclusion(name: str, task: Task, metrics: Mapping[str, float], trained: int, unigram: float | None = None) -> str:
    """Return in a line how a run of an encoding does beyond its training length; empty if no test is longer.

    Arguments as of `test_table`; `unigram` is the loss of predicting tokens by their frequency, None for other tasks.
    """
    metric, at, tag = task.first_metric(), task.length_words.name, "test/{}@".format
    by_length = {int(key.partition("@")[2]): value for key, value in metrics.items() if key.startswith(tag(metric))}
    longest, reference = max(by_length, default=0), max((x for x in by_length if x <= trained), default=0)
    if not 0 < reference < longest:
        return ""
    before = by_length[reference]
    classes = 2 if isinstance(task, Answering) else len(getattr(task.record(), "classes", ()))  # symbols: at least two
    sign, loss = 1 if metric in task.open_ended else -1, metrics.get(f"{tag('loss')}{reference}", 0)
    if unigram is not None and loss > LEARNED * unigram:
        return f"Not trained enough to judge: loss {loss:.2f} at {at} {reference:,}, token frequencies {unigram:.2f}."
    if sign < 0 and before < max(MIN_SCORE, 150 / max(classes, 2) if classes else 0):
        return f"Not trained enough to judge: {words(metric)} {before:.2f} at {at} {reference:,}."
    limit = before + CONTEXT_MARGIN if metric == "bits_per_byte" else (1 + sign * TOLERANCE) * before
    worse = [length for length, x in by_length.items() if length > trained and not sign * x <= sign * limit]
    verdict = f"degrades from {at} {min(worse):,} on" if worse else f"does not degrade to {at} {longest:,}"
    return f"{name} {verdict}: {words(metric)} {before:.2f} -> {by_length[longest]:.2f} at {longest / reference:.3g}x."


def shown_metric(task: Task, name: str, value: float, open_ended: int = 4) -> str:
    """Return a metric of a task as text, with two decimals, or `open_ended` if it has no largest value."""
    return f"{value:.{open_ended if name in task.open_ended else 2}f}"


def words(name: str) -> str:
    """Return the name of a metric in words."""
    return name.replace("_", " ")


def closing_facts(metrics: Mapping[str, float], seconds: float) -> Table:
    """Return the cost of a run, from its final metrics and the seconds of all that it did in this process."""
    utilisation = f", {metrics['train/mfu']:.0f}% MFU" if "train/mfu" in metrics else ""
    privacy = {}
    if "train/epsilon" in metrics:
        privacy["privacy"] = f"epsilon {metrics['train/epsilon']:.3g}, delta {metrics['train/delta']:.3g} for each row"
    return facts_table(
        {
            "parameters": f"{metrics['parameters']:,}",
            "training": f"{metrics['steps']:,} steps in {timedelta(seconds=round(metrics['train/seconds']))}, "
            f"{metrics['train/tokens_per_second']:,.0f} tokens/s{utilisation}",
            "total time": f"{timedelta(seconds=round(seconds))}, with preparation, validation and test",
            "peak memory": f"{metrics['memory/peak_mb']:,.0f} MB",
            **privacy,
        }
    )


def facts_table(rows: Mapping[str, str]) -> Table:
    """Return a table of facts, with their names on the left."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, value)
    return table


PARTNERS = {"alibi": Alibi, "rotary": Rotary}  # encodings to compare a run with, by their names in conf/encoding

PARTNERS_ON_AXES = {"rotary_axial": Rotary, "alibi_grid": Alibi}
"""The same for data whose tokens have positions on several axes."""

PARTNERS_OF_PRETRAINED = {"pretrained": PretrainedPositions, "none": NoPosition}


def next_commands(run: RunDirectory, recipe: Recipe, task: Task) -> list[str]:
    """Return commands to inspect and use a finished run, and, if its choices are known, to train others like it."""
    named = [assignment("run", run.path), *trusting(run.trust)]
    commands = {}
    if "tensorboard" in recipe.loggers():
        commands["curves"] = shlex.join(["tensorboard", "--logdir", str(run.path.parent)])
    commands["report"] = poslab_command("evaluate", *named)
    if task.predicts_next_tokens:
        commands["sample"] = f'{poslab_command("generate", *named)} prompt="The "'
    elif (prompt := task.example_prompt()) is not None:
        commands["answer"] = f"{poslab_command('generate', *named)} prompt={prompt}"
    if _varies_encoding(run.path.parent / "multirun.yaml"):
        commands["all runs"] = poslab_command(
            "compare", assignment("runs", run.path.parent / "*"), *trusting(run.trust)
        )
    if (choices := _choices(run)) is not None:
        if (other := _other_encoding(recipe, choices)) is not None:
            commands["compare"] = poslab_command("train", *without("encoding", choices), f"encoding={other}")
        again = without("start", without("init_from", choices))  # a start would replace the trained encoding
        commands["continue"] = poslab_command("train", *again, assignment("init_from", run.path))
    return ["Next steps:", *(f"  {name:<10}{command}" for name, command in commands.items())]


def _varies_encoding(multirun: Path) -> bool:
    """Return True if this file of a command line with several jobs says that they differ in the encoding."""
    if not multirun.is_file():
        return False
    words = OmegaConf.select(OmegaConf.load(multirun), "hydra.overrides.task", default=[])
    return any(re.match(rf"[+~]*({'|'.join(OF_THE_ENCODING)})[.@=][^[{{]*,", word) for word in words)


def _choices(run: RunDirectory) -> list[str] | None:
    """Return the words that a run was started with; None if they are unknown, or not written by a command of Poslab.

    A resumed run may be untrusted, and its words must not make people trust a package, or make Hydra run something.
    """
    if (choices := run.choices()) is None:
        return None
    others = [choice.lstrip("+~") for choice in choices if not choice.startswith("hydra.searchpath=")]
    trusts = [choice.partition("=")[2] for choice in others if choice.startswith("trust")]
    trusted = {name for typed in trusts for name in re.findall(r"[\w.]+", typed)}
    if any(choice.startswith("hydra") for choice in others) or not trusted <= set(run.trust):
        return None
    last = {choice.partition("=")[0]: index for index, choice in enumerate(choices)}  # a key that is given again counts
    return [c for index, c in enumerate(choices) if "=" not in c or last[c.partition("=")[0]] == index]


def without(key: str, choices: Sequence[str]) -> list[str]:
    """Return choices without the choices of a key and the keys below it."""
    return [choice for choice in choices if re.match(rf"[+~]*({key}@)?{key}([=.]|$)", choice) is None]


def _other_encoding(recipe: Recipe, choices: Sequence[str]) -> str | None:
    """Return an encoding of another class that the run could have; None if its other choices rule them out."""
    # A whole configuration, such as best.yaml of a sweep, has no group to choose from, and an experiment may set keys
    # of its own encoding.
    experiments = [choice_file("experiment", c.partition("=")[2]) for c in choices if c.startswith("experiment=")]
    if "--config-name" in choices or not all(file and "encoding" not in file for file in experiments):
        return None
    partners: Mapping[str, type[PositionalEncoding]] = PARTNERS
    if is_pretrained(recipe.config["model"]):
        partners = PARTNERS_OF_PRETRAINED
    elif isinstance(recipe.source, PatchedSource) and len(recipe.source.axes) > 1:
        partners = PARTNERS_ON_AXES
    present = list(recipe.model.on_meta.encodings)
    for name, kind in partners.items():
        if not any(isinstance(encoding, kind) for encoding in present):
            with contextlib.suppress(ValueError):  # a fixed route of attention, or positions that it cannot have
                check({**recipe.config, "encoding": choice_file("encoding", name)})
                return name
    return None
