"""Evidence of a comparison about other sizes: decision accuracy, trends, scaling laws and predictions."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import combinations, pairwise, product

import numpy as np
import pandas as pd

from poslab.experiments.comparison_file import RATE, carried, ladders
from poslab.experiments.criteria import Criterion, sign
from poslab.experiments.report import figures
from poslab.experiments.results import Results
from poslab.experiments.statistics.scaling import CONSTANTS, Interval, ScalingLaw, Trend, scaling_law, trend
from poslab.experiments.statistics.verdict import Word
from poslab.report.figures import Plot, Section, Table
from poslab.report.text import file_name

NEAR = 2**0.5  # factor between two rates up to which a trial of one says what the other loses

UNTESTED = {Word.ONE_SEED, Word.DIVERGED}


class Ladder:
    """The sizes of a case of a comparison file, from small to large, at one number of tokens for each parameter."""

    def __init__(self, results: Results, case: str, ratio: float | None) -> None:
        every = ladders(results.comparison)
        self.results, self.case, self.sizes = results, case, every[case, ratio]
        self.of_case = [name for (other, _), names in every.items() if other == case for name in names]
        self.label = case if self.sizes == self.of_case else f"{case}, {ratio:g} tokens a parameter"
        self.nodes = results.comparison.all_cases
        self.trained = [name for name in self.sizes if results.encodings(name)]
        self.encodings = list(dict.fromkeys(name for case in self.trained for name in results.encodings(case)))
        self.criteria = results.comparison.criteria(self.sizes[0])
        self.losses = [criterion for criterion in self.criteria if criterion.direction == "minimize"]
        self.law = cache(self._law)

    def values(self, case: str, criterion: Criterion, encoding: str) -> np.ndarray:
        """Return the values of the seeds that did not diverge, (S,)."""
        values = np.array(list(self.results.values(case, criterion, encoding).values()))
        return values[np.isfinite(values)]

    def shared(self, cases: Sequence[str], criterion: Criterion, *encodings: str, below: float = math.inf) -> list[str]:
        """Return the sizes with fewer parameters than `below` at which all these encodings have a value."""
        smaller = [name for name in cases if self.nodes[name].parameters < below]
        return [name for name in smaller if all(len(self.values(name, criterion, e)) for e in encodings)]

    def _law(self, criterion: Criterion, encoding: str, below: float = math.inf) -> ScalingLaw:
        """Return the law by sizes below that: sizes of all ratios if they tell what tokens do, else of this one.

        ValueError in one sentence, if there are too few sizes.
        """
        for cases, has_tokens in ((self.of_case, True), (self.sizes, False)):
            names = self.shared(cases, criterion, encoding, below=below)
            values = [self.values(name, criterion, encoding) for name in names]
            tokens = [self.nodes[name].tokens for name in names] if has_tokens else None
            try:
                return scaling_law(values, [self.nodes[name].parameters for name in names], tokens)
            except ValueError as error:
                reason = error
        raise reason

    def trend(
        self, criterion: Criterion, pair: tuple[str, str], further: float, seeds: int, tests: int
    ) -> Trend | None:
        """Return the trend of a difference by sizes below a further one; None with fewer than two."""
        names = self.shared(self.sizes, criterion, *pair, below=further)
        first, second = ([self.values(name, criterion, encoding) for name in names] for encoding in pair)
        parameters = [self.nodes[name].parameters for name in names]
        margin = criterion.margin or 0.0
        return None if len(names) < 2 else trend((first, second), parameters, further, seeds, margin, tests)


def ladders_of(results: Results) -> list[Ladder]:
    """Return the ladders of results with a finished run."""
    return [ladder for key in ladders(results.comparison) if (ladder := Ladder(results, *key)).trained]


def decisions(every: Sequence[Ladder]) -> pd.DataFrame:
    """Return a row for each metric and size below the largest: how many pairs come in the order of the largest."""
    rows = []
    for steps in every:
        for criterion, case in product(steps.criteria, steps.trained[:-1]):
            ends = case, steps.trained[-1]
            known = [name for name in steps.encodings if len(steps.shared(ends, criterion, name)) == len(ends)]
            means = [{name: steps.values(end, criterion, name).mean() for name in known} for end in ends]
            agree, decided, same = [], [], []
            for first, second in combinations(known, 2):
                agree.append(len({np.sign(of_size[first] - of_size[second]) for of_size in means}) == 1)
                verdicts = [steps.results.verdicts(end, criterion, second).get(first) for end in ends]
                words = [verdict.word for verdict in verdicts if verdict is not None]  # none without a shared seed
                decided += agree[-1:] if words[1:] and words[-1] in (Word.BETTER, Word.WORSE) else []
                same += [words[0] is words[1]] if words[1:] and not UNTESTED.intersection(words) else []
            row = {"case": steps.label, "metric": criterion.metric, "size": steps.nodes[case].size}
            counted = {"same order": agree, "of the decided": decided, "same verdict": same}
            rows.append({**row, **{key: f"{sum(x)} of {len(x)}" if x else None for key, x in counted.items()}})
    return pd.DataFrame(rows)


def decisions_in_lines(results: Results) -> pd.DataFrame:
    """Return for a terminal a row for each metric: the pairs at each size that come in the order of the largest."""
    if (frame := decisions(ladders_of(results))).empty:
        return frame
    frame["metric"] = frame["metric"] if frame["case"].nunique() == 1 else frame["case"] + ": " + frame["metric"]
    return frame.pivot_table("same order", "metric", "size", aggfunc="first", sort=False).reset_index()


def laws(every: Sequence[Ladder]) -> pd.DataFrame:
    """Return a row for each encoding and metric that is a loss: the constants of its law, or why it has none."""
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    for ladder in every:
        for criterion, encoding in product(ladder.losses, ladder.encodings):
            label, row = ladder.label, {}
            try:
                constants = ladder.law(criterion, encoding).constants()
                label = ladder.case if len(constants) == len(CONSTANTS) else label  # the law of all ratios
                row = {name: "{:.3g} ({:.3g} to {:.3g})".format(*value) for name, value in constants.items()}
            except ValueError as error:
                row["not fitted"] = str(error)
            key = {"case": label, "metric": criterion.metric, "encoding": encoding}
            rows.setdefault(tuple(key.values()), key | row)
    frame = pd.DataFrame(list(rows.values()), columns=["case", "metric", "encoding", *CONSTANTS, "not fitted"])
    return frame.dropna(axis=1, how="all")


def trends(every: Sequence[Ladder]) -> pd.DataFrame:
    """Return a row for each metric and pair of encodings: the trend of their difference over sizes."""
    rows = []
    for ladder in every:
        pairs = list(combinations(ladder.encodings, 2))
        for criterion, pair in product(ladder.criteria, pairs):
            if (known := ladder.trend(criterion, pair, math.inf, 1, len(pairs))) is not None:
                row = {"case": ladder.label, "metric": criterion.metric, "encoding": pair[0], "minus": pair[1]}
                change = dict(zip(("for ten times", "low", "high"), known.slope, strict=True))
                rows.append({**row, "difference": known.word, **change})
    return pd.DataFrame(rows)


def predictions(every: Sequence[Ladder]) -> pd.DataFrame:
    """Return a row for each metric and encoding: its mean at the next size, and its difference to the baseline there.

    The next size is the first one without runs or, where all have some, the last one, predicted by the sizes before it.
    """
    rows = []
    for ladder in every:
        comparison = ladder.results.comparison
        target = next((name for name in ladder.sizes if name not in ladder.trained), ladder.sizes[-1])
        size, seeds, base = ladder.nodes[target], len(comparison.seeds_of(target)), comparison.baseline
        for criterion, encoding in product(ladder.criteria, comparison.encodings_of(target)):
            row = {"case": target, "metric": criterion.metric, "encoding": encoding}
            values = [ladder.values(target, criterion, name) for name in (encoding, base)]
            with contextlib.suppress(ValueError):
                if criterion in ladder.losses:
                    law = ladder.law(criterion, encoding, size.parameters)
                    predicted = law.predicted(size.parameters, size.tokens, seeds)
                    rows.append({**row, "minus": None, **_compared(predicted, values[:1])})
            known = ladder.trend(criterion, (encoding, base), size.parameters, seeds, 1)
            if known is not None and encoding != base:
                rows.append({**row, "minus": base, **_compared(known.predicted, values)})
    return pd.DataFrame(rows)


def _compared(predicted: Interval, values: Sequence[np.ndarray]) -> dict[str, object]:
    """Return a prediction next to the mean that was measured, minus the baseline's if it is there too."""
    row: dict[str, object] = dict(zip(("predicted", "low", "high"), predicted, strict=True))
    if all(map(len, values)):
        row["measured"] = mean = float(values[0].mean() - sum(base.mean() for base in values[1:]))
        row["inside"] = "yes" if predicted[1] <= mean <= predicted[2] else "no"
    return row


