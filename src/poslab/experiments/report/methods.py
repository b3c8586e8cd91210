"""Methods of a comparison in a paragraph, as a paper needs them."""

from __future__ import annotations

from collections.abc import Iterator

from poslab.experiments.report.answers import in_words
from poslab.experiments.report.checks import checks
from poslab.experiments.report.tuned import tuning_sentences
from poslab.experiments.results import Results
from poslab.experiments.statistics.difference import MIN_SEEDS
from poslab.report.sentences import amount, are, listed

NO_RUN = "No run is finished."


def methods(results: Results) -> str:
    """Return the paragraphs on runs, tuning, metrics and statistics; a sentence where no run is finished."""
    if not results.cells:
        return NO_RUN
    return "\n\n".join([" ".join(_runs(results)), " ".join(tuning_sentences(results)), " ".join(_statistics(results))])


def _runs(results: Results) -> Iterator[str]:
    comparison = results.comparison
    names = list(comparison.choices_by_encoding)
    seeds = f"{amount(len(comparison.seed_list), 'seed')} each"
    if results.places:  # runs that exist already need not have the same seeds
        counts = [len(results.runs(*pair)) for pair in comparison.pairs]
        span = f"{min(counts)} to " if min(counts) < max(counts) else ""
        seeds = f"{span}{amount(max(counts), 'run')} of each encoding"
    yield (
        f"We trained models under several positional encodings ({listed(names)}) on "
        f"{listed(list(comparison.cases))}, with {seeds}."
    )
    table = checks(results).frame
    of_pairs = table[table["check"].str.endswith("for the same seed")] if len(table) else table
    if results.places and not all(len(results.shared_seeds(case)) >= MIN_SEEDS for case in comparison.cases):
        yield "Runs of the same seed are pairs where two encodings share at least 2 seeds."
    elif len(of_pairs) and of_pairs["holds"].all():
        continued = comparison.continued
        exception = f" (on {listed(continued)}: those that a run of the same encoding has learned)" if continued else ""
        yield (
            "For the same seed, the order of the data and the first values of all weights that encodings share are the "
            f"same{exception}, so that runs of one seed are pairs."
        )
    else:
        yield (
            "Runs of the same seed are treated as pairs; that they have the same data in the same order and the same "
            "first weights is not shown for all of them (see the checks)."
        )
    for kind, size in (comparison.budget or {}).items():
        yield f"Every run had a budget of {size:,} {kind}."


def _statistics(results: Results) -> Iterator[str]:
    comparison = results.comparison
    by_text: dict[str, list[str]] = {}
    for case in comparison.cases:
        text = f"decided by {listed([in_words(criterion) for criterion in comparison.criteria(case)])}."
        gate = comparison.gate_of(case)
        if gate is not None:
            bound = f"at least {gate.at_least:g}" if gate.at_least is not None else f"at most {gate.at_most:g}"
            metric = in_words(gate.criterion)
            text += f" An encoding has learned it if more than half of its seeds reach {metric} of {bound}."
        by_text.setdefault(text, []).append(case)
    for text, cases in by_text.items():
        yield f"{listed(cases)} {are(cases)} {text}"
    pairs = (
        " where two encodings share at least 2, and else of all their seeds (Welch's test)" if results.places else ""
    )
    yield (
        f"Differences to {comparison.baseline} are means over pairs of seeds{pairs}. Where a metric has "
        "scores of test items, the interval holds for new seeds and new items (a crossed layout of the two, whose half "
        "widths are added as squares), else for new seeds and these items (Student's t). An encoding is called better "
        "or worse if the difference is not zero at the level of 5 % after Holm's correction over the encodings of a "
        "case (over all pairs of encodings for differences to the best, which is chosen by its scores), and equivalent "
        "if it lies within the margin by two one-sided tests. Where some seeds solve a task and others do not, exact "
        "tests of the solve rate take their place."
    )
