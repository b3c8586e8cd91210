"""Benchmarks of language models under several encodings: the same items for all, and their results as a comparison."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
import torch

from poslab.arguments import Count, Positive, Range, nearest, with_checked_arguments
from poslab.configuration.command_line import CONF
from poslab.configuration.labels import labels
from poslab.data import cache
from poslab.data.source import default_cache, require_choice
from poslab.evaluation.benchmarks import long_text, prompts
from poslab.evaluation.benchmarks.fitting import text_of
from poslab.evaluation.benchmarks.subjects import PretrainedSubject, RunSubject, Subject
from poslab.evaluation.benchmarks.tasks import (
    Benchmark,
    ItemMetric,
    PromptTask,
    harness_tasks,
    quieten_harness,
)
from poslab.evaluation.command import PretrainedChoice, now_and_then
from poslab.evaluation.scores.items import ItemScores, MeasuredRun
from poslab.evaluation.settings import Progress
from poslab.experiments.collect import write_tables
from poslab.experiments.command import Publication
from poslab.experiments.comparison import Comparison
from poslab.experiments.existing import KnownRun, distinct_names, encoding_names, finished_run
from poslab.experiments.jobs import one_at_a_time
from poslab.experiments.metrics import tag_of
from poslab.experiments.mistakes import checked
from poslab.experiments.report.write import print_table
from poslab.experiments.results import Results
from poslab.experiments.storage import claim, open_output
from poslab.experiments.tables import RunResult
from poslab.io.files import write_atomically
from poslab.io.terminal import HarmlessConsole
from poslab.report.text import amount, roughly
from poslab.runs.loading import device_named
from poslab.runs.recipe import recipe_of

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

OWNER = "benchmarks"
"""Owner of a directory with benchmarks, instead of the identity of a study."""

Scoring = Literal["generated", "forced"]


@with_checked_arguments
@dataclass(frozen=True)
class BenchRequest:
    """Benchmarks as a command line requests them.

    Args:
        tasks: names of tasks or groups: of `prompts.TASKS`, `longppl`, or of lm-evaluation-harness.
        lengths: most tokens of a prompt with its answer, of tasks that have lengths.
        samples: items of each task and length; None is all of tasks of the harness, and 100 of others.
        scoring: whether answers are generated, teacher-forced, or both.
        seed: of the prompts.
        files: text files for the tasks with own text, and for longppl.
        answers: files of questions, for `qa_squad` and `qa_hotpot`.
        include_path: folder with own tasks of the harness.
        few_shot: examples in the prompts of tasks of the harness; None is as each says.
        chat: whether prompts have the chat template of the model.
        margin: smallest difference that matters, of shares in per cent.
        loss_margin: of losses, in nats per token.
        baseline: name of the encoding to which others are compared; None is the first.
        output: directory of the results; None is a new one in outputs/.
        dry_run: whether to measure only the first item of each task, and say how long the rest takes.
        typed: words of the command line, for the report.
    """

    tasks: Sequence[str]
    lengths: Sequence[Count] | None = None
    samples: Count | None = None
    scoring: Sequence[Scoring] = ("generated", "forced")
    seed: Annotated[int, Range(0, 2**32 - 1)] = 42
    files: Any = None
    answers: Any = None
    include_path: str | None = None
    few_shot: Annotated[int, Range(at_least=0)] | None = None
    chat: bool = False
    margin: Positive = 5.0
    loss_margin: Positive = 0.05
    baseline: str | None = None
    output: str | None = None
    dry_run: bool = False
    typed: str = ""
    figure_width: Annotated[float, Range(3, 20)] | None = None

    def __post_init__(self) -> None:
        for key in ("tasks", "scoring"):
            if not getattr(self, key):
                raise ValueError(f"{key} must not be empty")
        if self.include_path is not None and not Path(self.include_path).is_dir():
            raise ValueError(f"include_path must be a folder with YAML files of tasks, got {self.include_path}")


def pretrained_subjects(
    choices: Sequence[PretrainedChoice], dtype: str, device: str, seed: int
) -> list[PretrainedSubject]:
    """Return a pretrained model under each encoding; ValueError for encodings that are the same, or another dtype."""
    require_choice("dtype", dtype, DTYPES)
    named = [choice.name or label for choice, label in zip(choices, labels([c.config for c in choices]), strict=True)]
    if len(set(named)) < len(named):
        raise ValueError(f"encodings must all be different, got {', '.join(named)}")
    chosen = device_named(device)
    return [
        PretrainedSubject(
            name, seed, choice.choices, choice.config["model"]["path"], chosen, choice.config, DTYPES[dtype]
        )
        for name, choice in zip(distinct_names(named), choices, strict=True)
    ]


def run_subjects(runs: Sequence[str], device: str, trust: Sequence[str]) -> list[RunSubject]:
    """Return the models of finished runs, whose encodings are named by what differs between them.

    Raises:
        ValueError: for a run that is not finished, or does not continue texts, or two of the same encoding and seed.
    """
    directories = [finished_run(path, trust) for path in runs]
    known = [KnownRun(directory, recipe_of(directory)) for directory in directories]
    for run in known:
        if not run.recipe.task.predicts_next_tokens:
            raise ValueError(f"run must be of a model that continues texts, and {run.run.path} has another task")
    names, chosen = encoding_names({"all": known}, known, CONF), device_named(device)
    keys = [(name, run.recipe.seed) for name, run in zip(names, known, strict=True)]
    if len(set(keys)) < len(keys):
        name, seed = max(keys, key=keys.count)
        raise ValueError(f"runs must differ in their encoding or their seed, and two are {name}, seed {seed}")
    return [
        RunSubject(
            name,
            run.recipe.seed,
            run.run.choices() or [],
            str(run.run.path),
            chosen,
            run.recipe.config,
            run.recipe.source.sequence_length,
            int(run.run.metrics().get("steps", 1)),
            trust,
        )
        for name, run in zip(names, known, strict=True)
    ]


def run_bench(subjects: Sequence[Subject], request: BenchRequest) -> None:
    """Measure models on tasks, and write and print their results; the same command resumes after an interruption.

    Raises:
        ValueError: for an unknown task, a length that a task needs or that is too short, or models whose tokenizers
            differ, before anything is measured.
    """
    quieten_harness()
    console = HarmlessConsole()
    names = [subject.name for subject in subjects]
    if request.baseline is not None and request.baseline not in names:
        raise ValueError(
            f"baseline must be one of {', '.join(names)}, got {request.baseline}{nearest(request.baseline, names)}"
        )
    output = Path(request.output or f"outputs/{datetime.now():%Y-%m-%d_%H-%M-%S}_bench")
    open_output(output)
    claim(output, OWNER, "runs")
    with one_at_a_time(output), console.status("making prompts") as status:
        announce = status.update if console.is_terminal else now_and_then(partial(console.print, soft_wrap=True))
        benchmarks = list(benchmarks_of(subjects, request))
        if request.dry_run:
            table = _times(subjects[0], benchmarks, len(subjects), announce)
        else:
            measured = {(s.name, s.seed): measure(s, benchmarks, announce) for s in subjects}
            require_metrics(benchmarks, measured)
    if request.dry_run:
        print_table(console, "time to go", table)
        console.print("Measured by the first item of each task under the first encoding.")
        return
    write_scores(subjects, benchmarks, measured, request, output, console)


def benchmarks_of(subjects: Sequence[Subject], request: BenchRequest) -> Iterator[Benchmark]:
    """Yield the tasks at their lengths."""
    first, *others = subjects
    for other in others:
        if _vocabulary(other) != _vocabulary(first):
            raise ValueError(
                f"models must have the same tokenizer to be compared, unlike {first.path} and {other.path}"
            )
    if request.chat and getattr(first.tokenizer, "chat_template", None) is None:
        raise ValueError(f"chat=true needs a model with a chat template, and {first.path} has none")
    tasks = list(dict.fromkeys(name for task in request.tasks for name in prompts.GROUPS.get(task, (task,))))
    of_length = [task for task in tasks if task in prompts.TASKS or task == long_text.NAME]
    if of_length and not request.lengths:
        raise ValueError(f"lengths must be given for task={of_length[0]}, as in lengths=[4096,16384]")
    count, text = request.samples or 100, None if request.files is None else text_of(request.files)
    of_template = _template_tokens(first) if request.chat else 0
    for task in of_length:
        for length in sorted(set(request.lengths or ())):
            if task == long_text.NAME:
                yield _long_text(first, length, count, request)
                continue
            room = max(length - of_template, 1)
            items = prompts.items(task, first.tokenizer, room, count, request.seed, text=text, answers=request.answers)
            yield PromptTask(task, length, items, request.scoring, request.chat)
    if rest := [task for task in tasks if task not in of_length]:
        settings = (request.samples, request.chat, request.few_shot, request.include_path)
        metadata = {"pretrained": first.path, "max_seq_lengths": list(request.lengths or [first.training_length])}
        yield from harness_tasks(rest, *settings, metadata)


def _long_text(evaluator: Subject, length: int, count: int, request: BenchRequest) -> Benchmark:
    if request.files is None:
        raise ValueError(f"files must name text files for task={long_text.NAME}")
    if length > evaluator.training_length:
        raise ValueError(
            f"lengths must be at most {evaluator.training_length:,} for task={long_text.NAME}, the training length of "
            f"{evaluator.name}, which finds the tokens that need long context; got {length:,}"
        )
    windows = long_text.windows_of(prompts.called(evaluator.tokenizer), length, count, request.seed, request.files)
    return long_text.LongText(windows, long_text.key_tokens(windows, lambda: evaluator.lm(length), evaluator.name))


def _template_tokens(subject: Subject) -> int:
    """Return how many tokens the chat template adds to a prompt, which may be a few too many."""
    messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
    try:
        text = subject.tokenizer.apply_chat_template(messages, tokenize=False, continue_final_message=True)
    except Exception as error:  # a template is a program
        raise ValueError(f"the chat template of {subject.path} fails: {error or type(error).__name__}") from error
    return len(subject.tokenizer(text).input_ids)


def _vocabulary(subject: Subject) -> Any:
    probe = "The 3 keys: é, 日本, \n\t{}"
    return list(prompts.called(subject.tokenizer)(probe).input_ids)


def measure(
    subject: Subject, benchmarks: Sequence[Benchmark], announce: Callable[[str], None]
) -> list[list[ItemMetric] | None]:
    """Return the metrics of a model on each benchmark; None where its positions end before."""
    folder = default_cache() / "benchmarks"
    kept = cache.key({"model": subject.identity, "tasks": [benchmark.identity for benchmark in benchmarks]})
    progress = Progress(announce, folder / kept)
    progress.begin(f"{subject.name}, seed {subject.seed}", sum(benchmark.work for benchmark in benchmarks))
    measured: list[list[ItemMetric] | None] = []
    for benchmark in benchmarks:
        length = benchmark.length or subject.training_length
        if subject.end is not None and length > subject.end:
            measured.append(None)
        else:
            measured.append(benchmark.measure(subject.answering(length, folder), progress.step))
    if subject.untrained:
        learns = f"{subject.name} learns {subject.untrained:,} numbers, which no training has set"
        print(f"warning: {learns}: its results belong to an untrained encoding", file=sys.stderr)
    subject.close()
    return measured


def require_metrics(
    benchmarks: Sequence[Benchmark], measured: Mapping[tuple[str, int], Sequence[list[ItemMetric] | None]]
) -> None:
    """Raise ValueError if no model has a metric of any task."""
    every = [of_task for of_model in measured.values() for of_task in of_model]
    if any(every):
        return
    if all(of_task is None for of_task in every):
        shortest = min(benchmark.length or 0 for benchmark in benchmarks)
        raise ValueError(f"lengths must be shorter: the positions of every encoding end before {shortest:,} tokens")
    raise ValueError("tasks must have a metric that is a mean over its items, and these have none")


def _times(
    subject: Subject, benchmarks: Sequence[Benchmark], models: int, announce: Callable[[str], None]
) -> pd.DataFrame:
    """Return how long each benchmark takes, by the time of its first item."""
    rows = []
    for benchmark in benchmarks:
        announce(benchmark.label)
        lm, first = subject.lm(benchmark.length or subject.training_length), benchmark.first_item()
        began = time.monotonic()
        first.measure(lm, lambda label, work, make: make())
        seconds = (time.monotonic() - began) * benchmark.work / first.work * models
        rows.append((benchmark.name, benchmark.length, benchmark.count, models, seconds))
    frame = pd.DataFrame(rows, columns=["task", "length", "items", "models", "seconds"])
    total = frame["seconds"].sum()
    frame["time"] = [roughly(seconds) for seconds in frame.pop("seconds")]
    frame.loc[len(frame)] = ["all", None, frame["items"].sum(), models, roughly(total)]
    return frame


def write_scores(
    subjects: Sequence[Subject],
    benchmarks: Sequence[Benchmark],
    measured: dict[tuple[str, int], list[list[ItemMetric] | None]],
    request: BenchRequest,
    output: Path,
    console: HarmlessConsole,
) -> None:
    """Write the scores as the tables of a comparison with its report, or of one encoding as a table, and print them."""
    results = results_of(subjects, benchmarks, measured, request, output)
    if results is not None:
        write_tables(results, output)
        (output / "scores.csv").unlink(missing_ok=True)  # of one encoding, measured before
        Publication(request.typed, None, request.figure_width).write(results, console)
        return
    rows = [
        (b.name, tag_of(m.name, m.length), seed, sum(m.sums) / sum(m.counts), len(m.sums))
        for (_, seed), metrics in measured.items()
        for b, of_task in zip(benchmarks, metrics, strict=True)
        for m in of_task or ()
    ]
    frame = pd.DataFrame(rows, columns=["task", "metric", "seed", "value", "items"])
    if len(subjects) == 1:
        frame = frame.drop(columns="seed")
    write_atomically(output / "scores.csv", frame.to_csv(index=False))
    print_table(console, subjects[0].name, frame)
    console.print(f"written: {output / 'scores.csv'}", soft_wrap=True)


def results_of(
    subjects: Sequence[Subject],
    benchmarks: Sequence[Benchmark],
    measured: dict[tuple[str, int], list[list[ItemMetric] | None]],
    request: BenchRequest,
    output: Path,
) -> Results | None:
    """Return scores as results, with a case for each task; None of one encoding."""
    names = list(dict.fromkeys(subject.name for subject in subjects))
    if len(names) < 2:
        return None
    rows, items, criteria, open_ended = [], {}, dict[str, dict[str, Any]](), set[str]()
    for subject in subjects:
        of_model = measured[subject.name, subject.seed]
        for case in dict.fromkeys(benchmark.name for benchmark in benchmarks):
            scores: dict[tuple[str, int | None], ItemScores] = {}
            for benchmark, metrics in zip(benchmarks, of_model, strict=True):
                for metric in metrics or () if benchmark.name == case else ():
                    key, arrays = (metric.name, metric.length), (np.array(metric.sums), np.array(metric.counts))
                    scores[key] = ItemScores(*key, *arrays, benchmark.identity)
                    direction = "maximize" if metric.maximize else "minimize"
                    margin = request.margin if metric.is_share or metric.name == "recovery" else request.loss_margin
                    criterion = {"direction": direction, "margin": margin}
                    name = "position_loss" if metric.name == "position_loss" else tag_of(*key)
                    criteria.setdefault(case, {})[name] = criterion
                    open_ended |= set() if metric.is_share else {metric.name}
            run = RunResult(
                case,
                subject.name,
                subject.seed,
                words=subject.words,
                task=OWNER,
                training_length=subject.training_length,
                lengths=[*{length for _, length in scores if length is not None}],
                metrics={"steps": subject.steps},
                scores={tag_of(*key): of_metric.value for key, of_metric in scores.items()},
                directory=subject.path,
            )
            rows.append(run)
            items[run.key] = MeasuredRun(subject.name, "test", scores, {})
    lengths: dict[str, set[int]] = {}
    for row in rows:
        lengths.setdefault(row.case, set()).update(row.lengths)
    rows = [replace(row, open_ended=sorted(open_ended), lengths=sorted(lengths[row.case])) for row in rows]
    comparison = Comparison(
        name=OWNER,
        question=f"How well do {amount(len(names), 'encoding')} answer {amount(len(criteria), 'task')}?",
        baseline=request.baseline or names[0],
        encodings=[{"name": name} for name in names],
        cases={case: {"train": {}, "metrics": of_case} for case, of_case in criteria.items()},
        seeds=sorted({subject.seed for subject in subjects}),
        costs=[],
        output=str(output),
    )
    return Results(checked(comparison), rows, lambda run: items.get(run.key), exist_already=True)