def rates(results: Results) -> pd.DataFrame:
    """Return a row for each encoding at a tuned size after the first: the rate by the rule, and the one tuned there."""
    rows = []
    for cases in ladders(results.comparison).values():
        tuned = {case: choices for case in cases if (choices := results.tuned(case))}
        for (earlier, sources), (case, choices) in pairwise(tuned.items()):
            for encoding, choice in choices.items():
                source, tuning = sources.get(encoding), results.comparison.tuning_of(case)
                if source is None or tuning is None or RATE not in source.point or not choice.has_value:
                    continue
                rate = carried(results.comparison, source.point, earlier, case)[RATE]
                row = {"case": case, "encoding": encoding, "rate by rule": rate, "tuned rate": choice.point[RATE]}
                gains = [(point[RATE], sign(tuning.direction) * value) for point, value in choice.trials]
                nearest = min((tried for tried, _ in gains), key=lambda tried: abs(math.log(tried / rate)))
                if abs(math.log(nearest / rate)) <= math.log(NEAR):
                    lost = max(gain for _, gain in gains) - max(gain for tried, gain in gains if tried == nearest)
                    row |= {"nearest trial": nearest, f"{tuning.metric} lost": lost}
                rows.append(row)
    return pd.DataFrame(rows)


def scale_section(results: Results, styles: figures.Styles) -> Iterator[Section]:
    """Yield the section of a report on sizes, if there are any."""
    every = ladders_of(results)
    tables = [
        Table("decisions", "Decision accuracy", DECISIONS, decisions(every), source=DATADECIDE),
        Table("trends", "Differences by size", TRENDS, trends(every)),
        Table("laws", "Scaling laws", LAWS, laws(every), source=HOFFMANN),
        Table("sizes_predicted", "The next size", PREDICTED, predictions(every)),
        Table("rates", "Rates that are carried over", RATES, rates(results)),
    ]
    if every:
        shown = [table for table in tables if not table.frame.empty]
        text = "Parameters are the baseline's, without the embeddings of tokens."
        yield Section("Scale", text, [*shown, *(plot for ladder in every for plot in _plots(ladder, styles))])


