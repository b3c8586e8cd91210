"""Results of a comparison: a row for each run and score, and tables of the metrics that decide."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

from poslab.comparison.lengths import value
from poslab.comparison.study import ComparisonStudy
from poslab.io.writing import write_atomically


def write_results(study: ComparisonStudy, console: Console) -> None:
    """Write results.csv of the runs that are finished, and print the means of the metrics that decide."""
    comparison = study.plan.comparison
    frame = runs_frame(study)
    write_atomically(Path(comparison.output) / "results.csv", frame.to_csv(index=False))
    for case in comparison.cases:
        table = Table(box=box.SIMPLE_HEAD, title=case, title_justify="left")
        table.add_column("encoding")
        table.add_column("seeds", justify="right")
        criteria = comparison.criteria(case)
        for criterion in criteria:
            table.add_column(criterion.metric, justify="right")
        for encoding in comparison.choices_by_encoding:
            own = frame[(frame["case"] == case) & (frame["encoding"] == encoding)]
            cells = []
            for criterion in criteria:
                values = own[own["metric"] == criterion.metric]["value"]
                cells.append("-" if values.empty else f"{values.mean():.4g}")
            table.add_row(encoding, str(own["seed"].nunique()), *cells)
        console.print(table)


def runs_frame(study: ComparisonStudy) -> pd.DataFrame:
    """Return the results of all finished runs: a row for each metric of a run, of its test, and that decides.

    Columns: case, encoding, seed, metric (a tag), value, diverged, machine, and the tuned values.
    """
    plan, results = study.plan, study.results()
    comparison, rows = plan.comparison, []
    wanted, _ = plan.wanted(results)
    for cell in wanted:
        result = results.get(cell.identity)
        if cell.is_trial or result is None:
            continue
        decided = {
            criterion.metric: value(criterion, result.scores, cell.lengths, plan.trained[cell.case])
            for criterion in comparison.criteria(cell.case)
        }
        row = {"case": cell.case, "encoding": cell.encoding, "seed": cell.seed}
        ends = {"diverged": bool(result.diverged), "machine": result.machine, **cell.point}
        for tag, number in {**result.metrics, **result.scores, **decided}.items():
            rows.append({**row, "metric": tag, "value": number, **ends})
    return pd.DataFrame(rows, columns=None if rows else ["case", "encoding", "seed", "metric", "value"])
