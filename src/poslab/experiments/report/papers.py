"""Published results and predictions of a comparison file, next to what was measured, with their outcome."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from poslab.evaluation.base_bound import smallest_base
from poslab.experiments.criteria import Criterion
from poslab.experiments.metrics import at_lengths, usual_direction
from poslab.experiments.published import Claim, Prediction, Published, predictions_of, published_results
from poslab.experiments.report.tables import unequal_tuning
from poslab.experiments.results import Results
from poslab.experiments.statistics.crossed import estimate
from poslab.experiments.statistics.difference import MIN_SEEDS
from poslab.experiments.statistics.verdict import Word
from poslab.report.figures import Section, Table
from poslab.report.text import listed

HOLDS, FAILS, OPEN, UNTESTED = "holds", "does not hold", "inconclusive", "not tested at this scale"
CONFOUNDED = "confounded"  # outcomes of a claim


def outcome(results: Results, claim: Claim) -> tuple[str, str]:
    """Return the outcome of a claim, and its evidence in words."""
    if claim.case is None or claim.case not in results.comparison.cases:
        return UNTESTED, "no case of this comparison"
    criterion = criterion_of(results, claim.case, claim.metric)
    scores = results.scores(claim.case, criterion)
    is_tested = at_lengths(criterion, results.lengths(claim.case), results.training_length(claim.case))
    missing = [name for name in (claim.better, claim.than) if name not in scores]
    if missing or not is_tested:
        return UNTESTED, f"{missing[0] if missing else criterion.metric} has no result at these lengths"
    if behind := [name for name in (claim.better, claim.than) if name in results.not_learned(claim.case)]:
        return UNTESTED, f"{Word.NOT_LEARNED}: {listed(behind)}"
    verdict = results.verdicts(claim.case, criterion, claim.than)[claim.better]
    low, high = verdict.difference.interval
    difference = f"difference {verdict.difference.mean:+.3g} ({low:+.3g} to {high:+.3g})"
    evidence = f"{verdict.word}: {difference}, p = {verdict.p_value:.2g}"
    if unequal := unequal_tuning(results, claim.case, (claim.better, claim.than)):
        evidence += f"; tuning {unequal}"
    if claim.confounded is not None:
        return CONFOUNDED, f"by {claim.confounded}; here {evidence}"
    words = {Word.BETTER: HOLDS, Word.WORSE: FAILS, Word.EQUIVALENT: FAILS, Word.DIVERGED: UNTESTED}
    return words.get(verdict.word, OPEN), evidence


def criterion_of(results: Results, case: str, metric: str | None) -> Criterion:
    """Return the metric that a tag names: the first of a case for None, a declared one, or one without a margin.

    The direction of that one is declared where the metric decides at other lengths, or by the gate.
    """
    declared = results.comparison.criteria(case)
    if metric is None:
        return declared[0]
    name = metric.partition("@")[0]
    known = (criterion.direction for criterion in results.comparison.deciding(case) if criterion.name == name)
    other = Criterion(metric, next(known, usual_direction(name, results.first_run(case).open_ended)))
    return next((criterion for criterion in declared if criterion.metric == metric), other)


def claims_table(results: Results, claims: Sequence[Claim]) -> pd.DataFrame:
    """Return a row for each claim: the claim, its outcome and the evidence."""
    rows = []
    for claim in claims:
        word, evidence = outcome(results, claim)
        rows.append({"claim": claim.say, "outcome": word, "evidence": evidence})
    return pd.DataFrame(rows, columns=["claim", "outcome", "evidence"])


def values_table(results: Results, values: Sequence[Published]) -> pd.DataFrame:
    """Return a row for each published value, with where it was read, and our value."""
    rows = []
    for v in values:
        metric, our_mean = _ours(results, v)
        computed = None if v.head_dim is None else smallest_base(v.head_dim, int(v.at or 0))
        said = {"case": v.case, "at": v.at, "encoding": v.encoding, "published": v.value, "sd": v.sd, "seeds": v.n}
        rows.append({**said, "ours": our_mean, "our metric": metric, "computed here": computed, "seen": v.seen})
    return pd.DataFrame(rows).dropna(axis=1, how="all")


def _ours(results: Results, value: Published) -> tuple[str | None, float | None]:
    """Return the metric that is compared with a published value, and our mean of it; None where there is none."""
    cases = results.comparison.all_cases
    case = value.case if value.case in cases else next(iter(cases)) if value.metric and len(cases) == 1 else None
    if case is None or value.encoding not in results.encodings(case):
        return None, None
    criterion = criterion_of(results, case, value.metric)
    return criterion.metric, results.mean(case, criterion, value.encoding)


def paper_section(results: Results) -> Iterator[Section]:
    """Yield the section of a report on the paper that a comparison repeats, if it does."""
    if (published := published_results(results.comparison)) is None:
        return
    paper = published.paper
    source = f"arXiv:{paper.arxiv}{f', table {paper.table}' if paper.table else ''}"
    text = f"{paper.title} ({source})."
    if published.differences:
        text += " Our setting differs from the paper's:\n\n" + "\n\n".join(
            f"– {difference}" for difference in published.differences
        )
    tables = [
        Table(
            "claims",
            "Claims of the paper",
            "A claim holds if the first encoding is better than the second here, and does not hold if it is worse "
            "or equivalent within the margin. It is confounded where the outcome depends on something else in our "
            "setting.",
            claims_table(results, published.claims),
        ),
        Table(
            "published",
            "Published values",
            "In the unit of the paper, at its scale: only orders are comparable here, but what is computed is the "
            "same metric. The last column says where a value was read (`secondary`: in a text that repeats it).",
            values_table(results, published.values),
        ),
    ]
    yield Section("Compared with the paper", text, [table for table in tables if not table.frame.empty])


def measured(results: Results, prediction: Prediction) -> tuple[float, float, float] | None:
    """Return the predicted value as measured, and the ends of its 95% interval; None where there is no interval."""
    criterion = criterion_of(results, prediction.case, prediction.metric)
    scores = results.scores(prediction.case, criterion)
    if any(name not in scores for name in (prediction.of, prediction.minus or prediction.of)):
        return None
    if prediction.minus is not None:
        difference = results.verdicts(prediction.case, criterion, prediction.minus)[prediction.of].difference
        return None if difference.estimate is None else (difference.mean, *difference.interval)
    known = scores[prediction.of].of_seeds(scores[prediction.of].finished)
    if len(known.values) < MIN_SEEDS:
        return None
    mean = estimate([known.values[:, None] if known.items is None else known.items.astype(np.float64)])
    ends = np.asarray(mean.interval())
    low, high = ends.clip(0, 100) if results.is_share(prediction.case, criterion.name) else ends
    return float(mean.mean), float(low), float(high)


def prediction_outcome(prediction: Prediction, value: tuple[float, float, float] | None) -> str:
    """Return whether a prediction is right: if the whole interval is in its bounds; not, if none of it is."""
    if value is None:
        return UNTESTED
    (least, most), (_, low, high) = prediction.bounds, value
    if least <= low and high <= most:
        return HOLDS
    return FAILS if high < least or most < low else OPEN


def predictions_table(results: Results) -> pd.DataFrame:
    """Return a row for each prediction: what it says, what was measured, and its outcome."""
    rows = []
    for prediction in predictions_of(results.comparison):
        least, most = prediction.bounds
        value = measured(results, prediction)
        rows.append(
            {
                "prediction": prediction.say,
                "predicted": f"{least:g} to {most:g}".replace("-inf to ", "at most ")
                if np.isfinite(most)
                else f"at least {least:g}",
                "measured": "–" if value is None else "{:.3g} ({:.3g} to {:.3g})".format(*value),
                "outcome": prediction_outcome(prediction, value),
            }
        )
    return pd.DataFrame(rows, columns=["prediction", "predicted", "measured", "outcome"])


def prediction_section(results: Results) -> Iterator[Section]:
    """Yield the section of a report on the predictions, if the comparison has any."""
    if not (table := predictions_table(results)).empty:
        caption = (
            "Made before the runs. One holds if the whole 95% interval of the measured value lies in the predicted "
            "range, does not hold if none of it does, and is inconclusive otherwise."
        )
        yield Section("Predictions", "", [Table("predictions", "Predictions", caption, table)])
