"""Tables of a comparison, for its report, a paper and a spreadsheet."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Sequence
from functools import partial

import numpy as np
import pandas as pd
from scipy.stats import kendalltau

from poslab.configuration.labels import LONG, cut, shown
from poslab.experiments.comparison import Comparison, Tuning
from poslab.experiments.criteria import Criterion, sign
from poslab.experiments.metrics import scored_lengths
from poslab.experiments.results import Results
from poslab.experiments.statistics.crossed import detectable_in_advance
from poslab.experiments.statistics.difference import MIN_SEEDS
from poslab.experiments.statistics.over_cases import MIN_CASES
from poslab.experiments.statistics.verdict import ALPHA, Verdict, Word, holm
from poslab.experiments.tuned_points import expected_best
from poslab.report.figures import Table
from poslab.report.text import file_name, fixed, readable

SIGNS = {
    Word.BETTER: "▲",
    Word.WORSE: "▼",
    Word.EQUIVALENT: "=",
    Word.INCONCLUSIVE: "?",
    Word.NOT_LEARNED: "✗",
    Word.DIVERGED: "∞",
    Word.ONE_SEED: "",
}
"""Sign of each verdict, for tables in which words do not fit."""

LEGEND = {**{mark: str(word) for word, mark in SIGNS.items() if mark}, "–": "no result at these lengths"}
"""Meaning of each sign in the table of all cases."""

MAX_ADVISED = 500  # seeds above which a dry run names no number

BEST, ALL_ZERO, NO_RESULT, NO_RUN = "best mean", "all scores are 0", "no result at these lengths", "no finished run"
"""Entries of a column of verdicts that are no verdicts."""

MIN_TRIALS = 4  # trials of a tuning from which on it says how the best depends on their number
DIFFERING = "differing"  # name of the table of what differs


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
    is_share = results.is_share(case, criterion.name)
    digits = [fixed(number, 2) for number in numbers] if is_share else readable(numbers)
    texts, cells = dict(zip(known, digits, strict=True)), []
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
        cells.append(f"{texts.get(encoding, '–')}{'*' if items < total else ''} {sign}".strip())
    return cells


def legend(results: Results, table: pd.DataFrame) -> str:
    """Return what the signs of `overview` mean, and which means are over fewer seeds or test items than others."""
    comparison, used = results.comparison, set("".join(table.drop(columns="encoding").to_numpy().ravel()))
    signs = [f"{mark} {meaning}" for mark, meaning in LEGEND.items() if mark in used]
    meanings = f"Compared with {comparison.baseline}, the baseline: {', '.join(signs)}." if signs else ""
    return " ".join(filter(None, [meanings, *(note for case in comparison.cases for note in notes(results, case))]))


def notes(results: Results, case: str) -> Iterator[str]:
    """Yield which means of a case are over fewer seeds, or over fewer test items, than others."""
    counts = {name: len(results.runs(case, name)) for name in results.encodings(case)}
    if len(set(counts.values())) > 1:
        yield f"Seeds of {case}: {', '.join(f'{name} {count}' for name, count in counts.items())}."
    for criterion in results.comparison.criteria(case):
        positioned = results.positioned_items(case, criterion)
        if fewer := [f"{name} {items:,} of {total:,}" for name, (items, total) in positioned.items() if items < total]:
            yield f"* Test items of {criterion.metric}: {', '.join(fewer)}; differences are over items that all have."
    if unequal := unequal_tuning(results, case):
        yield f"Tuning of {case} is {unequal}."


def unequal_tuning(results: Results, case: str, pair: Collection[str] = ()) -> str:
    """Return `not equal: 3 to 5 trials` for a case, or `not equal: t5 3, rotary 4 trials` for a pair; "" if equal."""
    tuned = results.tuned(results.comparison.all_cases[case].tuned_as or case)
    counts = {name: len(choice.trials) for name, choice in tuned.items() if not pair or name in pair}
    if len(set(counts.values())) <= 1:
        return ""
    shown = ", ".join(f"{name} {counts[name]}" for name in pair if name in counts)
    return f"not equal: {shown or f'{min(counts.values())} to {max(counts.values())}'} trials"


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
    baseline = results.comparison.baseline
    verdicts = results.verdicts(case, criterion, baseline)
    rows = [
        {
            "encoding": name,
            **(_evidence(verdicts[name]) if name in verdicts else {"verdict": NO_RESULT}),
            "tuning": unequal_tuning(results, case, (name, baseline)) or None,
        }
        for name in results.encodings(case)
        if name != baseline
    ]
    return pd.DataFrame(rows, columns=None if rows else ["encoding", "verdict"]).dropna(axis=1, how="all")


def _evidence(verdict: Verdict) -> dict[str, object]:
    low, high = verdict.difference.interval
    return {
        "verdict": str(verdict.word),
        "difference": verdict.difference.mean,
        "low": low,
        "high": high,
        "p_adjusted": verdict.p_value,
        "pairs": verdict.difference.pairs,
        "beyond_margin": "yes" if verdict.beyond_margin else None,
        "smallest_detectable": verdict.detectable,
        "further_seeds": verdict.further_seeds,
    }


def price_table(results: Results, case: str) -> Table | None:
    """Return whether encodings cost something at the lengths of a model that was not trained further; None otherwise.

    A row is an encoding and a metric with a margin: its difference to the baseline with the sign of the direction, the
    least that it may be (one-sided, 95%), and whether that is above minus the margin.
    """
    rows = []
    trained = results.training_length(case)
    for criterion in results.comparison.criteria(case) if results.are_given(case) else ():
        margin, verdicts = criterion.margin, results.verdicts(case, criterion, results.comparison.baseline)
        lengths = scored_lengths(criterion, results.first_run(case).scores, results.lengths(case), trained)
        known = {name: verdict for name, verdict in verdicts.items() if verdict.difference.estimate is not None}
        if margin is None or not known or any(length is not None and length > trained for length in lengths):
            continue
        p_values = holm([verdict.difference.not_worse_p_value(margin) for verdict in known.values()])
        for (name, verdict), p_value in zip(known.items(), p_values, strict=True):
            gap = verdict.difference
            low, high = gap.estimate.interval(0.9)  # type: ignore[union-attr]
            least = float(low) if sign(criterion.direction) > 0 else -float(high)
            is_worse = verdict.word is Word.WORSE and p_value >= ALPHA
            word = "not worse" if p_value < ALPHA else "worse" if is_worse else str(Word.INCONCLUSIVE)
            row = {"encoding": name, "metric": criterion.metric, "gain": gap.gain, "at_least": least}
            rows.append({**row, "margin": margin, "price": word})
    if not rows:
        return None
    caption = "Gains over the baseline, with the sign of the direction, where prompts fit the training length; "
    caption += "not worse: by less than the margin (one-sided, Holm)."
    return Table(f"price_{file_name(case)}", "Price at the original length", caption, pd.DataFrame(rows))


def ranking(results: Results, case: str, criterion: Criterion, without: Collection[str] = ()) -> pd.DataFrame:
    """Return a row for each encoding of a case, the best mean first: its mean, and the verdict relative to the best.

    Verdicts and intervals are simultaneous for all pairs of encodings, since the best one is chosen by its scores.
    Encodings that cannot be ranked follow, with the reason; those in `without` are left out.
    """
    ranked = [name for name in results.ranked(case, criterion) if name not in without]
    verdicts = results.verdicts(case, criterion, ranked[0], is_best=True) if ranked else {}
    known = {name: verdicts[name] for name in ranked[1:]}
    is_zero = bool(ranked) and results.mean(case, criterion, ranked[0]) == 0 and criterion.direction == "maximize"
    decides = any(verdict.word in (Word.BETTER, Word.WORSE) for verdict in known.values())
    rows: list[dict[str, object]] = []
    for name in ranked:
        evidence = _evidence(known[name]) if name in known else {"verdict": BEST}
        if is_zero and not decides:
            evidence = {"verdict": ALL_ZERO}
        rows.append({"encoding": name, "mean": results.mean(case, criterion, name), **evidence})
    scores = results.scores(case, criterion)
    for name in results.comparison.encodings_of(case):
        if name not in ranked and name not in without:
            word = Word.NOT_LEARNED if name in results.not_learned(case) else Word.DIVERGED
            reason = NO_RESULT if name not in scores else str(word)
            mean = results.mean(case, criterion, name) if name in scores else math.nan
            rows.append({"encoding": name, "mean": mean, "verdict": reason if results.runs(case, name) else NO_RUN})
    return pd.DataFrame(rows, columns=None if rows else ["encoding", "mean", "verdict"])


def best_table(results: Results) -> pd.DataFrame:
    """Return a row for each case: the best mean of its first metric, and the encodings with each verdict next to it."""
    rows = []
    for case in results.comparison.cases:
        criterion = results.comparison.criteria(case)[0]
        frame = ranking(results, case, criterion) if results.is_comparable(case) else pd.DataFrame()
        row: dict[str, object] = {"case": case, "metric": criterion.metric}
        if not frame.empty:
            for verdict, names in frame.groupby("verdict", sort=False)["encoding"]:
                row[str(verdict)] = ", ".join(names)
            row["mean"] = frame["mean"].iloc[0] if frame["verdict"].iloc[0] == BEST else None
            row |= {"tuning": unequal} if (unequal := unequal_tuning(results, case)) else {}
        rows.append(row)
    frame = pd.DataFrame(rows)
    order = [name for name in ("case", "metric", BEST, "mean", *map(str, Word)) if name in frame]
    return frame[[*order, *(name for name in frame if name not in order)]]


def order_by_metric(results: Results) -> Table | None:
    """Return the rank of each encoding by the first metric of each case, and Kendall's tau with the order of the first.

    None unless cases have different metrics, and are fewer than a statement over cases needs. A case that no encoding
    has learned has no order.
    """
    comparable = filter(results.is_comparable, results.comparison.cases)
    cases = [case for case in comparable if set(results.encodings(case)) > set(results.not_learned(case))]
    criteria = {case: results.comparison.criteria(case)[0] for case in cases}
    gains = {
        f"{case} {criterion.metric}": {
            name: sign(criterion.direction) * results.mean(case, criterion, name)
            for name in results.reaching(case, criterion)
        }
        for case, criterion in criteria.items()
    }
    frame = pd.DataFrame(gains).dropna()
    if len({criterion.name for criterion in criteria.values()}) < 2 or len(cases) >= MIN_CASES or len(frame) < 2:
        return None
    first, *others = frame.columns
    ranks = frame.rank(ascending=False, method="min").astype(int).sort_values(first, kind="stable").astype(str)
    ranks.loc["Kendall's tau"] = ["–", *(fixed(kendalltau(frame[first], frame[name]).statistic, 2) for name in others)]
    caption = f"Ranks by mean. Kendall's tau: 1 for the order of {first}, about 0 for none like it, -1 for the reverse."
    return Table("order", "Order by metric", caption, ranks.rename_axis("encoding").reset_index())


def at_each_length(name: str, metric: str, rows: pd.DataFrame) -> Table:
    """Return a row for each encoding and a column for each length of the test, with means over seeds.

    The rows are as of `Results.by_length`.
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
            difference = verdict.difference
            row = {"case": case, "metric": criterion.metric, "encoding": encoding, "baseline": comparison.baseline}
            others = {
                "p": verdict.p_alone,
                "share_better": difference.share_better,
                "paired_spread": difference.paired_spread,
                "unpaired_spread": difference.unpaired_spread,
                "degrees_of_freedom": difference.df,
            }
            rows.append({**row, **_evidence(verdict), **others})
    return pd.DataFrame(rows).drop(columns="beyond_margin", errors="ignore")


