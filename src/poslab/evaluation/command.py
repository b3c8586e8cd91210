"""The work of `python -m src.evaluate` after its command line has been read."""

from __future__ import annotations

import hashlib
import inspect
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from rich import box
from rich.table import Table as Lines

from poslab.configuration.build import build, full_keys
from poslab.configuration.labels import label, labels, names_in_plots
from poslab.data import cache
from poslab.data.source import default_cache
from poslab.encodings import EncodingFactory, StackEncodings, StackShape
from poslab.evaluation.evaluated_run import EvaluatedRun
from poslab.evaluation.evaluation import Evaluation, evaluate
from poslab.evaluation.opening import open_pretrained, open_run, with_different_names
from poslab.evaluation.parts.rotary import TEXT, rotary_diagnostics
from poslab.evaluation.settings import Progress, Request
from poslab.evaluation.summary import WITHIN
from poslab.io.terminal import HarmlessConsole
from poslab.report.figures import Section, Table
from poslab.report.text import listed
from poslab.runs.checkpoint import checkpoint_file
from poslab.runs.loading import device_named
from poslab.runs.processes import external_environment, join, set_up_cpu


def evaluate_runs(
    paths: Sequence[str], request: Request, swaps: Sequence[Mapping[str, Any]], swap_choice: str | None
) -> None:
    """Evaluate runs side by side, or each next to itself under another encoding, and write and print the results.

    Paths are run directories or checkpoints, all different. Swaps replace the encoding of each run by the choice
    `swap_choice`, or are empty.
    """
    is_first = _begin()
    chosen, trust = (request.split, request.tokens, device_named(request.device)), request.trust
    runs = with_different_names([open_run(path, *chosen, trust=trust) for path in paths], paths)
    if swaps:
        swapped = [open_run(path, *chosen, swap, request.seed, trust) for path, swap in zip(paths, swaps, strict=True)]
        runs += with_different_names(swapped, paths)
    _require_same_test(runs)
    name = f"evaluation_{swap_choice}" if swaps else "evaluation"
    _evaluate(runs, request, f"Evaluation of {_names(runs)}", name if len(paths) == 1 else None, is_first)


def evaluate_pretrained(models: Sequence[PretrainedChoice], request: Request) -> None:
    """Evaluate a pretrained model before any training, under several encodings side by side, and write the results.

    They go to a new directory in outputs/, unless the request names one: there is no run.
    """
    is_first = _begin()
    chosen = (request.split, request.tokens, device_named(request.device))
    names = labels([model.config for model in models])
    runs = [
        replace(open_pretrained(model.config, model.choices, *chosen), name=model.name or name)
        for model, name in zip(models, names, strict=True)
    ]
    if len({run.name for run in runs}) < len(runs):
        raise ValueError(f"encodings must all be different, got {', '.join(run.name for run in runs)}")
    title = f"{Path(runs[0].path).name} under {_names(runs)}, before any training"
    _evaluate(runs, request, title, None, is_first)


class PretrainedChoice(NamedTuple):
    """A pretrained model under an encoding: its name in the report (None is its label), the resolved configuration of a
    run that would train it, and the words of the command line that compose that.
    """

    name: str | None
    config: Mapping[str, Any]
    choices: Sequence[str]


def _begin() -> bool:
    """Prepare this process, which may be one of several; return True if it is the first."""
    set_up_cpu()
    environment = external_environment()
    if environment is not None:
        join(environment, torch.cuda.is_available())
    return environment is None or environment.global_rank() == 0


def _identity(runs: Sequence[EvaluatedRun], request: Request) -> str:
    """Return a name for an evaluation, which another one has only if its numbers are the same."""
    models = []
    for run in runs:
        folder = Path(run.path)
        files = (
            [checkpoint_file(run.path)] if run.directory else [*folder.glob("*.safetensors"), *folder.glob("*.json")]
        )
        files += {Path(inspect.getfile(type(encoding))) for encoding in run.model.encodings}  # code that may be edited
        stats = sorted((str(file.absolute()), file.stat().st_size, file.stat().st_mtime_ns) for file in files)
        text = None if run.text is None else hashlib.sha256(run.text.tokens.tobytes()).hexdigest()
        models.append([run.name, dict(run.recipe.config), dict(run.swap), str(folder), stats, text])
    asked = [request.lengths, request.stride, request.seed, request.split, request.tokens, request.device]
    asked.append(asdict(request.retrieval))
    return cache.key({"models": models, "asked": asked, "version": version("poslab")})


SECONDS_BETWEEN_LINES = 10
"""Time between two lines of progress where there is no terminal, except those that begin a part."""


