"""What an evaluation shows: tables and pictures, each with a sentence on how to read it."""

from __future__ import annotations

import copy
import io
from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from poslab.report.digits import readable

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's, which colour-blind people tell apart too; black and grey are for what is drawn for comparison."""

LONGEST_IN_A_NOTEBOOK = 60
"""Rows of a table; the middle of a longer one is left out."""


@dataclass(frozen=True)
class Exhibit:
    """One result.

    Args:
        name: of its files, unique in an evaluation: lower case, digits and underscores.
        title: a few words.
        how_to_read: one sentence (or two) for somebody who sees such a thing for the first time.
        source: where the method is from: a paper and section; empty where there is nothing to cite.
    """

    name: str
    title: str
    how_to_read: str
    source: str


@dataclass(frozen=True)
class Table(Exhibit):
    """A table: columns have names that a reader understands, and numbers are numbers."""

    frame: pd.DataFrame

    def _repr_html_(self) -> str:
        """What a notebook shows of it."""
        return self.frame.to_html(
            index=self.frame.index.names != [None],
            float_format=lambda number: readable([number])[0],
            na_rep="–",
            max_rows=LONGEST_IN_A_NOTEBOOK,
            border=0,
        )


@dataclass(frozen=True)
class Picture(Exhibit):
    """A picture."""

    figure: Figure

    def _repr_png_(self) -> bytes:
        """What a notebook shows of it."""
        content = io.BytesIO()
        drawn = copy.deepcopy(self.figure)  # drawn again, the layout of the figure itself would move a little
        drawn.savefig(content, format="png", dpi=100)
        return content.getvalue()


def legend_columns(labels: Iterable[str], width: float) -> int:
    """How many columns of a legend fit below a figure.

    Args:
        labels: of the legend.
        width: inches of the figure.
    """
    return max(1, int(width / (0.6 + 0.09 * max(map(len, labels), default=1))))


def new_figure(width: float = 7.0, height: float = 4.0) -> Figure:
    """An empty figure in the style of all of them, which belongs to no window and needs not be closed.

    Args:
        width, height: inches.
    """
    return Figure(figsize=(width, height), layout="constrained")
