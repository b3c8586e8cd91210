"""Published results beside those of a comparison: values with their source, and claims with their outcome."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pandas as pd

from poslab.arguments import Count, with_checked_arguments
from poslab.comparison.comparison import Comparison, Criterion, made
from poslab.comparison.lengths import at_lengths
from poslab.comparison.results import Results
from poslab.comparison.statistics.verdict import Word
from poslab.evaluation.base_bound import smallest_base
from poslab.report.figures import Table
from poslab.report.page import Section

SEEN = Literal["pdf", "raw_results", "code", "secondary"]
"""Source in which a value was read: the paper itself, the authors' raw results or code, or a text that repeats it."""

HOLDS, FAILS, OPEN, UNTESTED = "holds", "does not hold", "not told apart", "not tested at this scale"
"""Outcomes of a claim."""


@with_checked_arguments
@dataclass(frozen=True)
class Paper:
    """The source of published results: title, number on arXiv, table, and the address of the code."""

    title: str
    arxiv: str
    table: str | None = None
    code: str | None = None


@with_checked_arguments
@dataclass(frozen=True)
class Published:
    """A published value, in the unit of the paper.

    Args:
        case: in the words of the paper, or the name of a case of the comparison.
        encoding: name of an encoding in conf/encoding.
        value, sd, n: value, standard deviation and number of seeds, as far as they are given.
        at: length, or its multiple of the training length, such as `8x`.
        seen: where it was read.
        metric: tag of ours that is set beside it, on the case of the same name, or on the only one; None is the first
            metric of the case of the same name, if there is one.
        head_dim: of a value that is the smallest base of rotary for a context of `at` tokens; it is computed too.
    """

    case: str
    encoding: str
    value: float
    seen: SEEN
    at: str | int | None = None
    sd: float | None = None
    n: int | None = None
    metric: str | None = None
    head_dim: Count | None = None

    def __post_init__(self) -> None:
        if self.metric is not None:
            Criterion(self.metric, "minimize")  # raises ValueError for what is not a metric
        if self.head_dim is not None and (type(self.at) is not int or self.at < 1 or self.head_dim % 2):
            raise ValueError("head_dim must be even, and at a length in tokens")

    @property
    def computed(self) -> float | None:
        """The same value, computed here; None for one that only training can give."""
        return None if self.head_dim is None else smallest_base(self.head_dim, int(self.at or 0))


@with_checked_arguments
@dataclass(frozen=True)
class Claim:
    """A claim of a paper: an encoding is better than another one on a case, by a metric of the comparison.

    Args:
        say: the claim in a sentence.
        better, than: names of encodings of the comparison.
        case: name of a case of the comparison; None if the comparison has none for it.
        metric: a tag, as of a criterion; None is the first metric of the case.
    """

    say: str
    better: str
    than: str
    case: str | None = None
    metric: str | None = None

    def __post_init__(self) -> None:
        if self.better == self.than:
            raise ValueError(f"better and than must be different encodings, got {self.better} twice")
        if self.metric is not None:
            Criterion(self.metric, "minimize")  # raises ValueError for what is not a metric


