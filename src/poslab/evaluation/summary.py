"""Tables that a report starts with: how far each model stays within 5%, which one is better, and what context gains.

Scores of a metric are by model and length; the length `ALL` is all lengths together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import pandas as pd

from poslab.evaluation.by_length import ALL, length_name
from poslab.evaluation.extrapolation import FAR, NEAR, NON_OVERLAPPING, SLIDING, UNIGRAM
from poslab.evaluation.scores.intervals import difference, excess, interval
from poslab.evaluation.scores.items import ItemScores
from poslab.evaluation.scores.tokens import CONTEXT_GAIN
from poslab.report.figures import Table
from poslab.tasks.language_modelling import CONTEXT_MARGIN, MIN_CONTEXT_GAIN

TOLERANCE = 0.05  # share by which a metric may be worse than at the training length
WITHIN = "within 5% up to"  # column of the verdict on how far a model extrapolates

UNLEARNED, NO_CONTEXT = "did not learn the task", "no context used"
"""Verdicts on models of text that have nothing to lose in longer windows."""

SHORT_DOCUMENTS = "short documents"  # gain of context where no document has half of such a context before a token


class ContextUse(StrEnum):
    """A verdict on longer windows, compared with windows of training."""

    USES = "uses longer context"
    KEEPS = "does not degrade"
    DEGRADES = "degrades"
    INCONCLUSIVE = "inconclusive"

    @classmethod
    def of(cls, gain: tuple[float, float], excess: tuple[float, float], margin: float = CONTEXT_MARGIN) -> ContextUse:
        """Return the verdict by 95% intervals, of the gain of context and of the loss minus the own window's."""
        if gain[0] > 0 and gain[1] >= MIN_CONTEXT_GAIN:
            return cls.USES
        if excess[1] <= margin:
            return cls.KEEPS
        return cls.DEGRADES if excess[0] > margin else cls.INCONCLUSIVE


@dataclass(frozen=True)
class SummaryMetric:
    """The metric by which a report compares models, on the items of each length."""

    name: str  # such as `bits per byte`
    is_share: bool  # whether it is from 0 to 100 and more is better; otherwise less is better
    scores: Mapping[str, Mapping[int, ItemScores]]
    trained: Mapping[str, int]  # longest training length, by model
    seed: int = 0
    unlearned: Mapping[str, str] = field(default_factory=dict)  # verdicts of `why_unlearned`, by model
    multiples_of: int | None = None  # as of `length_name`

    def shown(self, *values: float) -> str | None:
        """Return a value, or the ends of an interval, as text; None for NaN."""
        if any(map(math.isnan, values)):
            return None
        return " to ".join(f"{value:,.{1 if self.is_share else 3}f}".replace("-", "−") for value in values)

    def interval(self, scores: ItemScores) -> tuple[float, float]:
        """Return the 95% interval of scores over items."""
        return interval(scores, self.is_share, self.seed)


def comparison_table(metric: SummaryMetric) -> Table:
    """Return the value of each model at the training length and at the longest one, and its distance from the best.

    The verdict on a model is `best`, if it is surely better than every other one, or relative to the best: `worse`,
    `inconclusive`, `equivalent` (no item differs), `too few items` or `diverged` (not a number).
    """
    rows = []
    scores = {name: of_run for name, of_run in metric.scores.items() if of_run}
    counts = [length for of_run in scores.values() for length in of_run]
    lengths = sorted(length for length in set(counts) if counts.count(length) >= min(2, len(scores)))
    # All lengths together or the longest trained one, and the longest that two models have.
    within = [length for length in lengths if ALL < length <= min(metric.trained.values())]
    first = lengths[:1] if ALL in lengths else (within or lengths[:1])[-1:]
    for length in dict.fromkeys([*first, *lengths[-1:]]):
        at_length = {name: of_run[length] for name, of_run in scores.items() if length in of_run}
        name = metric.name if length == ALL else f"{metric.name} at {length_name(length, metric.multiples_of)}"
        rows += [{"metric": name, **row} for row in _rows_at(metric, at_length)]
    frame = pd.DataFrame(rows)
    if frame["difference"].isna().all():
        frame = frame.drop(columns=["difference", "its interval", "verdict"])
    caption = (
        "Intervals are 95%, over the items of the test. The difference is how much worse a model is than the best, on "
        "the items of both: inconclusive if its interval contains 0. Another seed of the training can change an order."
    )
    return Table("comparison", "At the training length and at the longest", caption, frame)


def _rows_at(metric: SummaryMetric, scores: Mapping[str, ItemScores]) -> list[dict[str, str | None]]:
    """Return the rows of models at one length, in the order of the models."""
    finite = [name for name, of_run in scores.items() if not math.isnan(of_run.value)]
    ranking = sorted(finite, key=lambda name: scores[name].value, reverse=metric.is_share)
    verdicts, gaps = dict.fromkeys(scores, "diverged"), {}
    for name in ranking[1:]:
        more, less = (ranking[0], name) if metric.is_share else (name, ranking[0])
        gaps[name] = gap, low, high = difference(scores[more], scores[less], metric.is_share, metric.seed)
        certain = "worse" if low > 0 else "inconclusive"
        verdicts[name] = "too few items" if math.isnan(low) else "equivalent" if gap == low == high == 0 else certain
    if ranking:
        verdicts[ranking[0]] = "best" if all(verdicts[name] == "worse" for name in ranking[1:]) else "inconclusive"
    return [
        {
            "model": name,
            "value": metric.shown(of_run.value),
            "interval": metric.shown(*metric.interval(of_run)),
            "difference": metric.shown(gaps[name][0]) if name in gaps else None,
            "its interval": metric.shown(*gaps[name][1:]) if name in gaps else None,
            "verdict": verdicts[name],
        }
        for name, of_run in scores.items()
    ]


