"""A recommendation from the results of a comparison, under what a user needs of a model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from rich.console import Console

from poslab.arguments import Count, Positive, Range, with_checked_arguments
from poslab.configuration.command_line import poslab_command
from poslab.evaluation.scores.extra_metrics import EXTRA
from poslab.experiments.criteria import Criterion
from poslab.experiments.report.answers import Answer, answer, in_words, nothing_scored
from poslab.experiments.report.further_runs import FurtherRuns
from poslab.experiments.results import Results
from poslab.experiments.statistics.verdict import Word
from poslab.report.sentences import amount, are, has, listed
from poslab.runs.directory import RunDirectory

SPEED, MEMORY = "train_tokens_per_second", "memory"


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


def recommendation(
    results: Results, needs: Needs, typed: str, estimated: Callable[[str], float] | None = None
) -> Iterator[str]:
    """Yield a text for each case: what to take, the runner-up, and how far the evidence is from the need.

    Where there is no evidence, the text ends with a command that makes it, in a line of its own, and says how long that
    takes. Cases with the same text share it.

    Args:
        results: of the comparison.
        needs: what the user needs.
        typed: the command of the comparison.
        estimated: seconds of a run of a case of which none is finished; None if they cannot be estimated.
    """
    further = FurtherRuns(results, typed, estimated)
    cases: dict[str, list[str]] = {}
    for case in results.comparison.cases:
        parts = list(_for_case(results, case, needs, further))
        cases.setdefault("".join(part if part.startswith("\n") else f" {part}" for part in parts), []).append(case)
    for text, own in cases.items():
        yield f"{listed(own)}:{text}"


def print_recommendation(console: Console, texts: Iterable[str]) -> None:
    """Print texts of a recommendation; commands are not wrapped, so that they can be copied."""
    for line in (line for text in texts for line in text.splitlines()):
        console.print(line, soft_wrap=line.startswith(poslab_command("compare")))


def _for_case(results: Results, case: str, needs: Needs, further: FurtherRuns) -> Iterator[str]:
    is_pretrained = _is_pretrained(results, case)
    if needs.start == "pretrained" and not is_pretrained:
        yield "there is no evidence for pretrained models, since all of these began from scratch."
        yield from further.pretrained()
        return
    if needs.start == "scratch" and is_pretrained:
        yield "there is no evidence for models from scratch, since all of these are pretrained (start=pretrained)."
        return
    if not results.is_comparable(case):
        yield "there is no evidence yet, since no seed of all encodings is finished."
        yield from further.finished(case)
        return
    criterion = _criterion(results, case, needs)
    if not results.scores(case, criterion):
        yield f"no encoding has positions for {in_words(criterion)}, of {listed(results.encodings(case))}."
        return
    able = results.ranked(case, criterion)
    dropped = [name for name in able if any(_unfit(results, case, name, needs))]
    left_out = [f"{name} ({', '.join(_unfit(results, case, name, needs))})" for name in dropped]
    left_out += [
        f"{name} ({_why_unranked(results, case, name, criterion)})"
        for name in results.encodings(case)
        if name not in able
    ]
    if (found := answer(results, case, criterion, dropped)) is None:
        if able:
            considered = [name for name in results.encodings(case) if name in able]
            yield f"no encoding is known to be fast and small enough, of {listed(considered)}."
        else:
            yield f"no encoding has learned it: {listed(left_out)}."
        return
    if found.all_zero:
        yield nothing_scored(criterion)
        return
    if needs.length is not None and needs.length > (tested := _longest_test(results, case)):
        yield (
            f"there is no evidence at length {needs.length:,}, {needs.length / tested:.3g} times the longest test. At "
            f"length {tested:,}:"
        )
    yield from _choice(results, found, needs)
    if left_out:
        yield f"Left out: {listed(left_out)}."
    yield from _distance(results, case, needs)
    if missing := results.without_runs(case):
        yield f"{listed(missing)} {has(missing)} no finished run."
    if missing or further.is_unfinished(case):
        yield from further.finished(case)
    elif found.single_seed:
        yield from further.with_more_seeds()
    elif results.plan.lengths[case] and needs.length is not None and needs.length > _longest_test(results, case):
        yield from further.tested_at(case, needs.length)


def _choice(results: Results, found: Answer, needs: Needs) -> Iterator[str]:
    """Yield which encoding to take, the runner-up, and those that are inconclusive next to it."""
    case, best, metric = found.case, found.best, in_words(found.criterion)
    values = {name: f"{mean:.4g}" for name, mean in found.means.items()}
    if found.single_seed:
        yield f"{found.leaders(metric)}, which one seed cannot tell from luck."
        return
    if found.ahead:
        ahead, *_ = found.ahead
        yield (
            f"{found.leaders(metric)}, but {ahead} ({values[ahead]}) is {found.beside[ahead].beside(best)}. No "
            "encoding is clearly the one to take."
        )
        return
    faster = "trains faster" if (length := _timed_at(results, case, needs)) is None else f"reads {length:,} faster"
    equal, unclear = found.worded(Word.EQUAL), found.worded(Word.NOT_TOLD_APART)
    choice, fastest = (
        max([best, *others], key=lambda name: _speed(results, case, name, needs))
        for others in (equal, [*equal, *unclear])
    )
    seeds = amount(len(results.known_values(case, found.criterion, choice)), "seed")
    yield f"take {choice} ({metric}: {values[choice]}, {seeds})."
    others = [name for name in found.means if name != best]
    if choice != best:
        yield f"{found.leaders('mean')}; {choice} is equivalent within the margin and {faster}."
    elif others:
        place = "The runner-up" if others[0] in found.worded(Word.WORSE) else "Beside it"
        yield f"{place} is {others[0]} ({values[others[0]]}): {found.beside[others[0]].beside(best)}."
    named = {choice, *(others[:1] if choice == best else [])}
    if equal := [name for name in equal if name not in named]:
        yield f"{listed(equal)} {are(equal)} equivalent to {best} within the margin."
    if unclear := [name for name in unclear if name not in named]:
        yield f"{listed(unclear)} {are(unclear)} inconclusive next to {best}."
    if fastest != choice:
        yield f"{fastest} {faster} than {choice}."


def _criterion(results: Results, case: str, needs: Needs) -> Criterion:
    """Return the first metric of a case, at the needed length or the nearest one that was tested."""
    first = results.comparison.criteria(case)[0]
    if needs.length is None or len(results.plan.lengths[case]) < 2 or first.name in EXTRA:
        return first
    return replace(first, metric=f"{first.name}@{_nearest(results, case, needs.length)}")


def _nearest(results: Results, case: str, length: int) -> int:
    """Return the shortest length of the test that is not below a length, or else the longest."""
    lengths = results.plan.lengths[case]
    longer = [n for n in lengths if n >= length]
    return min(longer) if longer else max(lengths)


def _timed_at(results: Results, case: str, needs: Needs) -> int | None:
    """Return the length at which speed and memory decide; None where those of training do."""
    if needs.length is None or case not in results.speeds:
        return None
    length = _nearest(results, case, needs.length)
    return length if length in results.speeds[case].lengths else None


def _costs(results: Results, case: str, encoding: str, needs: Needs) -> tuple[float, float]:
    """Return tokens per second and MB, of reading the needed length where that was timed, else of training."""
    if (length := _timed_at(results, case, needs)) is None:
        return results.cost(case, encoding, SPEED), results.cost(case, encoding, MEMORY)
    found = results.speeds[case].at(encoding, length)
    return (math.nan, math.nan) if found is None else (found.tokens_per_second, found.memory_mb)


def _is_pretrained(results: Results, case: str) -> bool:
    """Return whether the runs of a case began from the weights of another run, or of a pretrained model."""
    comparison = results.comparison
    chosen = {**comparison.train, **comparison.all_cases[case].train}
    typed = dict(override.lstrip("+").split("=", 1) for override in comparison.overrides if "=" in override)
    runs = [cell for cell, _ in results.cells if cell.case == case and cell.identity in results.places]
    kept = RunDirectory(results.place(runs[0]), tuple(comparison.trust)).config() if runs else {}
    is_hosted = "pretrained" in (chosen.get("model"), typed.get("model")) or "path" in kept.get("model", ())
    return (
        is_hosted
        or comparison.all_cases[case].after is not None
        or any(own.get("init_from") not in (None, "null") for own in (chosen, typed, kept))
    )


def _unfit(results: Results, case: str, encoding: str, needs: Needs) -> Iterator[str]:
    """Yield why an encoding does not serve a need: what it has too little or too much of, or what is not known."""
    speed, memory = _costs(results, case, encoding, needs)
    if needs.speed is not None and not speed >= needs.speed:
        yield f"{speed:,.0f} tokens per second" if math.isfinite(speed) else "its speed is not known"
    if needs.memory is not None and not memory <= needs.memory:
        yield f"{memory:,.0f} MB" if math.isfinite(memory) else "its memory is not known"


def _why_unranked(results: Results, case: str, encoding: str, criterion: Criterion) -> str:
    """Return why an encoding with runs is not among those that can be taken."""
    if encoding not in results.scores(case, criterion):
        return "no positions there"
    return "not learned" if encoding in results.not_learned(case) else "all runs diverged"


def _speed(results: Results, case: str, encoding: str, needs: Needs) -> float:
    speed, _ = _costs(results, case, encoding, needs)
    return speed if math.isfinite(speed) else 0.0


def _longest_test(results: Results, case: str) -> int:
    return max(results.plan.lengths[case], default=results.plan.trained[case])


def _distance(results: Results, case: str, needs: Needs) -> Iterator[str]:
    """Yield what the evidence is of, and where it was timed."""
    trained = results.plan.trained[case]
    runs = [result for name in results.encodings(case) for _, result in results.runs(case, name).values()]
    size = max(result.metrics.get("parameters", 0) for result in runs)
    yield (
        f"The evidence is of models of {size:,.0f} parameters, trained up to length {trained:,} and tested up to "
        f"{_longest_test(results, case):,}."
    )
    if needs.speed is not None or needs.memory is not None:
        if (length := _timed_at(results, case, needs)) is not None:
            yield f"Speed and memory are those of reading length {length:,} on {results.speeds[case].machine}."
        else:
            machines = listed(sorted({result.machine for result in runs}))
            yield f"Speed and memory are those of training at length {trained:,} on {machines}."