DIVIDED = re.compile(r"\$\{divided:\$\{(?:\w+\.)*(\w+)\},(\d+)\}")
"""Interpolation that a table shows as `sequence_length/2`."""


def differing_table(comparison: Comparison) -> Table | None:
    """Return a row for each encoding or variant, and a column for each key in which they differ; None without any."""
    if not comparison.differing:
        return None
    keys = ["encoding", *comparison.differing]
    of_cases = [{**comparison.train, **case.train} for case in comparison.all_cases.values()]
    shared = {key: of_cases[0][key] for key in keys if all(key in of_case for of_case in of_cases)}
    shared = {key: value for key, value in shared.items() if all(of_case[key] == value for of_case in of_cases)}
    rows = []
    for name, choices in comparison.choices_by_encoding.items():
        texts = {key: shown(value) for key, value in {**shared, **choices}.items() if key in keys}
        short = {key: cut(DIVIDED.sub(r"\1/\2", text), LONG) for key, text in texts.items()}
        rows.append({"name": name, **short})
    frame = pd.DataFrame(rows, columns=["name", *keys]).dropna(axis=1, how="all")
    return Table(DIFFERING, "What differs", "A dash: the value of its case.", frame)


def expected_best_rows(results: Results, case: str, tuning: Tuning) -> pd.DataFrame:
    """Return the expected best validation by number of trials; none of encodings with fewer than 4 trials.

    Columns are encoding, length (the number of trials), value and metric, as of `Results.by_length`.
    """
    rows = []
    for encoding, choice in results.tuned(case).items():
        values = [value for _, value in choice.trials]
        counts = [2**power for power in range(len(values).bit_length())]
        for count in sorted({*counts, len(values)}) if len(values) >= MIN_TRIALS and choice.has_value else ():
            best = expected_best(values, count, tuning.direction)
            rows.append({"encoding": encoding, "length": count, "value": best, "metric": f"validation {tuning.metric}"})
    return pd.DataFrame(rows)


