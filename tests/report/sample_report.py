"""A small report with all that one can hold, for the tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from poslab.report.figures import Plot, Section, Table, new_figure, write_report

NASTY = """<b>bold</b> & "quoted" 'words' <script>alert(1)</script>"""
LOSSES = [10.5, 9.25, None, 2.125, float("inf"), -100.0]


def curve(points: int = 5) -> Plot:
    figure = new_figure()
    x = np.arange(points)
    figure.subplots().plot(x, np.random.default_rng(0).random(points), "o")
    return Plot("curve", f"Curve {NASTY}", "A flat line is good.", figure, source="A paper, section 1")


def heat_map() -> Plot:
    figure = new_figure()
    image = figure.subplots().imshow(np.arange(12).reshape(3, 4) / 11, aspect="auto")
    figure.colorbar(image, label="share found")
    return Plot("heat_map", "Heat map", "Bright is found.", figure)


def sections() -> list[Section]:
    losses = pd.DataFrame({"encoding": ["rotary", "ALiBi", NASTY, "T5 8", "T5 16", None], "loss": LOSSES})
    wide = pd.DataFrame({f"head {h}": [h / 10, 1.5] for h in range(30)}, index=pd.Index([0, 1], name="layer"))
    long = pd.DataFrame({"position": range(60), "tokens": [1000 * position for position in range(60)]})
    return [
        Section(f"Reach {NASTY}", f"First {NASTY}\n\nSecond", [Table("losses", "Losses", "Low is good.", losses)]),
        Section("Retrieval", "", [curve(), Table("wide", "Wide", "A row is a layer.", wide), heat_map()]),
        Section("Positions", "", [Table("long", "Long", "A row is a position.", long)]),
    ]


def write_sample(directory: Path) -> Path:
    """The file of the report, in a directory."""
    path = directory / "report.html"
    write_report(path, f"Report {NASTY}", {"run": f"outputs/{'long' * 40}", "commit": NASTY}, sections())
    return path
