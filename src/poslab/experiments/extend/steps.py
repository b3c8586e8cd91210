"""The steps of an extension: search, decision, fine-tuning and report, each of which resumes."""

from __future__ import annotations

import contextlib
import glob
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from poslab.encodings import Rotary
from poslab.encodings.frequencies import inverse_frequencies
from poslab.evaluation.benchmarks import long_text, prompts
from poslab.evaluation.benchmarks.fitting import TooShortError, text_of
from poslab.evaluation.benchmarks.subjects import InWindows, Subject
from poslab.evaluation.benchmarks.tasks import Benchmark, PromptTask
from poslab.evaluation.command import now_and_then
from poslab.evaluation.settings import Progress, StepRunner, at_once
from poslab.experiments.bench.command import measure, require_metrics
from poslab.experiments.bench.plan import BenchRequest
from poslab.experiments.bench.report import write_scores
from poslab.experiments.extend.fine_tuning import (
    FIXED_BY_LENGTH,
    NO_POSITIONS,
    ConfigOf,
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
from poslab.experiments.extend.settings import OWN, TYPES, Setting, defaults, space_of
from poslab.experiments.extend.summary import TRAINED_IN_WINDOWS, answer_of, summary_of
from poslab.experiments.storage import open_storage
from poslab.experiments.storage_url import Stored
from poslab.io.files import read_json, write_atomically
from poslab.io.terminal import HarmlessConsole
from poslab.report.text import roughly

STUDY = "extend"

SubjectOf = Callable[[Setting, str], Subject]
"""Returns the model under a setting, by a name."""


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
        self.controls: dict[str, Setting] = {}  # with their runs, once these are trained
        self.windowed = InWindows(subject_of(OWN, "own"))
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
        require_same(self.output / "texts.json", {"content of text": [items.identity for items in sets.values()]})
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

    def measured(self, setting: Setting, items: Items, is_key: np.ndarray, count: int) -> Losses:
        """Return the losses of the model under a setting; its own positions are read in windows."""
        subject = self.windowed if setting == OWN else self.subject_of(setting, "searched")
        step = self.step(subject) if setting == OWN else self.step(subject, setting.label)
        try:
            return losses(subject, items, is_key, count, step)
        finally:
            subject.close()

    def search(self, items: Items, plan: Plan) -> list[Candidate]:
        """Return the settings that were measured on all texts of the search, with better divisors of the best one."""
        is_key = items.key_tokens(self.step(self.windowed))
        rungs = rungs_of(items.size)
        own = {n: self.measured(OWN, items, is_key, n).short for n in rungs}
        types = self.types

        def measure(setting: Setting, count: int) -> Losses:
            return self.measured(setting, items, is_key, count)

        self.clock.begin()
        trials = self.request.trials or 10_000

        def goes_on(number: int) -> bool:
            return number < trials and (self._has_time("search", plan) or number < len(types))

        space = space_of(types, self.stretch, self.context)
        storage = open_storage(Stored(name=STUDY, question="", output=str(self.output)))
        first = defaults(types, self.stretch)
        margin, seed = self.request.margin, self.request.seed
        candidates = search(STUDY, storage, space, first, measure, own, margin, goes_on, seed)
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
        own = self.measured(OWN, items, is_key, items.size).short
        finalists = []
        for setting in settings:
            self.announce(f"decision: {setting.label} ...")
            measured = self.measured(setting, items, is_key, items.size)
            finalists.append(Candidate.of(setting, measured, own))
        return finalists

    def fine_tune(self, finalists: Sequence[Candidate], sets: Mapping[str, Items], plan: Plan) -> list[Candidate]:
        """Return the best settings after further training on other texts, as measured on the texts that decide.

        `controls` has what is trained only for the report: the model without a setting, which shows what the text does
        without a longer context, and without positions, if that is requested.
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
        chosen = able[: request.fine_tune]
        controls = {TRAINED_IN_WINDOWS: OWN} if chosen else {}
        controls |= {"drope": NO_POSITIONS} if request.drope else {}
        done = []
        for setting in [*chosen, *controls.values()]:
            self.console.print(f"fine-tuning: {setting.label}, {steps} steps", soft_wrap=True)
            words = words_of(request, setting, self.context, steps, [f"{glob.escape(str(text))}/*.txt"])
            done.append(trained(self.config_of, setting, words, self.output))
        self.controls = dict(zip(controls, done[len(chosen) :], strict=True))
        return self._decided(sets["decision"], done[: len(chosen)])

    def report(self, finalists: Sequence[Candidate], items: Items) -> tuple[pd.DataFrame, list[str]]:
        """Measure the best setting, also the best trained one, YaRN's default and the controls on new texts.

        Returns:
            A row for each, with its losses, and its price within the old context; and sentences on them.
        """
        request = self.request
        best = [candidate.setting for candidate in ranked(finalists, request.margin)]
        named = {"found": next(s for s in best if not s.run), "yarn": defaults(["yarn"], self.stretch)[0]}
        if named["yarn"].identity == named["found"].identity:
            del named["yarn"]
        trained_best = [setting for setting in best if setting.run][:1]
        named |= dict(zip(["trained"], trained_best, strict=False)) | self.controls
        subjects: list[Subject] = [self.windowed, self.subject_of(OWN, "own_positions")]
        for name, setting in named.items():
            subject = self.subject_of(setting, name)
            subjects.append(InWindows(subject, name) if name == TRAINED_IN_WINDOWS else subject)
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


def require_same(file: Path, asked: Mapping[str, Any]) -> None:
    """Keep what was asked; ValueError if something else was asked in the same directory."""
    if file.exists():
        known = read_json(file)
        if different := [key for key, value in asked.items() if known.get(key) != value]:
            raise ValueError(
                f"output={file.parent} was started with another {different[0]}: repeat that command, or name another "
                "output"
            )
    write_atomically(file, json.dumps(dict(asked), indent=2))


def rotary_of(encodings: Any) -> Rotary | None:
    """Return the rotation of a stack of encodings; None if there is none."""
    return next((encoding for encoding in encodings if isinstance(encoding, Rotary)), None)