def longer_context_table(
    metric: SummaryMetric, items: Mapping[str, Mapping[tuple[str, int], ItemScores]]
) -> Table | None:
    """Return a row for each model and length beyond training: the sliding loss, also in its own window, and the gain.

    Items are by model, as of `Extrapolation`. None if no model has its own window and a longer one.
    """
    rows = []
    for model, of_model in items.items():
        trained = of_model.get((SLIDING, metric.trained[model]))
        for (protocol, length), scores in of_model.items():
            if trained is None or protocol != SLIDING or length <= metric.trained[model]:
                continue
            gain, shown, ends = of_model.get((CONTEXT_GAIN, length)), SHORT_DOCUMENTS, (math.nan, math.nan)
            if gain is not None:
                ends, shown = interval(gain, False, metric.seed), metric.shown(gain.value) or "–"
                shown += "" if math.isnan(ends[0]) else f" ({metric.shown(*ends)})"
            use = ContextUse.of(ends, excess(scores, trained, 1.0, False, metric.seed))
            row = {"model": model, "context": f"{length:,}", "loss": metric.shown(scores.value)}
            row |= {"own window": metric.shown(trained.value), "gain of context": shown}
            verdict = "diverged" if math.isnan(scores.value) else metric.unlearned.get(model, str(use))
            rows.append({**row, "verdict": verdict})
    caption = (
        "Bits per byte in sliding windows; the own window is of the training length. The gain is the loss in it "
        "minus that in the longer one, on targets with at least half of the longer one before them in their document "
        f"('{SHORT_DOCUMENTS}': there are none), with a 95% interval over documents: above 0, and "
        f"up to {MIN_CONTEXT_GAIN:g} or more, a model '{ContextUse.USES}'. '{ContextUse.KEEPS}': surely at most "
        f"{CONTEXT_MARGIN:g} worse than its own window."
    )
    return Table("longer_context", "Longer context", caption, pd.DataFrame(rows)) if rows else None


def within_tolerance(metric: SummaryMetric) -> dict[str, str]:
    """Return the length up to which each model is, with 95% certainty, at most 5% worse than at its training length.

    Models without scores at a trained and at a longer length are missing. A model that has not learned has another
    verdict instead of a length.
    """
    verdicts = {}
    for name, of_run in metric.scores.items():
        lengths = sorted(length for length in of_run if length != ALL)
        trained = [length for length in lengths if length <= metric.trained[name]]
        if name in metric.unlearned:
            verdicts[name] = metric.unlearned[name]
        elif any(math.isnan(scores.value) for scores in of_run.values()):
            verdicts[name] = "diverged"
        elif trained and trained[-1] < lengths[-1]:
            verdicts[name] = _reach(metric, of_run, lengths[len(trained) - 1 :])
    return verdicts


def _reach(metric: SummaryMetric, scores: Mapping[int, ItemScores], lengths: Sequence[int]) -> str:
    """Return the last of the lengths up to which a model stays within 5%; the first one is the training length."""
    reference = scores[lengths[0]]
    if metric.is_share and reference.value == 0:
        return "never right"
    sign, last = (-1 if metric.is_share else 1), lengths[0]
    for length in lengths[1:]:
        low, high = excess(scores[length], reference, 1 + sign * TOLERANCE, metric.is_share, metric.seed)
        if not max(sign * low, sign * high) <= 0:
            break
        last = length
    reach = length_name(last, lengths[0])
    if last == lengths[-1]:
        return f"{reach}, all tested"
    is_certain = min(sign * low, sign * high) > 0
    return reach if is_certain else f"{reach}, then too few items"


def why_unlearned(items: Mapping[tuple[str, int], ItemScores], trained: int) -> str | None:
    """Return a verdict on a model of text that has nothing to lose in longer windows; None if it may have.

    In windows of the longest training length, a model that has learned is with 95% certainty at least `TOLERANCE`
    better than the frequencies of tokens. One that uses context is better on tokens far into a window than on its first
    ones: with 95% certainty, or by `TOLERANCE` where the items are too few for that. Items are as of `Extrapolation`.
    """
    within = [length for protocol, length in items if protocol == NON_OVERLAPPING and 2 <= length <= trained]
    if not within:
        return None
    length = max(within)
    scores, near, far = (items[kind, length] for kind in (NON_OVERLAPPING, NEAR, FAR))
    if (unigram := items.get((UNIGRAM, length))) is not None and not math.isnan(scores.value):
        _, high = excess(scores, unigram, 1 - TOLERANCE, False)
        if high >= 0 or (math.isnan(high) and scores.value > (1 - TOLERANCE) * unigram.value):
            return UNLEARNED
    _, _, high = difference(far, near, False)
    return NO_CONTEXT if not high < 0 and far.value > (1 - TOLERANCE) * near.value else None
