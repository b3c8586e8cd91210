"""Encodings that serve a need, best first, from the results of a comparison."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated

import pandas as pd
from rich.console import Console

from poslab.arguments import Count, Positive, Range, with_checked_arguments
from poslab.evaluation.scores.extra_metrics import EXTRA
from poslab.experiments.criteria import Criterion
from poslab.experiments.report.tables import BEST, ranking
from poslab.experiments.report.write import print_table
from poslab.experiments.results import Results
from poslab.experiments.statistics.verdict import Word

SPEED, MEMORY = "train_tokens_per_second", "memory"


@with_checked_arguments
@dataclass(frozen=True)
class Needs:
    """Requirements of a user.

    Args:
        length: longest text or example that the model must serve, in the measure of the test; None is any.
        memory: most memory in MB, of training, or if a length is given of reading it.
        speed: least tokens per second, of training, or if a length is given of reading it.
    """

    length: Count | None = None
    memory: Positive | None = None
    speed: Annotated[float, Range(above=0)] | None = None


@dataclass(frozen=True)
class Recommendation:
    """The recommendation for a case.

    Args:
        case: of the comparison.
        take: the encoding to take; None without evidence for one.
        evidence: the metric and the lengths of training and test.
        table: encodings by mean, as of `ranking`, with speed, memory, and why one does not serve the need.
    """

    case: str
    take: str | None
    evidence: str
    table: pd.DataFrame


def recommendations(results: Results, needs: Needs) -> Iterator[Recommendation]:
    """Yield what each case with a seed of all encodings recommends under a need."""
    for case in filter(results.is_comparable, results.comparison.cases):
        criterion, encodings = _criterion(results, case, needs), results.encodings(case)
        costs = {name: _costs(results, case, name, needs) for name in encodings}
        unfit = {}
        for name, (speed, memory) in costs.items():
            if needs.speed is not None and not speed >= needs.speed:
                unfit[name] = "too slow" if math.isfinite(speed) else "speed unknown"
            elif needs.memory is not None and not memory <= needs.memory:
                unfit[name] = "too large" if math.isfinite(memory) else "memory unknown"
        table = ranking(results, case, criterion, unfit)
        if unfit:
            dropped = pd.DataFrame({"encoding": list(unfit), "verdict": list(unfit.values())})
            table = pd.concat([table, dropped], ignore_index=True)
        unknown = (math.nan, math.nan)
        table.insert(2, "tokens_per_second", [costs.get(name, unknown)[0] for name in table["encoding"]])
        table.insert(3, "memory_mb", [costs.get(name, unknown)[1] for name in table["encoding"]])
        verdicts = set(table["verdict"])
        is_tested = not verdicts.isdisjoint({Word.WORSE, Word.EQUIVALENT, Word.INCONCLUSIVE})
        is_best = BEST in verdicts and Word.BETTER not in verdicts
        take = None
        if is_best and (is_tested or Word.ONE_SEED not in verdicts):
            equal = table[table["verdict"].isin([BEST, Word.EQUIVALENT])]["encoding"]
            take = max(equal, key=lambda name: costs[name][0] if math.isfinite(costs[name][0]) else 0.0)
        tested = max(results.lengths(case), default=results.training_length(case))
        evidence = f"{criterion.metric}, trained up to {results.training_length(case)}, tested up to {tested}"
        yield Recommendation(case, take, evidence, table.dropna(axis=1, how="all"))


def print_recommendations(console: Console, results: Results, needs: Needs) -> None:
    """Print each case in a line, with its table."""
    for case in recommendations(results, needs):
        take = "no recommendation" if case.take is None else f"take {case.take}"
        console.print(f"{case.case}: {take} ({case.evidence})")
        heading = {"encoding": results.comparison.heading}
        print_table(console, case.case, case.table.rename(columns=heading))


def _criterion(results: Results, case: str, needs: Needs) -> Criterion:
    """Return the first metric of a case, at the needed length or the nearest one that was tested."""
    first = results.comparison.criteria(case)[0]
    if needs.length is None or len(results.lengths(case)) < 2 or first.name in EXTRA:
        return first
    return replace(first, metric=f"{first.name}@{_nearest(results, case, needs.length)}")


def _nearest(results: Results, case: str, length: int) -> int:
    """Return the shortest length of the test that is not below a length, or else the longest."""
    lengths = results.lengths(case)
    return min((n for n in lengths if n >= length), default=max(lengths))


def _costs(results: Results, case: str, encoding: str, needs: Needs) -> tuple[float, float]:
    """Return tokens per second and MB, of reading the needed length where that was timed, else of training."""
    timed = results.timed(case)
    if needs.length is None or not timed:
        return results.cost(case, encoding, SPEED), results.cost(case, encoding, MEMORY)
    reading = timed[encoding].reading if encoding in timed else {}
    length = _nearest(results, case, needs.length)
    speed, memory = (reading.get(f"{name}@{length}", math.nan) for name in ("tokens_per_second", "memory_mb"))
    return speed, memory
