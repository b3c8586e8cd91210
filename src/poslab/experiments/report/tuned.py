"""The tuning of a comparison in its report: the chosen values, pictures of the trials, and sentences on both."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pandas as pd

from poslab.experiments.comparison import Tuning, file_name
from poslab.experiments.report import figures
from poslab.experiments.results import Results
from poslab.experiments.tuned_points import at_an_end
from poslab.report.figures import Plot, Table
from poslab.report.sentences import amount, has, listed


def tuned_table(results: Results) -> Table | None:
    """Return a row for each case and tuned encoding: its trials, the best values, and what to know of them."""
    rows = []
    for case in results.comparison.cases:
        settings = results.comparison.tuning_of(case)
        for encoding, choice in results.tuned(case).items() if settings is not None else ():
            row: dict[str, object] = {"case": case, "encoding": encoding, "trials": len(choice.trials)}
            if not choice.found:
                note = "all trials diverged or failed: the first values were taken"
            else:
                notes = [f"{choice.failed} of {len(choice.trials)} trials diverged or failed"] if choice.failed else []
                notes += [f"{key} is at an end of all that was tried" for key in choice.at_the_edge]
                note = "; ".join(notes)
            rows.append({**row, **choice.point, "note": note})
    if not rows:
        return None
    frame = pd.DataFrame(rows)
    frame.insert(len(frame.columns) - 1, "note", frame.pop("note"))
    caption = (
        "The best trial of each encoding by validation, the first of equal ones. A dash: the encoding has no such key."
    )
    return Table("tuned", "Tuned values", caption, frame if frame["note"].any() else frame.drop(columns="note"))


def tuning_pictures(results: Results, styles: figures.Styles) -> Iterator[Plot]:
    """Yield a picture for each case and key of which several values were tried."""
    for case in results.comparison.cases:
        settings, tuned = results.comparison.tuning_of(case), results.tuned(case)
        if settings is None:
            continue
        known = {name: choice for name, choice in tuned.items() if choice.found}
        for key in dict.fromkeys(key for choice in known.values() for key in choice.point):
            own = {name: choice for name, choice in known.items() if key in choice.point}
            if len({str(point[key]) for choice in own.values() for point, _ in choice.trials}) > 1:
                name = file_name(f"tuning {case} {key}")
                yield figures.tuning(name, case, key, own, settings, styles)


def tuning_sentences(results: Results) -> Iterator[str]:
    """Yield how the encodings were tuned, with cases together that were tuned alike."""
    by_text: dict[str, list[str]] = {}
    for case in results.comparison.cases:
        settings = results.comparison.tuning_of(case)
        text = "nothing was tuned." if settings is None else " ".join(_of_case(results, case, settings))
        by_text.setdefault(text, []).append(case)
    for text, cases in by_text.items():
        yield f"On {listed(cases)}, {text}"


def _of_case(results: Results, case: str, settings: Tuning) -> Iterator[str]:
    names = results.comparison.encodings_of(case)
    trials = settings.trials_of(names[0])
    combinations = math.prod(map(len, settings.space_of(names[0]).values()))
    drawn = "" if trials == combinations else ", drawn from the combinations of their values"
    yield (
        f"each encoding was tuned by {amount(trials, 'trial')} over {listed(list(settings.space))}{drawn}, on seed "
        f"{settings.seed}, which is not compared; the {'least' if settings.direction == 'minimize' else 'most'} "
        f"validation {settings.metric} at the trained length chose."
    )
    for name in names:
        if own := [key for key in settings.of.get(name, {}) if key not in settings.space]:
            yield f"The trials of {name} had values of {listed(own)} too."
        if own := [key for key in settings.of.get(name, {}) if key in settings.space]:
            yield f"{name} had its own values of {listed(own)}."
    tuned = results.tuned(case)
    further = {name: len(choice.trials) - settings.trials_of(name) for name, choice in tuned.items()}
    if beyond := [f"{name} ({count})" for name, count in further.items() if count]:
        yield f"Where the best value was at an end of its range, values beyond it were tried as well: {listed(beyond)}."
    if failed := [f"{name} ({c.failed} of {len(c.trials)})" for name, c in tuned.items() if c.failed]:
        yield f"Trials that diverged or failed count as the worst: {listed(failed)}."
    if lost := [name for name, choice in tuned.items() if not choice.found]:
        yield f"All trials of {listed(lost)} did: {'it' if len(lost) == 1 else 'they'} {has(lost)} the first values."
    if ends := at_an_end(tuned):
        yield f"The best value of {listed(ends)} is still at an end: a better one may lie beyond."
