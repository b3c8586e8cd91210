"""The tuning of a comparison in its report: the chosen values, and plots of the trials."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from poslab.experiments.comparison import file_name
from poslab.experiments.report import figures
from poslab.experiments.results import Results
from poslab.report.figures import Plot, Table


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


def tuning_plots(results: Results, styles: figures.Styles) -> Iterator[Plot]:
    """Yield a plot for each case and key of which several values were tried."""
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
