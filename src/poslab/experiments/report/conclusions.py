"""Conclusions of a comparison in sentences: the answer of each case and over all cases, and what is not claimed."""

from __future__ import annotations

from collections.abc import Iterator

from poslab.experiments.report.answers import answers
from poslab.experiments.report.summary import OverCases
from poslab.experiments.results import Results
from poslab.experiments.statistics.over_cases import caution
from poslab.experiments.tuned_points import at_an_end
from poslab.report.sentences import are, has, listed


def conclusions(results: Results) -> dict[str, str]:
    """Return the answer over all cases, where there are enough, and that of each case, in sentences."""
    comparison = results.comparison
    by_case = {one.case: " ".join(one.sentences(comparison.baseline)) for one in answers(results)}
    for case in comparison.cases:
        if case not in by_case:
            by_case[case] = f"there is no answer, since {_why_no_answer(results, case)}."
    for case in comparison.cases:
        if missing := results.without_runs(case):
            by_case[case] += f" {listed(missing)} {has(missing)} no finished run."
        reaching = results.reaching(case, comparison.criteria(case)[0])
        if ending := [name for name in results.encodings(case) if name not in reaching]:
            by_case[case] += f" {listed(ending)} {has(ending)} no positions at these lengths."
    ordered = {case: by_case[case] for case in comparison.cases}
    overall = OverCases(results)
    return {"all cases": " ".join(overall.sentences()), **ordered} if overall.enough else ordered


def _why_no_answer(results: Results, case: str) -> str:
    if not results.is_comparable(case):
        return "no seed of all encodings is finished"
    if not results.reaching(case, results.comparison.criteria(case)[0]):
        return "no encoding has positions at these lengths"
    return "no encoding has learned it" if results.not_learned(case) else "all runs diverged"


def reservations(results: Results) -> Iterator[str]:
    """Yield what is not claimed."""
    comparison = results.comparison
    if old := results.of_earlier_splits:
        yield (
            f"{listed(old)} {are(old)} of an earlier split of the data, in which near-copies of training examples are "
            "among those of the test: scores may be too high until the runs are made again."
        )
    if (warning := caution(len(OverCases(results).cases))) is not None and len(comparison.cases) > 1:
        yield warning
    if comparison.tuning is None:
        yield "Nothing was tuned: every encoding has the hyperparameters of its files, which may suit some better."
        return
    for case in comparison.cases:
        if ends := at_an_end(results.tuned(case)):
            yield (
                f"On {case} the best value of {listed(ends)} is at an end of all that were tried: a better one "
                "may lie beyond."
            )
