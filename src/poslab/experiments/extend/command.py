"""The work of `python -m src.extend`: from a model with RoPE to a setting for longer texts, its price and its files."""

from __future__ import annotations

import contextlib
import glob
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t

from poslab.encodings import Rotary
from poslab.encodings.frequencies import inverse_frequencies
from poslab.evaluation.benchmarks import long_text, prompts
from poslab.evaluation.benchmarks.fitting import TooShortError, text_of
from poslab.evaluation.benchmarks.subjects import InWindows, Subject
from poslab.evaluation.benchmarks.tasks import Benchmark, PromptTask, quieten_harness
from poslab.evaluation.command import now_and_then
from poslab.evaluation.settings import Progress, StepRunner, at_once
from poslab.experiments.bench.command import measure, require_metrics
from poslab.experiments.bench.plan import BenchRequest
from poslab.experiments.bench.report import Measured, write_scores
from poslab.experiments.extend.fine_tuning import (
    FIXED_BY_LENGTH,
    NO_POSITIONS,
    ConfigOf,
    check_training,
    steps_of,
    trained,
    words_of,
    write_text,
)
from poslab.experiments.extend.objective import Items, Losses, losses, sets_of
from poslab.experiments.extend.plan import (
    BACKWARD,
    BATCH,
    FINALISTS,
    MIN_STEPS,
    SIZES,
    Clock,
    ExtendRequest,
    Plan,
    seconds_of,
)
from poslab.experiments.extend.search import Candidate, divided, ranked, rungs_of, search
from poslab.experiments.extend.settings import TYPES, Setting, defaults, space_of
from poslab.experiments.jobs import one_at_a_time
from poslab.experiments.report.write import print_table
from poslab.experiments.storage import claim, naming_storage, open_output, open_storage
from poslab.experiments.storage_url import Stored
from poslab.io.files import read_json, write_atomically
from poslab.io.terminal import HarmlessConsole
from poslab.report.text import roughly

OWNER = "extend"

SubjectOf = Callable[[Setting | None, str], Subject]
"""Returns the model under a setting, or under its own positions, by a name."""

Export = Callable[[Setting, Path], Iterable[str]]
"""Writes the model under a setting to a new directory, and returns sentences on it."""


def run_extend(subject_of: SubjectOf, config_of: ConfigOf, export: Export, request: ExtendRequest) -> None:
    """Find a setting for longer texts, measure its price, and write the model; the same command resumes.

    Raises:
        ValueError: for a model without RoPE, a target that is not longer, texts that are too short, a budget that has
            no time for a search, or an output that belongs to another command.
    """
    quieten_harness()
    console = HarmlessConsole()
    own = subject_of(None, "own")
    require_extensible(own, request.to)
    output = Path(request.output or f"outputs/{datetime.now():%Y-%m-%d_%H-%M-%S}_extend")
    open_output(output)
    if (output / "model").exists() and not (output / "extend.json").exists():  # it would be replaced
        raise ValueError(f"output={output} contains a model already: give this extension its own directory")
    claim(output, OWNER, "runs")
    stored = Stored(name=OWNER, question="", output=str(output))
    with one_at_a_time(output, wait=False), naming_storage(stored):
        _require_same(output / "extend.json", {"model": own.identity, **request.identity})
        steps = Steps(subject_of, config_of, request, output, console)
        plan = steps.plan()
        if plan.steps:
            check_training(config_of, request, steps.stretch, steps.context)
        print_table(console, f"from {own.training_length:,} to {request.to:,} tokens in {request.budget}", plan.table())
        if request.dry_run:
            return
        sets = steps.sets(plan)
        candidates = steps.search(sets["search"], plan)
        finalists = steps.decide(sets["decision"], candidates)
        finalists += steps.fine_tune(finalists, sets, plan)
        summary, answer = steps.report(finalists, sets["report"])
        print_table(console, f"{request.to:,} tokens, on texts that decided nothing", summary)
        for line in itertools.chain(answer, export(ranked(finalists, request.margin)[0].setting, output / "model")):
            console.print(line, soft_wrap=True)