def _plots(ladder: Ladder, styles: figures.Styles) -> Iterator[Plot]:
    """Yield a plot for each metric that is a loss."""
    for criterion in ladder.losses if len(ladder.trained) > 1 else ():
        rows = [
            {"encoding": name, "length": ladder.nodes[case].parameters, "metric": criterion.metric, "value": value}
            for name, case in product(ladder.encodings, ladder.trained)
            for value in ladder.values(case, criterion, name)
        ]
        title, name = f"{criterion.metric} by size: {ladder.label}", f"{ladder.label} {criterion.metric}"
        frame = pd.DataFrame(rows)
        plot = figures.curves(f"sizes_{file_name(name)}", title, frame, "", None, styles, criterion.direction)
        axes, sizes = plot.figure.axes[0], [ladder.nodes[case] for case in ladder.sizes]
        axes.set_xlabel("parameters without the embeddings of tokens")
        for encoding in ladder.encodings:
            with contextlib.suppress(ValueError):
                law = ladder.law(criterion, encoding)
                losses = [law.predicted(size.parameters, size.tokens, 1)[0] for size in sizes]
                axes.plot([size.parameters for size in sizes], losses, ":", color=styles[encoding]["color"], lw=1)
        yield replace(plot, caption=f"{plot.caption} Dotted: the scaling law.")


DATADECIDE = "Magnusson et al., DataDecide: How to Predict Best Pretraining Data with Small Experiments (2025)"
HOFFMANN = "Hoffmann et al., Training Compute-Optimal Large Language Models (2022), section 3.3"
DECISIONS = """Pairs of encodings that come in the same order at a size as at the largest: of all pairs, and of those
that are better or worse there. The last column counts equal verdicts, of pairs with one at both sizes."""
TRENDS = """The change of a difference for ten times the parameters, with joint intervals for all pairs of a metric.
A difference stays if it changes by less than the margin from the smallest size to the largest."""
LAWS = """L = E + A N^-a + B D^-b, for N parameters and D tokens, with 95% intervals over seeds. Without a B, sizes have
tokens in one proportion, and the term of N represents both."""
PREDICTED = """Means by the law, and differences by the line over sizes, from smaller sizes only, with 95% intervals
for as many seeds as that size has. They are valid if the form is."""
RATES = f"""The rate that the rule makes of the one tuned at the size before, and what the trial with the nearest rate
loses, if it is within a factor of {NEAR:.2g}."""
