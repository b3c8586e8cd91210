"""Figures of a report (tables and plots, each with a caption), and the page that shows them."""

from __future__ import annotations

import base64
import copy
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import fill
from typing import Any

import jinja2
import matplotlib
import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from poslab.io.files import replacing, write_atomically
from poslab.report.text import fixed, readable

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's, which colour-blind people can distinguish; black and grey are for comparisons."""

LINES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<")

Style = Mapping[str, Any]  # colour, line and marker of something that is drawn in several figures

CANVASES = {"png": FigureCanvasAgg, "svg": FigureCanvasSVG, "pdf": FigureCanvasPdf}

WITHOUT_DATE = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}  # metadata of files, by their form

WIDTH = 5.0
"""Inches of figures whose labels, of the size `small` at least, can be read on a phone, which shrinks figures."""

LETTERS_OF_AN_INCH = 12  # letters of medium size that fit into an inch
MAX_NOTEBOOK_LABEL = 60  # rows of a table in a notebook, which leaves out the middle of a longer one


@dataclass(frozen=True)
class ReportFigure:
    """A table or a plot."""

    name: str  # of its files, unique in a report: lower case, digits and underscores
    title: str  # a few words
    caption: str  # one or two sentences that explain it to a newcomer
    source: str = field(default="", kw_only=True)  # paper and section of the method, if there is one to cite


@dataclass(frozen=True)
class Table(ReportFigure):
    """A table, with numbers kept as numbers."""

    frame: pd.DataFrame  # its columns; the page shows `chance_loss` as `chance loss`
    # numbers of decimals of some columns in the page; others have as many as their numbers need
    decimals: Mapping[str, int] = field(default_factory=dict, kw_only=True)

    def _repr_html_(self) -> str:
        return self.frame.to_html(
            index=self.frame.index.names != [None],
            float_format=lambda number: readable([number])[0],
            na_rep="–",
            max_rows=MAX_NOTEBOOK_LABEL,
            border=0,
        )


@dataclass(frozen=True)
class Plot(ReportFigure):
    """A plot."""

    figure: Figure  # its drawing
    # False for one of so many labels that a narrow window has to move over it
    shrinks: bool = field(default=True, kw_only=True)
    _laid_out: dict[float | None, Figure] = field(default_factory=dict, init=False, repr=False, compare=False)

    def drawn(self, form: str, dpi: int = 100, width: float | None = None) -> bytes:
        """Return the plot as a file, png, svg or pdf; equal figures give equal bytes.

        The width is in inches, and letters keep their size. None, and where it may not shrink: as wide as the figure.
        """
        content = io.BytesIO()
        figure = self._at_width(width if self.shrinks else None)
        with matplotlib.rc_context({"svg.hashsalt": "poslab", "svg.fonttype": "path", "pdf.fonttype": 42}):
            figure.set_dpi(dpi)
            # As `savefig`, which draws twice, to lay out what is laid out already.
            getattr(CANVASES[form](figure), f"print_{form}")(content, metadata=WITHOUT_DATE.get(form))
        return content.getvalue()

    def _at_width(self, width: float | None) -> Figure:
        """Return a copy of the figure that is laid out once, for all of its files: it takes as long as to draw it."""
        if width not in self._laid_out:
            figure = copy.deepcopy(self.figure)
            if width is not None:
                set_width(figure, width)
            figure.draw_without_rendering()
            figure.set_layout_engine("none")
            self._laid_out[width] = figure
        return self._laid_out[width]

    def _repr_png_(self) -> bytes:
        return self.drawn("png")


def style(number: int) -> Style:
    """Return a style for the line of a number.

    Neighbours differ in colour, line and marker, in grey print too, and lines of the same colour in the other two.
    """
    kinds = {"color": COLOURS, "linestyle": LINES, "marker": MARKERS}
    return {kind: values[number % len(values)] for kind, values in kinds.items()}


def without_marker(style: Style) -> Style:
    """Return a style for a curve of very many points."""
    return {key: value for key, value in style.items() if key != "marker"}


def set_width(figure: Figure, width: float) -> None:
    """Give a figure another width in inches, with its legends below in as many columns as fit, and titles broken."""
    figure.set_size_inches(width, figure.get_size_inches()[1])
    for panel in figure.axes:
        position = panel.get_subplotspec()
        columns = 1 if position is None else position.get_gridspec().ncols
        panel.title.set_text(fill(panel.get_title(), max(8, int(LETTERS_OF_AN_INCH * width / columns) - 4)))
        if (legend := panel.get_legend()) is not None:
            texts = [text.get_text() for text in legend.get_texts()]
            legend.remove()
            handles = [handle for handle in legend.legend_handles if handle is not None]
            figure.legend(handles, texts, loc="outside lower center", frameon=False, fontsize="small")
    for legend in figure.legends:
        texts = [fill(text.get_text(), int(LETTERS_OF_AN_INCH * width) - 6) for text in legend.get_texts()]
        for text, broken in zip(legend.get_texts(), texts, strict=True):
            text.set_text(broken)
        legend.set_ncols(legend_columns(texts, width))


def legend_columns(labels: Iterable[str], width: float) -> int:
    """Return how many columns a legend has below a figure of this width in inches: the fewest in the fewest rows."""
    lengths = [len(label) for label in labels] or [1]
    fit = max(1, int(width / (0.6 + 0.09 * max(lengths))))
    rows = math.ceil(len(lengths) / fit)
    return math.ceil(len(lengths) / rows)


def new_figure(width: float = 7.0, height: float = 4.0) -> Figure:
    """Return an empty matplotlib figure of this size in inches; it has no window and need not be closed."""
    return Figure(figsize=(width, height), layout="constrained")


def widen(panel: Axes, least: float) -> None:
    """Widen the linear y axis of a panel, around its middle, to at least this span."""
    low, high = panel.get_ylim()
    if high - low < least:
        panel.set_ylim((low + high - least) / 2, (low + high + least) / 2)


def panel_grid(
    count: int,
    columns: int,
    width: float,
    height: float,
    margin: float = 0.0,
    sharex: bool = False,
    sharey: bool = False,
    xlabel: str = "",
    ylabel: str = "",
) -> tuple[Figure, np.ndarray]:
    """Return a figure with `count` panels in rows, (rows, columns), the rest of the last row hidden.

    The width is the figure's, the height is a row's, plus a margin, all in inches. The last panel of each
    column and the first of each row have the labels.
    """
    rows = -(-count // columns)
    figure = new_figure(width, margin + rows * height)
    panels: np.ndarray = figure.subplots(rows, columns, sharex=sharex, sharey=sharey, squeeze=False)
    for panel in panels.flat[count:]:
        panel.set_axis_off()
    for panel in panels.flat[max(0, count - columns) : count]:
        panel.tick_params(labelbottom=True)
        panel.set_xlabel(xlabel)
    for panel in panels[:, 0]:
        panel.set_ylabel(ylabel)
    return figure, panels


FIRST_ROWS = 30  # rows that a longer table shows at first; report.css repeats the number
DOTS_PER_INCH = 300  # of plots as PNG files
LONG = 60  # characters of a text above which its column is kept wide enough to read on a phone

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
    PNG of 200 dots per inch. The file is replaced as a whole or not at all.

    Args:
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
    equal bytes, which are returned by the name of the file. Tables have all digits. The width is in inches of PDF
    files, such as a paper's column; None: as in the page.
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
    """Return a column's name, whether it contains numbers, and its cells: text, CSS classes, and number to sort by.

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
