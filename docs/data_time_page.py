"""Makes the section on the time spent on data of docs/tasks.md: `python docs/make.py tasks`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
FIGURES = DOCS.parent / "benchmarks" / "figures" / "data_time.json"
PAGE = DOCS / "tasks.md"
HEADING = "## Time spent on data"


def section(measured: Mapping[str, Any]) -> str:
    """Return the section of what `benchmarks/data_time.py` has measured, as Markdown."""
    machine, rows = measured["machine"], []
    text = (
        f"The share of a training step that is spent on its batch, in each dataset's default run. The training process "
        f"itself makes the batches ({machine['processor']}, {machine['threads']} threads). *100,000 rows* is a CSV "
        f"file of texts with classes, prepared in {measured['datasets']['100,000 rows']['preparing_s']:.0f} s."
    )
    for name, found in measured["datasets"].items():
        step = found["making_ms"] + found["training_ms"]
        rows.append([name, f"{found['making_ms']:.1f}", f"{step:.0f}", f"{100 * found['share']:.1f} %"])
    return f"{HEADING}\n\n{text}\n\n{_table(['dataset', 'batch, ms', 'step, ms', 'share'], rows)}\n\n"


def with_section(page: str, new: str) -> str:
    """Return a page with another section in place of the one of this heading."""
    before, _, rest = page.partition(f"{HEADING}\n")
    return f"{before}{new}{rest[rest.index('## ') :]}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def make(draws: bool) -> None:
    """Write the section into the page, which has no pictures to draw."""
    new = section(json.loads(FIGURES.read_text(encoding="utf-8")))
    PAGE.write_text(with_section(PAGE.read_text(encoding="utf-8"), new), encoding="utf-8")
