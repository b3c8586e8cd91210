"""One page that shows an evaluation, and the files of its figures and tables."""

from __future__ import annotations

import base64
import copy
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from poslab.io.writing import replacing
from poslab.report.digits import readable
from poslab.report.exhibits import Exhibit, Picture, Table

FIRST_ROWS = 30
"""A longer table shows so many rows until one asks for all; report.css has the number too."""

DOTS_PER_INCH = 150
"""Of pictures as PNG files."""

LARGEST_SVG = 1_000_000
"""Bytes of a vector drawing in the page: what takes more, a curve of very many points, is slow on a phone."""


@dataclass(frozen=True)
class Section:
    """A part of a report.

    Args:
        title: a few words.
        text: what the part is about; an empty line begins a paragraph.
        exhibits: its tables and pictures, in order.
    """

    title: str
    text: str
    exhibits: list[Exhibit]


def write_report(
    path: Path,
    title: str,
    facts: Mapping[str, str],
    sections: Sequence[Section],
    drawn: Mapping[str, bytes] | None = None,
) -> None:
    """Writes a page of HTML that needs nothing beside it: it opens from disk without a network, on a phone, on paper.

    Pictures are vector drawings in `<img>`, text drawn as outlines. So they look alike without matplotlib's font, and
    their names and styles, which matplotlib chooses alike in all drawings, cannot meet each other or the page's. What
    would be too large as a drawing (`LARGEST_SVG`) is a PNG of 200 dots per inch.

    Args:
        path: the file, usually `report.html`; it is whole or as it was before.
        title: of the page.
        facts: what was evaluated, how and when: a name and a value each.
        sections: the parts in order. All text is shown as it is, markup included.
        drawn: what `write_exhibits` has drawn of the same sections; None draws it.

    Raises:
        ValueError: for exhibits whose names are not unique, or not of lower case letters, digits and underscores.
    """
    _check_names(sections)
    here = Path(__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(here), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    page = environment.get_template("report.html.jinja").render(
        title=title,
        facts=facts,
        sections=[_section(section, drawn or {}) for section in sections],
        first_rows=FIRST_ROWS,
        style=Markup((here / "report.css").read_text(encoding="utf-8")),
        script=Markup((here / "report.js").read_text(encoding="utf-8")),
    )
    _put(path, page.encode())


def write_exhibits(directory: Path, sections: Sequence[Section]) -> dict[str, bytes]:
    """Writes each picture as NAME.png (150 dots per inch) and NAME.svg, and each table as NAME.csv with all digits.

    All are made before the first is written, and each file is whole or as it was before. The same exhibits give the
    same bytes.

    Args:
        directory: it need not exist yet.
        sections: of a report.

    Returns:
        The contents of the files by name.

    Raises:
        ValueError: for exhibits whose names are not unique, or not of lower case letters, digits and underscores.
    """
    _check_names(sections)
    files: dict[str, bytes] = {}
    for exhibit in (exhibit for section in sections for exhibit in section.exhibits):
        if isinstance(exhibit, Picture):
            files[f"{exhibit.name}.svg"] = _drawn(exhibit.figure, "svg")
            files[f"{exhibit.name}.png"] = _drawn(exhibit.figure, "png", dpi=DOTS_PER_INCH)
        if isinstance(exhibit, Table):
            files[f"{exhibit.name}.csv"] = _columns(exhibit.frame).to_csv(index=False, lineterminator="\n").encode()
    for name, content in files.items():
        _put(directory / name, content)
    return files


def _check_names(sections: Sequence[Section]) -> None:
    seen = set()
    for name in (exhibit.name for section in sections for exhibit in section.exhibits):
        if not re.fullmatch("[a-z0-9_]+", name):
            raise ValueError(f"name of an exhibit must be lower case letters, digits and underscores, got {name!r}")
        if name in seen:
            raise ValueError(f"name of an exhibit must be unique in a report, got {name!r} twice")
        seen.add(name)


def _put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(content)


def _drawn(figure: Figure, form: str, dpi: int = 100) -> bytes:
    content = io.BytesIO()
    # A salt and no date, and a copy: the layout of a figure moves a little the second time that it is drawn.
    with matplotlib.rc_context({"svg.hashsalt": "poslab", "svg.fonttype": "path"}):
        copy.deepcopy(figure).savefig(content, format=form, dpi=dpi, metadata={"Date": None} if form == "svg" else None)
    return content.getvalue()


def _section(section: Section, drawn: Mapping[str, bytes]) -> dict[str, Any]:
    return {
        "title": section.title,
        "paragraphs": [paragraph for paragraph in re.split(r"\n\s*\n", section.text.strip()) if paragraph],
        "exhibits": [_exhibit(exhibit, drawn) for exhibit in section.exhibits],
    }


def _exhibit(exhibit: Exhibit, drawn: Mapping[str, bytes]) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "name": exhibit.name,
        "title": exhibit.title,
        "how_to_read": exhibit.how_to_read,
        "source": exhibit.source,
        "image": _image(exhibit, drawn) if isinstance(exhibit, Picture) else None,
    }
    if isinstance(exhibit, Table):
        frame = _columns(exhibit.frame)
        columns = [_column(frame.iloc[:, index]) for index in range(frame.shape[1])]
        shown |= {"columns": columns, "rows": list(zip(*(column["cells"] for column in columns), strict=True))}
    return shown


def _image(picture: Picture, drawn: Mapping[str, bytes]) -> dict[str, Any]:
    figure = picture.figure
    kind, content = "svg+xml", drawn.get(f"{picture.name}.svg") or _drawn(figure, "svg")
    if len(content) > LARGEST_SVG:
        kind, content = "png", _drawn(figure, "png", dpi=200)
    width, height = figure.get_size_inches()
    return {
        "uri": f"data:image/{kind};base64,{base64.b64encode(content).decode()}",
        "width": round(100 * width),
        "height": round(100 * height),
    }


def _columns(frame: pd.DataFrame) -> pd.DataFrame:
    """What is shown of a frame: its columns, after those of an index that has a name."""
    return frame if frame.index.names == [None] else frame.reset_index()


def _column(column: pd.Series[Any]) -> dict[str, Any]:
    """A column's name, whether it is one of numbers, and its cells: their text, kind, and number to sort by."""
    missing = column.isna()
    present = column[~missing]
    numeric = len(present) > 0 and pd.api.types.infer_dtype(present) in ("integer", "floating", "mixed-integer-float")
    values: list[str | None] = [None] * len(present)
    if numeric:
        numbers = [float(number) for number in present]
        texts = readable(numbers)
        values = [repr(number).replace("inf", "Infinity") for number in numbers]  # as JavaScript reads it
    else:
        texts = [_words(value) for value in present]
    filled = iter(zip(texts, values, strict=True))
    cells = []
    for gap in missing:
        text, value = ("–", None) if gap else next(filled)
        kind = " ".join(["number"] * numeric + ["missing"] * bool(gap))
        cells.append({"text": text, "kind": kind, "value": value})
    return {"name": str(column.name), "numeric": numeric, "cells": cells}


def _words(value: object) -> str:
    if pd.api.types.is_bool(value):
        return "yes" if value else "no"
    return str(value)