def require_extensible(own: Subject, to: int) -> None:
    """Raise ValueError for a model without plain RoPE, or a context that is not longer than its own."""
    if own.rope == "none":
        raise ValueError(f"{own.path} must have RoPE: other positions have no setting for longer texts")
    if own.rope == "scaled":
        raise ValueError(
            f"{own.path} must have RoPE without a scaling, and its own is scaled already: change its factor by "
            "encodings= of poslab bench, and compare"
        )
    if to <= own.training_length:
        raise ValueError(f"to must be above the context of the model, {own.training_length:,} tokens, got {to:,}")


def _require_same(file: Path, asked: Mapping[str, Any]) -> None:
    """Keep what was asked; ValueError if something else was asked in the same directory."""
    if file.exists():
        known = read_json(file)
        if different := [key for key, value in asked.items() if known.get(key) != value]:
            raise ValueError(
                f"output={file.parent} was started with another {different[0]}: repeat that command, or name another "
                "output"
            )
    write_atomically(file, json.dumps(dict(asked), indent=2))


class Steps:
    """The steps of an extension; each continues where it was interrupted."""

    def __init__(
        self,
        subject_of: SubjectOf,
        config_of: ConfigOf,
        request: ExtendRequest,
        output: Path,
        console: HarmlessConsole,
    ) -> None:
        self.subject_of, self.config_of, self.request = subject_of, config_of, request
        self.output, self.console = output, console
        self.drope: Setting | None = None  # with its run, once that is trained
        self.windowed = InWindows(subject_of(None, "own"))
        self.context = self.windowed.training_length
        self.stretch, self.types = request.to / self.context, list(request.types or TYPES)
        self.clock = Clock(output / "clock.json")
        self.announce: Callable[[str], None] = now_and_then(partial(console.print, soft_wrap=True))
        self._progress: dict[str, Progress] = {}

    def plan(self) -> Plan:
        """Return the plan, by the time of one text with its prompts, which is measured once."""
        file = self.output / "plan.json"
        if not file.exists():
            least = {name: smallest for name, (smallest, _) in SIZES.items()}
            items = self._sets(least)["search"]
            self.announce("timing a text and its prompts ...")
            subject = self.subject_of(defaults(["yarn"], self.stretch)[0], "yarn")
            subject.check_export()  # before hours of search
            every = np.ones((items.size, items.length), bool)
            losses(subject, items, every, 1, at_once)  # loads the model
            self.clock.begin()
            losses(subject, items, every, 1, at_once)
            write_atomically(file, json.dumps({"item": self.clock.spent("timing")}))
            subject.close()
        item = read_json(file).get("item")
        if not isinstance(item, float) or not 0 < item < 1e9:
            raise ValueError(f"{file} is damaged: item must be the seconds of a text")
        read = (1 + len(self.request.tasks)) * self.request.to + self.context  # tokens
        step = BACKWARD * BATCH * self.context * item / read
        return Plan.of(seconds_of(self.request.budget), item, self.request.trainings, step)

    def sets(self, plan: Plan) -> dict[str, Items]:
        """Return the sets of texts and prompts, which stay as large under another budget."""
        file = self.output / "sizes.json"
        if not file.exists():
            write_atomically(file, json.dumps(plan.sizes))
        sizes = read_json(file)
        if sizes.keys() != SIZES.keys() or any(type(x) is not int or not 0 < x <= 1000 for x in sizes.values()):
            raise ValueError(f"{file} is damaged: it must have the number of texts of each of {', '.join(SIZES)}")
        sets = self._sets({name: sizes[name] for name in SIZES})
        _require_same(self.output / "texts.json", {"content of text": [items.identity for items in sets.values()]})
        return sets

    def _sets(self, sizes: Mapping[str, int]) -> dict[str, Items]:
        request = self.request
        share = 0.5 if request.trainings else 1.0
        return sets_of(self.windowed, request.text, request.tasks, request.to, sizes, request.seed, share)

    def step(self, subject: Subject, label: str = "in windows") -> StepRunner:
        """Return what makes and keeps the numbers of a model, whose positions are announced by a label."""
        progress = self._progress.setdefault(
            subject.identity, Progress(self.announce, self.output / "kept" / subject.identity[:40])
        )
        progress.begin(label)
        return progress.step

    def measured(self, setting: Setting | None, items: Items, is_key: np.ndarray, count: int) -> Losses:
        """Return the losses of the model under a setting; None is its own positions in windows."""
        subject = self.windowed if setting is None else self.subject_of(setting, "searched")
        step = self.step(subject) if setting is None else self.step(subject, setting.label)
        try:
            return losses(subject, items, is_key, count, step)
        finally:
            subject.close()

    def search(self, items: Items, plan: Plan) -> list[Candidate]:
        """Return the settings that were measured on all texts of the search, with better divisors of the best one."""
        is_key = items.key_tokens(self.step(self.windowed))
        rungs = rungs_of(items.size)
        own = {n: self.measured(None, items, is_key, n).short for n in rungs}
        types = self.types

        def measure(setting: Setting, count: int) -> Losses:
            return self.measured(setting, items, is_key, count)

        self.clock.begin()
        trials = self.request.trials or 10_000

        def goes_on(number: int) -> bool:
            return number < trials and (self._has_time("search", plan) or number < len(types))

        space = space_of(types, self.stretch, self.context)
        storage = open_storage(Stored(name=OWNER, question="", output=str(self.output)))
        first = defaults(types, self.stretch)
        margin, seed = self.request.margin, self.request.seed
        candidates = search(OWNER, storage, space, first, measure, own, margin, goes_on, seed)
        if not candidates:
            raise ValueError("trials must be more: none was measured on all texts")
        full, known = partial(measure, count=rungs[-1]), self._known_divisors()
        self.clock.begin()
        starts = [*(c for c in candidates if c.setting.identity in known), ranked(candidates, margin)[0]]
        for start in {start.setting.identity: start for start in starts}.values():
            rotation = self._rotation(start.setting)
            if rotation is not None:
                goes = partial(self._has_divisors, start.setting.identity, itertools.count(), plan)
                candidates += divided(start, *rotation, full, own[rungs[-1]], margin, goes)
        columns = ["setting", "text", "answers", "price", "keys"]
        rows = [(c.setting.label, c.losses.text, c.losses.answers, c.price, c.setting.identity) for c in candidates]
        table = pd.DataFrame(rows, columns=columns)
        order = (table["text"] + table["answers"]).argsort(kind="stable")
        write_atomically(self.output / "search.csv", table.iloc[order].drop_duplicates("keys").to_csv(index=False))
        return candidates

    def _has_time(self, step: str, plan: Plan) -> bool:
        """Return whether a step has time left, and announce how much."""
        left = plan.seconds[step] - self.clock.spent(step)
        if left > 0:
            self.announce(f"{step}: {roughly(left)} left")
        return left > 0

    def _known_divisors(self) -> dict[str, int]:
        """Return how many divisors were measured before, by the setting from which they started."""
        file = self.output / "divisors.json"
        known = read_json(file) if file.exists() else {}
        return {start: count for start, count in known.items() if isinstance(count, int)}

    def _has_divisors(self, start: str, numbers: Iterator[int], plan: Plan) -> bool:
        """Return whether to measure the next divisors: those that were measured before, others while time is left."""
        number, known = next(numbers), self._known_divisors()
        if number < known.get(start, 0):
            return True
        has_time = self._has_time("divisors", plan)
        if has_time:
            write_atomically(self.output / "divisors.json", json.dumps({**known, start: number + 1}))
        return has_time

    def _rotation(self, setting: Setting) -> tuple[list[float], float] | None:
        """Return the divisor of each pair under a setting, and its attention factor; None where they are not fixed."""
        subject = self.subject_of(setting, "searched")
        rotary = rotary_of(subject.encodings)
        subject.close()
        if rotary is None or rotary.depends_on_length:
            return None
        frequencies, factor = rotary.scaled_frequencies(self.request.to)
        plain = inverse_frequencies(rotary.rotary_dim, rotary.base)
        return (plain.double() / frequencies.double().clamp_min(1e-12)).clamp(1e-9, 1e9).tolist(), factor

    def decide(self, items: Items, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Return the best of the search and YaRN's default, if searched, as measured on other texts."""
        usual = defaults([name for name in self.types if name == "yarn"], self.stretch)
        best = {c.setting.identity: c.setting for c in ranked(candidates, self.request.margin)}
        settings = dict(itertools.islice(best.items(), FINALISTS)) | {yarn.identity: yarn for yarn in usual}
        return self._decided(items, settings.values())

    def _decided(self, items: Items, settings: Iterable[Setting]) -> list[Candidate]:
        is_key = items.key_tokens(self.step(self.windowed))
        own = self.measured(None, items, is_key, items.size).short
        finalists = []
        for setting in settings:
            self.announce(f"decision: {setting.label} ...")
            measured = self.measured(setting, items, is_key, items.size)
            finalists.append(Candidate.of(setting, measured, own))
        return finalists

    def fine_tune(self, finalists: Sequence[Candidate], sets: Mapping[str, Items], plan: Plan) -> list[Candidate]:
        """Return the best settings after further training on other texts, as measured on the texts that decide.

        `drope` has the model that is trained without positions, if that is requested.
        """
        request, file, text = self.request, self.output / "training.json", self.output / "training_text"
        if not request.trainings or not (plan.steps or file.exists()):
            return []
        tokens = 0
        if not file.exists():
            measured = np.concatenate([items.windows for items in sets.values()])
            tokens = write_text(self.windowed, measured, request.text, text)
        steps = steps_of(file, plan.steps, tokens, self.context)
        if not steps:
            self.console.print(
                f"no fine-tuning: outside what is measured, text has less than {MIN_STEPS} steps need", soft_wrap=True
            )
            return []
        able = [c.setting for c in ranked(finalists, request.margin) if c.setting.type not in FIXED_BY_LENGTH]
        done = []
        for setting in [*able[: request.fine_tune], *([NO_POSITIONS] if request.drope else [])]:
            self.console.print(f"fine-tuning: {setting.label}, {steps} steps", soft_wrap=True)
            words = words_of(request, setting, self.context, steps, [f"{glob.escape(str(text))}/*.txt"])
            done.append(trained(self.config_of, setting, words, self.output))
        if request.drope:
            self.drope = done.pop()
        return self._decided(sets["decision"], done)

    def report(self, finalists: Sequence[Candidate], items: Items) -> tuple[pd.DataFrame, list[str]]:
        """Measure the best setting, also the best trained one, YaRN's default and the untouched model on new texts.

        Returns:
            A row for each, with its losses, and its price within the old context; and sentences on them.
        """
        request = self.request
        best = [candidate.setting for candidate in ranked(finalists, request.margin)]
        named = {"found": next(s for s in best if not s.run), "yarn": defaults(["yarn"], self.stretch)[0]}
        if named["yarn"].identity == named["found"].identity:
            del named["yarn"]
        others = {"trained": next((s for s in best if s.run), None), "drope": self.drope}
        named |= {name: setting for name, setting in others.items() if setting is not None}
        subjects: list[Subject] = [self.windowed, self.subject_of(None, "own_positions")]
        subjects += [self.subject_of(setting, name) for name, setting in named.items()]
        benchmarks = list(self._benchmarks(items))
        measured = {subject: measure(subject, benchmarks, self.announce) for subject in subjects}
        require_metrics(benchmarks, measured)
        asked = BenchRequest(
            tasks=list(request.tasks),
            margin=5.0,
            loss_margin=request.margin,
            baseline=self.windowed.name,
            output=str(self.output / "report"),
            typed=request.typed,
            figure_width=request.figure_width,
        )
        (self.output / "report").mkdir(exist_ok=True)
        write_scores(benchmarks, measured, asked, self.output / "report", HarmlessConsole(quiet=True))
        written = next(name for name, setting in named.items() if setting == best[0])
        summary = summary_of(measured, request.to, self.context, written)
        settings = [f"{name}: {setting.label}" for name, setting in named.items()]
        answer = answer_of(measured, request.to, self.context, written, request.margin)
        return summary, [*settings, *answer, f"report: {self.output / 'report' / 'report.html'}"]

    def _benchmarks(self, items: Items) -> Iterator[Benchmark]:
        yield long_text.LongText(items.windows, items.key_tokens)
        old = items.windows[:, -self.context - 1 :]
        yield long_text.LongText(old, long_text.key_tokens(old, lambda: self.windowed.lm(self.context), "own"))
        text, both = text_of(self.request.text), ("generated", "forced")
        for task in items.prompts:
            yield PromptTask(task.name, items.length, task.items, both)
            with contextlib.suppress(TooShortError):  # the old context may be too short for a prompt
                seed = self.request.seed + len(SIZES)
                made = prompts.items(task.name, self.windowed.tokenizer, self.context, items.size, seed, text=text)
                yield PromptTask(task.name, self.context, made, both)


def summary_of(measured: Measured, to: int, context: int, written: str) -> pd.DataFrame:
    """Return a row for each model: losses and answers at the new length, and the price within the old context.

    The price is the loss that is added to the loss of the first model, with a 95% interval over texts.
    """
    first, *_ = measured
    rows: list[tuple[str, ...]] = []
    for subject in measured:

        def mean(name: str, subject: Subject = subject) -> str:
            sums, counts = _sums(measured, subject, name, to)
            return f"{sums.sum() / counts.sum():.3f}" if len(counts) else "–"

        price = "–" if subject is first else "{:.3f} ± {:.3f}".format(*_added(measured, subject, "loss", context))
        name = f"{subject.name} (written)" if subject.name == written else subject.name
        rows.append((name, mean("key_loss"), mean("answer_loss"), mean("forced_match"), price))
    columns = ["positions", "key loss", "answer loss", "answers %", f"price at {context:,}"]
    return pd.DataFrame(rows, columns=columns)


def answer_of(measured: Measured, to: int, context: int, written: str, margin: float) -> list[str]:
    """Return sentences on whether the model that is written is better than the first one, and on its price."""
    first, *_ = measured
    subject = next(subject for subject in measured if subject.name == written)
    words, is_better = [], False
    for name in ("key_loss", "answer_loss"):
        added, spread = _added(measured, subject, name, to)
        verdict = "better" if added < -spread else "worse" if added > spread else "inconclusive"
        is_better |= verdict == "better"
        words.append(f"{name.replace('_', ' ')} {added:+.3f} ± {spread:.3f} ({verdict})")
    price, spread = _added(measured, subject, "loss", context)
    within = "within" if price + spread <= margin else "above" if price - spread > margin else "not shown to be within"
    lines = [
        f"{written} next to {first.name}: {', '.join(words)}.",
        f"Price at {context:,} tokens: {price:+.3f} ± {spread:.3f} nats per token, {within} margin={margin:g}.",
    ]
    if price + spread < 0:
        lines.append("The loss within the old context fell too: the differences are not only of longer context.")
    if not is_better:
        lines.append("Nothing shows that it is better than the untouched model in windows, which costs nothing.")
    return lines


def _sums(measured: Measured, subject: Subject, name: str, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the sums and counts of a metric at a length on all items of all tasks."""
    metrics = [metric for of_task in measured[subject] for metric in of_task or ()]
    of_name = [metric for metric in metrics if (metric.name, metric.length) == (name, length)]
    return np.array([x for m in of_name for x in m.sums]), np.array([n for m in of_name for n in m.counts])


def _added(measured: Measured, subject: Subject, name: str, length: int) -> tuple[float, float]:
    """Return what a model adds to a metric of the first one, and half of its 95% interval over paired items."""
    first, *_ = measured
    sums, counts = _sums(measured, subject, name, length)
    sums = sums - _sums(measured, first, name, length)[0]
    added, items = float(sums.sum() / counts.sum()), len(counts)
    if items < 2:
        return added, np.nan
    error = np.sqrt(items / (items - 1) * ((sums - added * counts) ** 2).sum()) / counts.sum()
    return added, float(error * t.ppf(0.975, items - 1))


def rotary_of(encodings: Any) -> Rotary | None:
    """Return the rotation of a stack of encodings; None if there is none."""
    return next((encoding for encoding in encodings if isinstance(encoding, Rotary)), None)
