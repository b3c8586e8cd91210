"""Tables of a comparison, for its report, a paper and a spreadsheet."""

from __future__ import annotations

import math

import pandas as pd

from poslab.comparison.answers import cost
from poslab.comparison.results import Results
from poslab.comparison.verdict import Verdict, Word

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


def overview(results: Results) -> pd.DataFrame:
    """Return a row for each encoding and a column for each case and metric: the mean, and the sign of its verdict."""
    comparison = results.comparison
    frame: dict[str, list[str]] = {"encoding": list(comparison.choices_by_encoding)}
    for case in comparison.cases:
        for criterion in comparison.criteria(case):
            scores, verdicts = results.scores(case, criterion), results.verdicts(case, criterion, comparison.baseline)
            name = criterion.metric if len(comparison.cases) == 1 else f"{case} {criterion.metric}"
            frame[name] = [
                "" if encoding not in scores else _cell(scores[encoding].mean, verdicts.get(encoding))
                for encoding in comparison.choices_by_encoding
            ]
    return pd.DataFrame(frame)


def _cell(mean: float, verdict: Verdict | None) -> str:
    value = "–" if math.isnan(mean) else f"{mean:.4g}"
    return value if verdict is None else f"{value} {SIGNS[verdict.word]}".strip()


def case_table(results: Results, case: str) -> pd.DataFrame:
    """Return a row for each encoding with a run on a case: means, differences, verdicts, costs and the gate."""
    comparison = results.comparison
    rows = []
    everything = {
        c: (results.scores(case, c), results.verdicts(case, c, comparison.baseline)) for c in comparison.criteria(case)
    }
    for encoding in results.encodings(case):
        row: dict[str, object] = {"encoding": encoding, "seeds": len(results.runs(case, encoding))}
        if comparison.gate_of(case) is not None:
            passed, total = results.learned(case, encoding)
            row["learned"] = f"{passed} of {total}"
        for criterion, (scores, verdicts) in everything.items():
            row[criterion.metric] = scores[encoding].mean if encoding in scores else math.nan
            verdict = verdicts.get(encoding)
            words = "baseline" if encoding == comparison.baseline else verdict.text if verdict else ""
            row[f"{criterion.metric} verdict"] = words if encoding in scores else "it ends before"
        for name in comparison.costs:
            row[name] = cost(results, case, encoding, name)
        rows.append(row)
    return pd.DataFrame(rows)


def differences(results: Results, case: str) -> pd.DataFrame:
    """Return a row for each encoding and metric of a case: the difference to the baseline, and its statistics."""
    comparison, rows = results.comparison, []
    for criterion in comparison.criteria(case):
        for encoding, verdict in results.verdicts(case, criterion, comparison.baseline).items():
            found = verdict.difference
            low, high = found.interval
            rows.append(
                {
                    "case": case,
                    "metric": criterion.metric,
                    "encoding": encoding,
                    "baseline": comparison.baseline,
                    "word": str(verdict.word),
                    "difference": found.mean,
                    "low": low,
                    "high": high,
                    "p": found.p_value,
                    "p_holm": verdict.p_value,
                    "pairs": found.pairs,
                    "share_better": found.share_better,
                    "paired_spread": found.paired_spread,
                    "unpaired_spread": found.unpaired_spread,
                    "degrees_of_freedom": found.df,
                    "further_seeds": verdict.further_seeds,
                }
            )
    return pd.DataFrame(rows)
