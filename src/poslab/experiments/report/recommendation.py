"""Encodings that serve a need, best first, from the results of a comparison."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import pandas as pd
from rich.console import Console

from poslab.arguments import Count, Positive, Range, with_checked_arguments
from poslab.configuration.command_line import poslab_command, words_after
from poslab.evaluation.scores.extra_metrics import EXTRA
from poslab.experiments.criteria import Criterion
from poslab.experiments.report.tables import ALL_ZERO, BEST, ranking
from poslab.experiments.report.write import print_table
from poslab.experiments.results import Results
from poslab.experiments.statistics.verdict import Word

SPEED, MEMORY = "train_tokens_per_second", "memory"

OWN_KEYS = ("recommend", "report_only", "dry_run", "length", "memory", "speed", "start")
"""Keys of a command for a recommendation that a command for more evidence leaves out."""


@with_checked_arguments
@dataclass(frozen=True)
class Needs:
    """Requirements of a user.

    Args:
        length: longest text or example that the model must serve, in the measure of the test; None is any.
        memory: most memory in MB, of training, or if a length is given of reading it.
        speed: least tokens per second, of training, or if a length is given of reading it.
        start: whether the model is trained from scratch or is a pretrained one.
    """

    length: Count | None = None
    memory: Positive | None = None
    speed: Annotated[float, Range(above=0)] | None = None
    start: Literal["scratch", "pretrained"] = "scratch"


@dataclass(frozen=True)
class Recommendation:
    """The recommendation for a case.

    Args:
        case: of the comparison.
        take: the encoding to take; None without evidence for one.
        reason: the metric and the length of the evidence, or why there is none.
        table: encodings by mean, as of `ranking`, with speed, memory, and why one does not serve the need.
        command: trains the evidence that is missing; None if nothing is.
    """

    case: str
    take: str | None
    reason: str
    table: pd.DataFrame
    command: str | None = None


def recommendation(results: Results, needs: Needs, typed: str) -> Iterator[Recommendation]:
    """Yield what each case recommends under a need; `typed` is the command of the comparison."""
    for case in results.comparison.cases:
        yield _for_case(results, case, needs, typed)


def print_recommendation(console: Console, found: Iterator[Recommendation]) -> None:
    """Print each case in a line, with its table, and the command that trains what is missing in one line."""
    for one in found:
        console.print(f"{one.case}: {f'take {one.take}' if one.take else 'no recommendation'} ({one.reason})")
        if not one.table.empty:
            print_table(console, one.case, one.table)
        if one.command is not None:
            console.print(f"hint: {one.command}", soft_wrap=True)


def _for_case(results: Results, case: str, needs: Needs, typed: str) -> Recommendation:
    runs, nothing = results.runs_of_case(case), pd.DataFrame()
    seeds = results.comparison.seed_list
    more_seeds = [*seeds, max(seeds) + 1, max(seeds) + 2]
    is_pretrained = any(run.is_pretrained for run in runs)
    if runs and is_pretrained != (needs.start == "pretrained"):
        name = f"{results.comparison.name}_pretrained"
        command = _command(typed, name=name, output=f"outputs/comparisons/{name}", init_from="outputs/RUN")
        reason = f"no evidence for start={needs.start}"
        return Recommendation(case, None, reason, nothing, None if is_pretrained else command)
    missing = None if results.exist_already or _is_whole(results, case) else _command(typed)
    if not results.is_comparable(case):
        return Recommendation(case, None, "no seed of all encodings is finished", nothing, missing)
    criterion = _criterion(results, case, needs)
    unfit = {name: _unfit(results, case, name, needs) for name in results.encodings(case)}
    table = ranking(results, case, criterion, [name for name, reason in unfit.items() if reason])
    costs = {name: _costs(results, case, name, needs) for name in results.encodings(case)}
    dropped = [{"encoding": name, "verdict": reason} for name, reason in unfit.items() if reason]
    table = pd.concat([table, pd.DataFrame(dropped)], ignore_index=True) if dropped else table
    unknown = (math.nan, math.nan)
    table.insert(2, "tokens_per_second", [costs.get(name, unknown)[0] for name in table["encoding"]])
    table.insert(3, "memory_mb", [costs.get(name, unknown)[1] for name in table["encoding"]])
    table = table.dropna(axis=1, how="all")
    tested = max(results.lengths(case), default=results.training_length(case))
    reason = f"{criterion.metric}, trained up to {results.training_length(case)}, tested up to {tested}"
    if needs.length is not None and needs.length > tested:
        reason += f", no evidence at length {needs.length}"
    verdicts = set(table["verdict"])
    if ALL_ZERO in verdicts or BEST not in verdicts:
        return Recommendation(
            case, None, f"{reason}, {ALL_ZERO if ALL_ZERO in verdicts else 'none serves'}", table, missing
        )
    if Word.ONE_SEED in verdicts and not verdicts & {Word.WORSE, Word.EQUIVALENT, Word.INCONCLUSIVE, Word.BETTER}:
        more = None if results.exist_already else _command(typed, seeds=str(more_seeds).replace(" ", ""))
        return Recommendation(case, None, f"{reason}, {Word.ONE_SEED}", table, missing or more)
    if Word.BETTER in verdicts:
        return Recommendation(case, None, f"{reason}, the best mean is not the best by pairs of seeds", table, missing)
    equal = table[table["verdict"].isin([BEST, Word.EQUIVALENT])]["encoding"]
    take = max(equal, key=lambda name: costs[name][0] if math.isfinite(costs[name][0]) else 0.0)
    return Recommendation(case, take, reason, table, missing)


def _command(typed: str, **changes: str) -> str:
    """Return the command of the comparison without the keys of a recommendation, and with others."""
    words = [word for word in words_after("compare", typed) if word.partition("=")[0] not in (*OWN_KEYS, *changes)]
    return poslab_command("compare", *words, *(f"{key}={value}" for key, value in changes.items()))


def _is_whole(results: Results, case: str) -> bool:
    comparison = results.comparison
    return len(results.runs_of_case(case)) == len(comparison.encodings_of(case)) * len(comparison.seed_list)


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


def _unfit(results: Results, case: str, encoding: str, needs: Needs) -> str:
    """Return why an encoding does not serve a need; "" if it does."""
    speed, memory = _costs(results, case, encoding, needs)
    if needs.speed is not None and not speed >= needs.speed:
        return "too slow" if math.isfinite(speed) else "speed unknown"
    if needs.memory is not None and not memory <= needs.memory:
        return "too large" if math.isfinite(memory) else "memory unknown"
    return ""
