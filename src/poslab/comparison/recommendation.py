"""A recommendation from the results of a comparison, under what a user needs of a model."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from poslab.arguments import Count, Positive, Range, with_checked_arguments
from poslab.comparison.answers import ALIKE, cost, listed
from poslab.comparison.comparison import Criterion
from poslab.comparison.results import Results
from poslab.comparison.verdict import verdicts

SPEED, MEMORY = "train_tokens_per_second", "memory"


@with_checked_arguments
@dataclass(frozen=True)
class Needs:
    """Requirements of a user.

    Args:
        length: longest text or example that the model must serve, in the measure of the test; None is any.
        memory: most memory of training, in MB.
        speed: least speed of training, in tokens per second.
        start: whether the model is trained from scratch or is a pretrained one.
    """

    length: Count | None = None
    memory: Positive | None = None
    speed: Annotated[float, Range(above=0)] | None = None
    start: Literal["scratch", "pretrained"] = "scratch"


def recommendation(results: Results, needs: Needs) -> Iterator[str]:
    """Yield a sentence or two for each case: what to take, the runner-up, and how far the evidence is from the need."""
    if needs.start == "pretrained":
        yield "There is no evidence for pretrained models here: all models of this comparison are trained from scratch."
        return
    for case in results.comparison.cases:
        yield f"{case}: {' '.join(_for_case(results, case, needs))}"


def _for_case(results: Results, case: str, needs: Needs) -> Iterator[str]:
    if not any(results.seeds(case, encoding) for encoding in results.encodings(case)):
        yield "there is no evidence yet, since no seed of all encodings is finished."
        return
    criterion = _criterion(results, case, needs)
    able = [name for name in results.reaching(case, criterion) if name not in results.not_learned(case)]
    fitting = [name for name in able if _fits(results, case, name, needs)]
    if not fitting:
        lacking = "has learned it" if not able else "is fast and small enough"
        yield f"no encoding {lacking}, of {listed(results.encodings(case))}."
        return
    scores = {name: one for name, one in results.scores(case, criterion).items() if name in fitting}
    sign = -1 if criterion.direction == "minimize" else 1
    ranked = sorted(
        scores, key=lambda name: -sign * scores[name].mean if math.isfinite(scores[name].mean) else math.inf
    )
    best = ranked[0]
    seeds = len(results.seeds(case, best))
    beside = verdicts(scores, best, criterion.direction, criterion.margin or 0.0) if len(scores) > 1 else {}
    alike = [name for name, verdict in beside.items() if verdict.word in ALIKE]
    choice = max([best, *alike], key=lambda name: _speed(results, case, name))
    yield f"take {choice} ({criterion.metric} {scores[choice].mean:.4g}, {seeds} seed{'s' if seeds > 1 else ''})."
    if choice != best:
        yield f"{best} has the best mean ({scores[best].mean:.4g}), is not told apart from it, and trains more slowly."
    elif len(ranked) > 1:
        second, value = ranked[1], scores[ranked[1]].mean
        low, high = sorted(-end for end in beside[second].difference.interval)
        yield f"The runner-up is {second} ({value:.4g}; {best} minus {second}: {low:+.3g} to {high:+.3g})."
    named = {choice, best, *(ranked[1:2] if choice == best else [])}
    if others := [name for name in alike if name not in named]:
        yield f"{listed(others)} {'are' if len(others) > 1 else 'is'} not told apart from {best} either."
    if dropped := [name for name in able if name not in fitting]:
        yield f"{listed(dropped)} {'are' if len(dropped) > 1 else 'is'} too slow or too large."
    yield from _distance(results, case, criterion, needs)


def _criterion(results: Results, case: str, needs: Needs) -> Criterion:
    """Return the first metric of a case, at the needed length or the nearest one that was tested."""
    first = results.comparison.criteria(case)[0]
    lengths = results.plan.lengths[case]
    if needs.length is None or len(lengths) < 2:
        return first
    longer = [n for n in lengths if n >= needs.length]
    return replace(first, metric=f"{first.name}@{min(longer) if longer else max(lengths)}")


def _fits(results: Results, case: str, encoding: str, needs: Needs) -> bool:
    fast = needs.speed is None or cost(results, case, encoding, SPEED) >= needs.speed
    small = needs.memory is None or cost(results, case, encoding, MEMORY) <= needs.memory
    return fast and small


def _speed(results: Results, case: str, encoding: str) -> float:
    speed = cost(results, case, encoding, SPEED)
    return speed if math.isfinite(speed) else 0.0


def _distance(results: Results, case: str, criterion: Criterion, needs: Needs) -> Iterator[str]:
    """Yield how far the evidence is from the need."""
    trained = results.plan.trained[case]
    tested = max(results.plan.lengths[case], default=trained)
    sizes = [
        r.metrics.get("parameters", 0) for name in results.encodings(case) for _, r in results.runs(case, name).values()
    ]
    yield (
        f"The evidence is of models of {max(sizes):,.0f} parameters, trained up to length {trained:,} and tested up to "
        f"{tested:,}."
    )
    if needs.length is not None and needs.length > tested:
        yield f"Length {needs.length:,} is {needs.length / tested:.3g} times that: expect the order, not the values."