def power_table(comparison: Comparison, pilots: Sequence[Results]) -> pd.DataFrame:
    """Return a row for each case and metric with a margin: what the seeds can find, and how many find the margin.

    Pilots are results that may tell the deviation of seeds, on the case of the same name, or on their first one: the
    first that do. Otherwise it is the `deviation` of the metric, or unknown.
    """
    rows: list[dict[str, object]] = []
    criteria = [(case, criterion) for case in comparison.cases for criterion in comparison.criteria(case)]
    for case, criterion in criteria:
        seeds = len(comparison.seeds_of(case))
        if criterion.margin is None or seeds < MIN_SEEDS:
            continue
        row: dict[str, object] = {"metric": f"{case} {criterion.metric}", "margin": criterion.margin}
        known = next(filter(None, (_variances(results, case, criterion) for results in pilots)), None)
        if known is None and criterion.deviation is not None:
            known = criterion.deviation**2, 0.0
        if known is not None:
            contestants = len(comparison.encodings_of(case))
            of_seeds = partial(detectable_in_advance, *known, contestants=contestants, paired=comparison.pairing)
            enough = (n for n in range(MIN_SEEDS, MAX_ADVISED) if of_seeds(n) <= criterion.margin)
            row |= {"deviation": known[0] ** 0.5, "seeds": seeds, "smallest_detectable": of_seeds(seeds)}
            row |= {"seeds_for_margin": next(enough, None)}
        rows.append(row)
    return pd.DataFrame(rows)


