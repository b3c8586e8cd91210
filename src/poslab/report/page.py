"""The page of a report, and the files of its figures."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from markupsafe import Markup

from poslab.io.files import replacing, write_atomically
from poslab.report.figures import Plot, ReportFigure, Table
from poslab.report.text import fixed, readable

FIRST_ROWS = 30
"""Rows that a longer table shows at first; report.css repeats the number."""

DOTS_PER_INCH = 300
"""Of plots as PNG files."""

LONG = 60
"""Characters of a text above which its column is kept wide enough to read on a phone."""

LARGEST_SVG = 1_000_000
"""Bytes of a vector drawing in the page; a larger one, such as a curve of very many points, is slow on a phone."""


@dataclass(frozen=True)
class Section:
    """A part of a report: an introduction, in which an empty line begins a paragraph, and figures in order."""

    title: str
    text: str
    figures: list[ReportFigure]


def write_report(
    path: Path,
    title: str,
    facts: Mapping[str, str],
    sections: Sequence[Section],
    drawn: Mapping[str, bytes] | None = None,
    lead: Section | None = None,
) -> None:
    """Write an HTML page that needs no other file and no network, for a screen, a phone or paper.

    Plots are vector drawings in `<img>` with text as outlines: they look alike without matplotlib's font, and their
    ids and styles, which matplotlib repeats in every drawing, cannot collide. A drawing above `LARGEST_SVG` becomes a
    PNG of 200 dots per inch.

    Args:
        path: the file, usually `report.html`; it is replaced as a whole or not at all.
        title: of the page.
        facts: name and value of what was evaluated, how and when.
        sections: the parts in order. Markup in their text is shown, not interpreted.
        drawn: what `write_figures` returned for the same sections; None draws them again.
        lead: section before the facts and the contents, such as a conclusion.
    """
    here = Path(__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(here), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    page = environment.get_template("report.html.jinja").render(
        title=title,
        facts=facts,
        lead=None if lead is None else _section(lead, drawn or {}),
        sections=[_section(section, drawn or {}) for section in sections],
        first_rows=FIRST_ROWS,
        style=Markup((here / "report.css").read_text(encoding="utf-8")),
        script=Markup((here / "report.js").read_text(encoding="utf-8")),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, page)


def write_figures(directory: Path, sections: Sequence[Section], width: float | None = None) -> dict[str, bytes]:
    """Write each plot as NAME.png (300 dots per inch), NAME.svg and NAME.pdf, and each table as NAME.csv.

    All are made before the first is written, and each file is replaced as a whole or not at all. Equal figures give
    equal bytes, which are returned by the name of the file. Tables have all digits.

    Args:
        directory: of the files, which is made.
        sections: that hold the figures.
        width: in inches of PDF files, such as a paper's column; None: as in the page.
    """
    files: dict[str, bytes] = {}
    for figure in (figure for section in sections for figure in section.figures):
        if isinstance(figure, Plot):
            files[f"{figure.name}.svg"] = figure.drawn("svg")
            files[f"{figure.name}.png"] = figure.drawn("png", dpi=DOTS_PER_INCH)
            files[f"{figure.name}.pdf"] = figure.drawn("pdf", width=width)
        if isinstance(figure, Table):
            files[f"{figure.name}.csv"] = _columns(figure.frame).to_csv(index=False, lineterminator="\n").encode()
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        with replacing(directory / name) as file:
            file.write(content)
    return files


def _section(section: Section, drawn: Mapping[str, bytes]) -> dict[str, Any]:
    return {
        "title": section.title,
        "paragraphs": [paragraph for paragraph in re.split(r"\n\s*\n", section.text.strip()) if paragraph],
        "figures": [_figure(figure, drawn) for figure in section.figures],
    }


def _figure(figure: ReportFigure, drawn: Mapping[str, bytes]) -> dict[str, Any]:
    shown = {**vars(figure), "image": None}
    if isinstance(figure, Table):
        frame = _columns(figure.frame)
        columns = [_column(frame.iloc[:, index], figure.decimals) for index in range(frame.shape[1])]
        shown |= {"columns": columns, "rows": list(zip(*(column["cells"] for column in columns), strict=True))}
    elif isinstance(figure, Plot):
        kind, content = "svg+xml", drawn.get(f"{figure.name}.svg") or figure.drawn("svg")
        if len(content) > LARGEST_SVG:
            kind, content = "png", figure.drawn("png", dpi=200)
        width, height = figure.figure.get_size_inches()
        uri = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
        size = {"width": round(100 * width), "height": round(100 * height)}
        shown["image"] = {"uri": uri, "shrinks": figure.shrinks, **size}
    return shown


def _columns(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame whose named index has become its first columns."""
    return frame if frame.index.names == [None] else frame.reset_index()


def _column(column: pd.Series[Any], decimals: Mapping[str, int]) -> dict[str, Any]:
    """Return a column's name, whether it holds numbers, and its cells: text, CSS classes, and number to sort by.

    A name that is one identifier is shown in words; a key of a configuration, such as model.num_heads, stays.
    """
    name, missing = str(column.name), column.isna()
    present = column[~missing]
    numeric = len(present) > 0 and pd.api.types.infer_dtype(present) in ("integer", "floating", "mixed-integer-float")
    values: list[str | None] = [None] * len(present)
    if numeric:
        numbers = [float(number) for number in present]
        texts = [fixed(number, decimals[name]) for number in numbers] if name in decimals else readable(numbers)
        values = [repr(number).replace("inf", "Infinity") for number in numbers]  # as JavaScript reads it
    else:
        texts = [("yes" if value else "no") if pd.api.types.is_bool(value) else str(value) for value in present]
    kind = "number" if numeric else "long" if any(len(text) > LONG for text in texts) else ""
    cells = [{"text": text, "kind": kind, "value": value} for text, value in zip(texts, values, strict=True)]
    for row in np.flatnonzero(missing):
        cells.insert(row, {"text": "–", "kind": f"{kind} missing".strip(), "value": None})
    return {"name": name.replace("_", " ") if name.isidentifier() else name, "numeric": numeric, "cells": cells}