def now_and_then(show: Callable[[str], object], clock: Callable[[], float] = time.monotonic) -> Callable[[str], None]:
    """Return what shows lines of progress, of which many come one after another, at a pace that suits a log."""
    last = clock()

    def announce(line: str) -> None:
        nonlocal last
        if line.endswith("...") or clock() - last >= SECONDS_BETWEEN_LINES:
            last = clock()
            show(line)

    return announce


def _evaluate(runs: Sequence[EvaluatedRun], request: Request, title: str, name: str | None, is_first: bool) -> None:
    """Evaluate runs, and write and print the results.

    They go to `request.output`, else into the directory of the run by this name, or a new one if it is None.
    """
    run = runs[0].directory
    in_run = None if name is None or run is None else run.path / name
    directory = Path(request.output or in_run or _new_directory())
    written = directory.with_name(f".{directory.name}.writing") if directory == in_run else directory
    if files := [path for path in (directory, written) if path.is_file()]:
        raise ValueError(f"{files[0]} must be a folder, for the evaluation is written there, and is a file")
    steps = run.metrics().get("steps", 0) if run is not None and directory == in_run and run.is_finished else 0
    request = request.with_tokens(max(run.data.longest_trained for run in runs))
    console = HarmlessConsole(quiet=not is_first)
    kept = None if external_environment() else default_cache() / "evaluations" / _identity(runs, request)
    if kept is not None and kept.is_dir():
        console.print("continuing an evaluation that was interrupted")
    with console.status("") as status:
        announce = status.update if console.is_terminal else now_and_then(partial(console.print, soft_wrap=True))
        request = replace(request, progress=Progress(announce, kept))
        evaluation = evaluate(runs, request)
    if not is_first:
        return
    if not evaluation.sections:
        raise ValueError(f"parts must contain one that shows something of {_names(runs)}, got {request.parts}")
    if written != directory:
        shutil.rmtree(written, ignore_errors=True)  # left by an evaluation that was killed
    drawn = evaluation.write(written, title, _facts(runs, request), request.figure_width)
    if run is not None and directory == in_run:  # replaces an earlier evaluation, so that their figures do not mix
        shutil.rmtree(directory, ignore_errors=True)
        written.rename(directory)
        evaluation.show_in_tensorboard(run.path, drawn, directory.name, int(steps))
    request.progress.forget()
    _print(console, evaluation, runs, directory)


def _print(console: HarmlessConsole, evaluation: Evaluation, runs: Sequence[EvaluatedRun], directory: Path) -> None:
    for line in summary(evaluation):
        console.print(line)
    by_reason: dict[str, list[str]] = {}
    for part, reason in evaluation.left_out.items():
        by_reason.setdefault(reason, []).append(part)
    if by_reason:
        console.print("left out:", "; ".join(f"{', '.join(parts)} ({reason})" for reason, parts in by_reason.items()))
    if evaluation.lead is None:  # which starts with them
        for warning in (warning for run in runs for warning in run.warnings):
            console.print(warning, soft_wrap=True)
    console.print(f"written: {directory / 'report.html'}", soft_wrap=True)


def _names(runs: Sequence[EvaluatedRun]) -> str:
    return listed([run.name for run in runs])


def diagnose_encoding(config: Mapping[str, Any], request: Request) -> None:
    """Write and print the diagnostics of a rotary encoding, which need no run.

    The configuration has its node `encoding`, and the sizes that the encoding needs to know. ValueError for an encoding
    that does not rotate queries and keys, among other mistakes.
    """
    head_dim, training_length = config["model"]["head_dim"], config["dataset"]["sequence_length"]
    for key, value in (("model.head_dim", head_dim), ("dataset.sequence_length", training_length)):
        if type(value) is not int or value < 1:
            raise ValueError(f"{key} must be a positive integer, got {value}")
    request = request.with_tokens(training_length)
    shape = StackShape(head_dim, 1, 1, 1, head_dim, causal=True, digits=(0,))
    with full_keys("encoding", config):
        (encoding,) = StackEncodings(build(config, "encoding", EncodingFactory), shape)
    name = label(config)
    figures = rotary_diagnostics(encoding, head_dim, training_length, request.lengths or [training_length])
    evaluation = Evaluation([Section("Rotary diagnostics", TEXT, figures)])
    directory = Path(request.output or _new_directory())
    facts = {
        "encoding": name,
        "head dimension": str(head_dim),
        "training length": f"{training_length:,} tokens",
        "arguments": " ".join(request.typed),
        "made": f"{datetime.now():%Y-%m-%d %H:%M}",
    }
    evaluation.write(directory, f"{name} before training", facts, request.figure_width)
    console = HarmlessConsole()
    for table in (figure for figure in figures if isinstance(figure, Table) and figure.name == "rotary_base_bound"):
        numbers = table.frame.astype(object).map(
            lambda value: value if isinstance(value, bool) or pd.isna(value) else f"{value:,.0f}"
        )
        console.print(_lines(table.title, numbers.replace({True: "yes", False: "no"}), wraps=True))
    console.print(f"written: {directory / 'report.html'}", soft_wrap=True)