def _variances(results: Results, case: str, criterion: Criterion) -> tuple[float, float] | None:
    """Return the variance of a run from seeds, and of a difference from items: medians over the encodings."""
    pilot = case if case in results.comparison.cases else next(iter(results.comparison.cases))
    verdicts = results.verdicts(pilot, criterion, results.comparison.baseline) if results.runs_of_case(pilot) else {}
    gaps = [(verdict.difference.pairs, verdict.difference.estimate) for verdict in verdicts.values()]
    variances = [(e.seed_variance * pairs / 2, e.item_variance) for pairs, e in gaps if e is not None]
    return tuple(map(float, np.median(variances, axis=0))) if variances else None  # type: ignore[return-value]


def tuned_table(results: Results) -> Table | None:
    """Return a row for each case and tuned encoding: its trials, the best values, and which are at an end."""
    rows = [
        {
            "case": case,
            "encoding": encoding,
            "trials": len(choice.trials),
            "failed": choice.failed or None,
            **choice.point,
            "at an end": ", ".join(choice.at_the_edge) if choice.at_the_edge and choice.has_value else None,
        }
        for case in results.comparison.cases
        for encoding, choice in results.tuned(case).items()
    ]
    if not rows:
        return None
    frame = pd.DataFrame(rows)
    frame.insert(len(frame.columns) - 1, "at an end", frame.pop("at an end"))
    caption = (
        "The best trial of each encoding by validation, as a mean over the seeds of the tuning, and the first of equal "
        "ones. A dash: the encoding has no such key. "
        "A value at an end of all that was tried may not be the best."
    )
    return Table("tuned", "Tuned values", caption, frame.dropna(axis=1, how="all"))