@dataclass(frozen=True)
class PublishedResults:
    """Published results in a comparison file.

    Args:
        paper, published, claims: arguments of `Paper`, `Published` and `Claim`.
        differences: sentences on what our setting does otherwise.
    """

    paper: Mapping[str, Any]
    published: Sequence[Mapping[str, Any]] = ()
    claims: Sequence[Mapping[str, Any]] = ()
    differences: Sequence[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        _ = self.source, self.values, self.all_claims
        if not all(isinstance(one, str) and one for one in self.differences):
            raise ValueError("differences must be sentences")

    @property
    def source(self) -> Paper:
        """The paper."""
        found: Paper = made(Paper, "paper", self.paper)
        return found

    @property
    def values(self) -> list[Published]:
        """The published values."""
        return [made(Published, f"published[{place}]", node) for place, node in enumerate(self.published)]

    @property
    def all_claims(self) -> list[Claim]:
        """The claims."""
        return [made(Claim, f"claims[{place}]", node) for place, node in enumerate(self.claims)]


def published_results(comparison: Comparison) -> PublishedResults | None:
    """Return what a comparison says of a paper; None if it repeats none.

    Raises:
        ValueError: for anything that is not declared, such as a value that was seen nowhere.
    """
    if comparison.paper is None:
        return None
    return PublishedResults(comparison.paper, comparison.published, comparison.claims, comparison.differences)


def outcome(results: Results, claim: Claim) -> tuple[str, str]:
    """Return the outcome of a claim, and its evidence in words."""
    if claim.case is None or claim.case not in results.comparison.cases:
        return UNTESTED, "no case of this comparison"
    criterion = _criterion(results, claim.case, claim.metric)
    scores = results.scores(claim.case, criterion)
    is_tested = at_lengths(criterion, results.plan.lengths[claim.case], results.plan.trained[claim.case])
    missing = [name for name in (claim.better, claim.than) if name not in scores]
    if missing or not is_tested:
        return UNTESTED, f"{missing[0] if missing else criterion.metric} has no result at these lengths"
    if behind := [name for name in (claim.better, claim.than) if name in results.not_learned(claim.case)]:
        return UNTESTED, f"{' and '.join(behind)} {'have' if len(behind) > 1 else 'has'} not learned the task"
    verdict = results.verdicts(claim.case, criterion, claim.than)[claim.better]
    words = {Word.BETTER: HOLDS, Word.WORSE: FAILS, Word.EQUAL: FAILS, Word.DIVERGED: UNTESTED}
    return words.get(verdict.word, OPEN), verdict.beside(claim.than)


def _criterion(results: Results, case: str, metric: str | None) -> Criterion:
    """Return the metric that a tag names: the first of a case for None, a declared one, or one without a margin."""
    declared = results.comparison.criteria(case)
    if metric is None:
        return declared[0]
    name = metric.partition("@")[0].removeprefix("sliding_")
    other = Criterion(metric, "minimize" if name in results.tasks[case].open_ended else "maximize")
    return next((criterion for criterion in declared if criterion.metric == metric), other)


def claims_table(results: Results, published: PublishedResults) -> pd.DataFrame:
    """Return a row for each claim: the claim, its outcome and the evidence."""
    rows = []
    for claim in published.all_claims:
        word, evidence = outcome(results, claim)
        rows.append({"claim": claim.say, "outcome": word, "evidence": evidence})
    return pd.DataFrame(rows, columns=["claim", "outcome", "evidence"])


def values_table(results: Results, published: PublishedResults) -> pd.DataFrame:
    """Return a row for each published value, with where it was read, and our value beside it."""
    rows = []
    for v in published.values:
        metric, ours = _ours(results, v)
        said = {"case": v.case, "at": v.at, "encoding": v.encoding, "published": v.value, "sd": v.sd, "seeds": v.n}
        rows.append({**said, "ours": ours, "our metric": metric, "computed here": v.computed, "seen": v.seen})
    return pd.DataFrame(rows).dropna(axis=1, how="all")


def _ours(results: Results, value: Published) -> tuple[str | None, float | None]:
    """Return the metric that is set beside a published value, and our mean of it; None where there is none."""
    cases = results.comparison.all_cases
    case = value.case if value.case in cases else next(iter(cases)) if value.metric and len(cases) == 1 else None
    if case is None or value.encoding not in results.encodings(case):
        return None, None
    criterion = _criterion(results, case, value.metric)
    return criterion.metric, results.mean(case, criterion, value.encoding)


def beside_the_paper(results: Results) -> Iterator[Section]:
    """Yield the section of a report on the paper that a comparison repeats, if it does."""
    if (published := published_results(results.comparison)) is None:
        return
    paper = published.source
    source = f"arXiv:{paper.arxiv}{f', table {paper.table}' if paper.table else ''}"
    text = f"{paper.title} ({source})."
    if published.differences:
        text += " Our setting differs from the paper's:\n\n" + "\n\n".join(f"– {one}" for one in published.differences)
    tables = [
        Table(
            "claims",
            "Claims of the paper",
            "A claim holds if the first encoding is better than the second here, and does not hold if it is worse, or "
            "equal within the margin.",
            claims_table(results, published),
        ),
        Table(
            "published",
            "Published values",
            "In the unit of the paper, at its scale: only orders compare with ours. The last column says where a "
            "value was read.",
            values_table(results, published),
        ),
    ]
    yield Section("Beside the paper", text, [table for table in tables if not table.frame.empty])