def _new_directory() -> Path:
    return Path("outputs") / f"{datetime.now():%Y-%m-%d_%H-%M-%S}_evaluation"


def _require_same_test(runs: Sequence[EvaluatedRun]) -> None:
    """Raise ValueError for runs that cannot be compared."""
    first, *others = runs
    for other in others:
        both = f"{first.location} and {other.location}"
        if first.recipe.task is not other.recipe.task:
            raise ValueError(f"runs must have learned the same task to be compared, unlike {both}")
        if first.tokenizer.vocab_size != other.tokenizer.vocab_size:
            raise ValueError(f"runs must have the same tokenizer to be compared, unlike {both}")
        if first.text is not None and other.text is not None:
            if not np.array_equal(first.text.tokens, other.text.tokens):
                raise ValueError(f"runs must have been kept from the same text to be compared, unlike {both}")
            if first.text.documents_apart != other.text.documents_apart:
                raise ValueError(f"runs must both keep documents apart, or neither, to be compared, unlike {both}")
            continue
        shared = set(first.data.lengths_of(first.split)) & set(other.data.lengths_of(other.split))
        pairs = [(run.data.identity(run.split, length) for run in (first, other)) for length in shared]
        if not pairs or any(of_first != of_other for of_first, of_other in pairs):
            raise ValueError(f"runs must have the same test examples to be compared, unlike {both}")


def _facts(runs: Sequence[EvaluatedRun], request: Request) -> dict[str, str]:
    warnings = [warning for run in runs for warning in run.warnings]
    first, in_plots = runs[0], names_in_plots(run.name for run in runs)
    if first.text is not None:
        evaluated = f"{len(first.text.tokens):,} tokens of the {request.split} text of {first.dataset}"
    elif examples := sum(first.data.num_examples(request.split).values()):
        evaluated = f"{examples:,} {request.split} examples of {first.dataset}"
    else:
        evaluated = f"the {request.split} split of {first.dataset}"
    return {
        "model" if first.directory is None else "runs": ", ".join(dict.fromkeys(str(run.location) for run in runs)),
        "encodings": ", ".join(run.name for run in runs),
        **({"in plots": in_plots} if in_plots else {}),
        "trained": ", ".join(dict.fromkeys(run.trained_at for run in runs)),
        "evaluated on": evaluated,
        **({"doubts": "; ".join(warnings)} if warnings else {}),
        "arguments": " ".join(request.typed),
        "made": f"{datetime.now():%Y-%m-%d %H:%M}",
    }


def summary(evaluation: Evaluation) -> Iterator[str | Lines]:
    """Yield the conclusion: a table for each metric, in at most 80 columns."""
    if evaluation.lead is None:
        return
    yield from filter(None, evaluation.lead.text.split("\n\n"))
    tables = [figure for figure in evaluation.lead.figures if isinstance(figure, Table)]
    names = dict.fromkeys(name for table in tables for name in table.frame.get("model", ()))
    is_long = max(map(len, names), default=0) > MAX_NAME
    numbers = {name: f"[{number}]" for number, name in enumerate(names, 1) if is_long}
    yield from (f"{number} {name}" for name, number in numbers.items())
    for table in tables:
        frame = (table.frame if "metric" in table.frame else table.frame.assign(metric="")).replace(numbers)
        if table.name == "longer_context":  # too wide with the names of models in each row
            frame = frame.assign(metric=f"{table.title.lower()}: " + frame["model"]).drop(columns="model")
            frame = frame.rename(columns={"own window": "own\nwindow"})
        name, *lengths = [column for column in frame.columns if column != "metric"]
        for metric, rows in frame.groupby("metric", sort=False):
            present = [column for column in lengths if column != WITHIN or rows[column].notna().any()]
            for first in range(0, len(present), MAX_COLUMNS):
                shown = rows[[name, *present[first : first + MAX_COLUMNS]]]
                heading = "" if name in ("model", "task") else name
                yield _lines(str(metric), shown.rename(columns={name: heading}))


def _lines(title: str, frame: pd.DataFrame, wraps: bool = False) -> Lines:
    """Return a table of texts for the terminal; `wraps` lets wide headings take several lines, as verdicts may."""
    lines = Lines(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    for number, column in enumerate(frame.columns):
        is_whole = bool(number) and not wraps and column != WITHIN
        lines.add_column(str(column), justify="right" if number else "left", no_wrap=is_whole, overflow="fold")
    for row in frame.itertuples(index=False):
        lines.add_row(*("-" if pd.isna(value) else str(value) for value in row))
    return lines


MAX_COLUMNS, MAX_NAME = 7, 24
"""Columns of numbers and characters of a name that fit into 80; names where one is longer are numbered."""
