"""Tables of a comparison, for its report, a paper and a spreadsheet."""

from __future__ import annotations

import math

import pandas as pd

from poslab.experiments.criteria import Criterion
from poslab.experiments.metrics import is_share
from poslab.experiments.results import Results
from poslab.experiments.statistics.verdict import Word
from poslab.report.digits import fixed, readable
from poslab.report.figures import Table
from poslab.report.sentences import listed

SIGNS = {
    Word.BETTER: "▲",
    Word.WORSE: "▼",
    Word.EQUAL: "=",
    Word.NOT_TOLD_APART: "?",
    Word.NOT_LEARNED: "✗",
    Word.DIVERGED: "∞",
    Word.ONE_SEED: "",
}
"""Sign of each verdict, for tables in which words do not fit."""

LEGEND = {**{mark: str(word) for word, mark in SIGNS.items() if mark}, "–": "no result at these lengths"}
"""Meaning of each sign in the table of all cases."""


def overview(results: Results) -> pd.DataFrame:
    """Return a row for each encoding and a column for each case and metric: the mean, and the sign of its verdict.

    A star marks a mean over fewer test items than others have, a dash an encoding without a result at these lengths.
    """
    comparison = results.comparison
    frame: dict[str, list[str]] = {"encoding": list(comparison.choices_by_encoding)}
    for case in comparison.cases:
        for criterion in comparison.criteria(case):
            name = criterion.metric if len(comparison.cases) == 1 else f"{case} {criterion.metric}"
            frame[name] = _column(results, case, criterion)
    return pd.DataFrame(frame)


def _column(results: Results, case: str, criterion: Criterion) -> list[str]:
    baseline, positioned = results.comparison.baseline, results.positioned_items(case, criterion)
    scores, verdicts = results.scores(case, criterion), results.verdicts(case, criterion, baseline)
    means = {encoding: results.mean(case, criterion, encoding) for encoding in scores}
    known = {encoding: mean for encoding, mean in means.items() if not math.isnan(mean)}
    numbers = list(known.values())
    digits = (
        [fixed(number, 2) for number in numbers] if is_share(criterion.name, results.tasks[case]) else readable(numbers)
    )
    shown, cells = dict(zip(known, digits, strict=True)), []
    for encoding in results.comparison.choices_by_encoding:
        word = verdicts[encoding].word if encoding in verdicts else None
        if encoding in results.not_learned(case) and encoding in (baseline, *verdicts):
            word = Word.NOT_LEARNED
        elif encoding in scores and not scores[encoding].finished.any():
            word = Word.DIVERGED
        elif word is Word.DIVERGED:  # the baseline has
            word = None
        sign = "" if word is None else SIGNS[word]
        items, total = positioned.get(encoding, (0, 0))
        cells.append(f"{shown.get(encoding, '–')}{'*' if items < total else ''} {sign}".strip())
    return cells


def fewer_items(results: Results, case: str) -> str:
    """Return the sentences on means of a case that are over fewer test items than others, or ""."""
    sentences = []
    for criterion in results.comparison.criteria(case):
        found = results.positioned_items(case, criterion)
        fewer = {name: items for name, (items, total) in found.items() if items < total}
        if fewer:
            (total,) = {total for _, total in found.values()}
            parts = [f"that of {name} over {items:,}" for name, items in fewer.items()]
            sentences.append(
                f"* {criterion.metric} is a mean over {total:,} test items, {listed(parts)}, for which it has "
                "positions; all differences are over the items that every encoding has positions for."
            )
    return " ".join(sentences)


def unequal_seeds(results: Results, case: str) -> str:
    """Return the sentence on the seeds of the means of a case, or "" where all encodings have as many."""
    counts = {name: len(results.runs(case, name)) for name in results.encodings(case)}
    if len(set(counts.values())) < 2:
        return ""
    return f"Seeds of {case}: {', '.join(f'{name} {count}' for name, count in counts.items())}."


def case_table(results: Results, case: str) -> pd.DataFrame:
    """Return a row for each encoding with a run on a case: seeds, the gate, means and costs."""
    comparison = results.comparison
    rows = []
    for encoding in results.encodings(case):
        row: dict[str, object] = {"encoding": encoding, "seeds": len(results.runs(case, encoding))}
        if comparison.gate_of(case) is not None:
            passed, total = results.learned(case, encoding)
            row["learned"] = f"{passed} of {total}"
        for criterion in comparison.criteria(case):
            reaches = encoding in results.reaching(case, criterion)
            row[criterion.metric] = results.mean(case, criterion, encoding) if reaches else math.nan
        for name in comparison.costs:
            row[name] = results.cost(case, encoding, name)
        rows.append(row)
    return pd.DataFrame(rows)


def verdict_table(results: Results, case: str, criterion: Criterion) -> pd.DataFrame:
    """Return a row for each encoding of a case but the baseline: the verdict on a metric, with its evidence."""
    baseline, rows = results.comparison.baseline, []
    verdicts = results.verdicts(case, criterion, baseline)
    for encoding in results.encodings(case):
        if encoding in verdicts:
            said = verdicts[encoding].text
        elif encoding not in results.reaching(case, criterion):
            said = "it has no positions at these lengths"
        elif results.is_comparable(case):
            said = "the baseline has no result at these lengths"
        else:
            said = "no seed of all encodings is finished"
        if encoding != baseline:
            rows.append({"encoding": encoding, "verdict": said})
    return pd.DataFrame(rows, columns=["encoding", "verdict"])


def at_each_length(name: str, metric: str, rows: pd.DataFrame) -> Table:
    """Return a row for each encoding and a column for each length of the test, with means over seeds.

    Args:
        name: of the table.
        metric: in the rows.
        rows: as of `Results.by_length`.
    """
    frame = rows.pivot_table("value", "encoding", "length", aggfunc="mean", sort=False)
    frame = frame[sorted(frame.columns)].rename(columns="{:,}".format).reset_index()
    caption = "Means over seeds, by the length of the test. A dash: the encoding has no positions there."
    return Table(name, f"{metric.replace('_', ' ')} at each length", caption, frame)


def differences(results: Results, case: str) -> pd.DataFrame:
    """Return a row for each encoding and metric of a case: the difference to the baseline, and its statistics."""
    comparison, rows = results.comparison, []
    for criterion in comparison.criteria(case):
        for encoding, verdict in results.verdicts(case, criterion, comparison.baseline).items():
            found = verdict.difference
            mean, low, high = verdict.compared
            rows.append(
                {
                    "case": case,
                    "metric": criterion.metric,
                    "encoding": encoding,
                    "baseline": comparison.baseline,
                    "word": str(verdict.word),
                    "of": "mean" if verdict.solve_rates is None else "solve rate",
                    "difference": mean,
                    "low": low,
                    "high": high,
                    "p": verdict.p_alone,
                    "p_holm": verdict.p_value,
                    "pairs": found.pairs,
                    "share_better": found.share_better,
                    "paired_spread": found.paired_spread,
                    "unpaired_spread": found.unpaired_spread,
                    "degrees_of_freedom": found.df,
                    "further_seeds": verdict.further_seeds,
                    "smallest_detectable": verdict.detectable,
                }
            )
    return pd.DataFrame(rows)
