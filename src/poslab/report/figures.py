"""Figures of a report: tables and plots, each with a caption."""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from textwrap import fill
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from poslab.report.text import readable

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's, which colour-blind people can distinguish; black and grey are for comparisons."""

LINES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<")

Style = Mapping[str, Any]
"""Colour, line and marker of something that is drawn in several figures."""

CANVASES = {"png": FigureCanvasAgg, "svg": FigureCanvasSVG, "pdf": FigureCanvasPdf}

WITHOUT_DATE = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
"""Metadata of files, by their form."""

WIDTH = 5.0
"""Inches of figures whose labels, of the size `small` at least, can be read on a phone, which shrinks figures."""

LETTERS_OF_AN_INCH = 12
"""Letters of medium size that fit into an inch."""

MAX_NOTEBOOK_LABEL = 60
"""Rows of a table in a notebook, which leaves out the middle of a longer one."""


@dataclass(frozen=True)
class ReportFigure:
    """A table or a plot.

    Args:
        name: of its files, unique in a report: lower case, digits and underscores.
        title: a few words.
        caption: one or two sentences that explain it to a newcomer.
        source: paper and section of the method, if there is one to cite.
    """

    name: str
    title: str
    caption: str
    source: str = field(default="", kw_only=True)


@dataclass(frozen=True)
class Table(ReportFigure):
    """A table, with numbers kept as numbers.

    Args:
        frame: its columns; the page shows `chance_loss` as `chance loss`.
        decimals: numbers of decimals of some columns in the page; others have as many as their numbers need.
    """

    frame: pd.DataFrame
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
    """A plot.

    Args:
        figure: its drawing.
        shrinks: False for one of so many labels that a narrow window has to move over it.
    """

    figure: Figure
    shrinks: bool = field(default=True, kw_only=True)
    _laid_out: dict[float | None, Figure] = field(default_factory=dict, init=False, repr=False, compare=False)

    def drawn(self, form: str, dpi: int = 100, width: float | None = None) -> bytes:
        """Return the plot as a file, png, svg or pdf; equal figures give equal bytes.

        Args:
            form: of the file.
            dpi: dots per inch.
            width: in inches; letters keep their size. None, and where it may not shrink: as wide as the figure.
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

    The width is that of the figure, the height that of a row, plus a margin, all in inches. The last panel of each
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
