"""The request for an extension, and how it divides its time."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import pandas as pd

from poslab.arguments import Count, Positive, Range, nearest, with_checked_arguments
from poslab.evaluation.benchmarks import prompts
from poslab.experiments.extend.settings import TYPES, space_of
from poslab.io.files import read_json, write_atomically
from poslab.report.text import roughly

SHARES = {"search": 0.45, "divisors": 0.15, "decision": 0.1, "fine-tuning": 0.0, "report": 0.3}
SHARES_WITH_TRAINING = {"search": 0.25, "divisors": 0.1, "decision": 0.1, "fine-tuning": 0.3, "report": 0.25}
"""Shares of the budget. The search tries the default of each type even beyond its share."""

BATCH, MIN_STEPS, MAX_STEPS, EPOCHS = 8, 100, 1000, 4
"""Windows in a step of fine-tuning, fewest and most steps, and most passes over the text.

Position interpolation trains for 1,000 steps (arXiv 2306.15595), YaRN for 400 (2309.00071), both with more windows in a
step; up to four passes over a text are almost as good as new text (2305.16264).
"""

BACKWARD = 4.0
"""Time of a step of training, next to reading the same tokens once."""

SIZES = {"search": (1, 8), "decision": (2, 16), "report": (4, 32)}
"""Fewest and most texts of each set."""

TRIALS, FINALISTS, REPORTED = 24, 5, 6
"""Whole trials for which the texts of the search are few enough, settings that are measured on the texts that decide,
and models of the report."""

MIN_TRIALS = 6
"""Trials that the budget must have time for: the default of each type, and one more."""

TASKS = tuple(task for task in prompts.TASKS if task not in prompts.GROUPS["ruler_qa"])


@with_checked_arguments
@dataclass(frozen=True)
class ExtendRequest:
    """An extension as a command line requests it.

    Args:
        to: the new context, in tokens.
        text: files with long texts of the kind that the model is for, paths or globs.
        budget: time such as 2h, 90m or 1h30m.
        types: of settings that are searched; None is `settings.TYPES`.
        tasks: prompts whose answers must be found, of `TASKS`.
        fine_tune: how many of the best settings the model is trained further under, if the budget has time.
        drope: whether it is trained further without positions too, which is only reported.
        adapt: words of a command line on which weights that training changes.
        margin: largest price: loss that is added within the old context, in nats per token.
        trials: most trials of the search; None is as many as the budget has time for.
        seed: of the texts, the prompts and the search.
        output: directory of all that is written.
        dry_run: whether to say only what would be done, and how long it takes.
        typed: words of the command line, for the report.
    """

    to: Count
    text: Any
    budget: str = "2h"
    types: Sequence[str] | None = None
    tasks: Sequence[str] = ("niah_single_2", "niah_multikey_1")
    fine_tune: Annotated[int, Range(0, FINALISTS)] = 2
    drope: bool = False
    adapt: Sequence[str] = ("adapt=lora",)
    margin: Positive = 0.02
    trials: Count | None = None
    seed: Annotated[int, Range(0, 2**32 - 4)] = 42
    output: str | None = None
    dry_run: bool = False
    typed: str = ""
    figure_width: Annotated[float, Range(3, 20)] | None = None

    @property
    def trainings(self) -> int:
        """The number of models that are trained further, of which one has no setting."""
        return self.fine_tune + bool(self.fine_tune) + self.drope

    def __post_init__(self) -> None:
        seconds_of(self.budget)
        space_of(TYPES if self.types is None else self.types, 2.0, 64)  # raises for unknown types
        if not self.tasks:
            raise ValueError("tasks must not be empty")
        for task in self.tasks:
            if task not in TASKS:
                raise ValueError(f"unknown task {task!r}{nearest(task, TASKS)}")

    @property
    def identity(self) -> dict[str, Any]:
        """The settings that decide on the numbers, besides the model."""
        free = ("budget", "trials", "output", "dry_run", "typed", "figure_width")
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return {key: value for key, value in plain.items() if key not in free}


def seconds_of(text: str) -> float:
    """Return the seconds of a time such as 2h, 90m or 1h30m; ValueError for anything else, or no time at all."""
    match = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?:in)?)?(?:(\d+)s)?", str(text))
    parts = match.groups() if match else ()
    seconds = sum(float(part or 0) * unit for part, unit in zip(parts, (3600, 60, 1), strict=False))
    if not 0 < seconds < 1e9:
        raise ValueError(f"budget must be a time such as 2h, 90m or 1h30m, got {text}")
    return seconds


@dataclass(frozen=True)
class Plan:
    """Texts of each set, and seconds of each step, by the time of one text with its prompts.

    Args:
        sizes: texts of each set.
        seconds: of each step.
        item: seconds of a setting on one text with its prompts.
        trials: trials for which the search has time, were none pruned.
        steps: of fine-tuning for which each model has time, 0 where it has not.
        training_budget: seconds of the least budget that has time for fine-tuning, 0 where none is requested.
    """

    sizes: Mapping[str, int]
    seconds: Mapping[str, float]
    item: float
    trials: int
    steps: int = 0
    training_budget: float = 0.0

    @classmethod
    def of(cls, budget: float, item: float, trainings: int = 0, step: float = 1.0) -> Plan:
        """Return the plan for a budget in seconds, and models to train by steps of some seconds.

        ValueError for a budget that is too short. One without time for the fewest steps has no fine-tuning.
        """
        time = SHARES_WITH_TRAINING["fine-tuning"] * budget
        steps = min(int(time / (trainings * step)), MAX_STEPS) if trainings else 0
        steps = steps if steps >= MIN_STEPS else 0
        seconds = {step: share * budget for step, share in (SHARES_WITH_TRAINING if steps else SHARES).items()}
        wanted = {
            "search": seconds["search"] / (TRIALS * item),
            "decision": seconds["decision"] / (FINALISTS * item),
            "report": seconds["report"] / (4 * REPORTED * item),
        }
        sizes = {name: int(min(max(wanted[name], least), most)) for name, (least, most) in SIZES.items()}
        trials = int(seconds["search"] / (sizes["search"] * item))
        if trials < MIN_TRIALS:
            needed = MIN_TRIALS * item * budget / seconds["search"]
            raise ValueError(
                f"budget must be longer: a text and its prompts take {roughly(item)}, and {MIN_TRIALS} trials of the "
                f"search with the other steps {roughly(needed)}; or take fewer tasks, or a smaller to"
            )
        training_budget = MIN_STEPS * trainings * step / SHARES_WITH_TRAINING["fine-tuning"]
        return cls(sizes, seconds, item, trials, steps, training_budget)

    def table(self) -> pd.DataFrame:
        """Return the steps with what they measure and the time that they have."""
        of_training = "none is requested"
        if self.training_budget:
            of_training = f"{MIN_STEPS} steps need a budget of {roughly(self.training_budget)}"
        if self.steps:
            of_training = f"up to {self.steps} steps each"
        rows = [
            ("search", f"about {self.trials} trials on up to {self.sizes['search']} texts", self.seconds["search"]),
            ("divisors", "of the pairs, from the best trial", self.seconds["divisors"]),
            ("decision", f"{FINALISTS} settings on {self.sizes['decision']} texts", self.seconds["decision"]),
            ("fine-tuning", of_training, self.seconds["fine-tuning"]),
            ("report", f"{REPORTED} models on {self.sizes['report']} texts", self.seconds["report"]),
        ]
        times = [roughly(seconds) if seconds else "–" for *_, seconds in rows]
        return pd.DataFrame(
            [(*row[:2], time) for row, time in zip(rows, times, strict=True)], columns=["step", "what", "time"]
        )


class Clock:
    """Seconds that each step has taken, over interruptions; they are kept in a file."""

    def __init__(self, file: Path) -> None:
        self._file, self._since = file, time.monotonic()
        known = read_json(file) if file.exists() else {}
        self._spent = {k: float(v) for k, v in known.items() if isinstance(v, int | float) and 0 <= v < 1e9}

    def begin(self) -> None:
        """Begin a step."""
        self._since = time.monotonic()

    def spent(self, step: str) -> float:
        """Return the seconds of a step so far, with those since it began or this was last asked."""
        now = time.monotonic()
        self._spent[step] = self._spent.get(step, 0.0) + now - self._since
        self._since = now
        write_atomically(self._file, json.dumps(self._spent))
        return self._spent[step]
