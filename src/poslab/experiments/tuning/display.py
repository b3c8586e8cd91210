"""Progress of a sweep on the terminal: a line for each trial that ends, and a live table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from optuna.trial import FrozenTrial, TrialState
from rich.console import Console, Group, RenderableType
from rich.text import Text

from poslab.experiments.tuning.objective import Objective
from poslab.experiments.tuning.queue import TrialQueue
from poslab.experiments.tuning.queue_display import QueueDisplay
from poslab.experiments.tuning.trial_record import TrialRecord, first_attempt, recorded_failure

STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}


class Display(QueueDisplay):
    """The progress of a sweep with these objectives; the other arguments are those of `QueueDisplay`."""

    def __init__(self, console: Console, queue: TrialQueue, workers: int, objectives: Sequence[Objective]) -> None:
        super().__init__(console, queue, workers)
        self._objectives = objectives

    def counts(self, record: TrialRecord) -> str:
        total = len(record.attempts) + record.missing
        others = {"running": record.running, "waiting": record.waiting}
        rest = "".join(f", {len(trials)} {word}" for word, trials in others.items() if trials)
        return f"{len(record.finished)} of {total}: {outcomes(record)}{rest}"

    def line(self, trial: FrozenTrial, record: TrialRecord) -> str:
        state = STATES[trial.state]
        retry = f" (again, after trial {first_attempt(trial)})" if first_attempt(trial) != trial.number else ""
        if trial.state == TrialState.FAIL:
            return f"trial {trial.number:<3} {state:<9}{recorded_failure(trial).reason}{retry}"
        best = best_of(record, self._objectives)
        mark = "  best so far" if best is not None and best.number == trial.number else ""
        mark = mark or ("  the default" if first_attempt(trial) == 0 else "")
        return f"trial {trial.number:<3} {state:<9}{shown_values(trial):<9} {shown(trial.params)}{retry}{mark}"

    def table(self, record: TrialRecord) -> RenderableType:
        lines = [Text(f"{self.counts(record)}{left_in_words(record, self._workers)}", style="bold")]
        if (best := best_of(record, self._objectives)) is not None:
            lines.append(Text(f"best     trial {best.number:<4} {shown_values(best):<9} {shown(best.params)}"))
        for trial in record.running:
            step, value = max(trial.intermediate_values.items(), default=(0, None))
            last = "" if value is None else f"{value:.4f} at validation {step}  "
            lines.append(Text(f"running  trial {trial.number:<4} {last}{shown(trial.params)}"))
        for line in lines:
            line.no_wrap, line.overflow = True, "ellipsis"
        return Group(*lines)


def best_of(record: TrialRecord, objectives: Sequence[Objective]) -> FrozenTrial | None:
    """Return the complete trial with the best value of the first objective; None if no trial is complete."""
    sign = 1 if objectives[0].minimized else -1
    complete = record.in_state(TrialState.COMPLETE)
    return min(complete, key=lambda trial: (sign * trial.values[0], trial.number), default=None)


def shown(params: Mapping[str, Any]) -> str:
    """Return parameters in one line with rounded values, without the conditions in their names."""
    return ", ".join(f"{name.partition(' (')[0]}={shown_value(value)}" for name, value in params.items())


def shown_value(value: Any) -> str:
    """Return a value as text, with four significant digits or those before the point."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.4g}"


def shown_values(trial: FrozenTrial) -> str:
    """Return the values of a trial, with four decimals below a thousand."""
    values = trial.values or []
    return " ".join(f"{value:.4f}" if abs(value) < 1000 else f"{value:,.0f}" for value in values) or "-"


def outcomes(record: TrialRecord) -> str:
    """Return in words how many trials ended in each state."""
    return ", ".join(f"{len(record.in_state(state))} {word}" for state, word in STATES.items())


def left_in_words(record: TrialRecord, workers: int) -> str:
    """Return `, about 0:59:30 left`, by the duration of finished trials; "" while none is, and at the end."""
    took = [trial.duration.total_seconds() for trial in record.finished if trial.duration is not None]
    if not took or not record.unfinished:
        return ""
    seconds = round(record.unfinished * sum(took) / len(took) / max(workers, len(record.running)))
    return f", about {timedelta(seconds=seconds)} left"
