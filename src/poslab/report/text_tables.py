"""Tables of texts in Markdown and LaTeX, for a page and a paper."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

IN_LATEX = {
    "▲": r"$\blacktriangle$",
    "▼": r"$\blacktriangledown$",
    "=": "$=$",
    "?": "?",
    "✗": r"$\times$",
    "∞": r"$\infty$",
    "±": r"$\pm$",
}
"""Signs of verdicts, and of a spread, in LaTeX."""


def markdown(frame: pd.DataFrame) -> str:
    """Return a table of texts as Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in [list(frame.columns), ["---"] * frame.shape[1], *_rows(frame)])


def latex(frame: pd.DataFrame, caption: str) -> str:
    """Return a table of texts in LaTeX, for the package booktabs."""
    escaped = frame.map(_escaped).rename(columns=_escaped)
    return escaped.to_latex(
        index=False, escape=False, caption=_escaped(caption), column_format="l" + "r" * (frame.shape[1] - 1)
    )


def _rows(frame: pd.DataFrame) -> Sequence[list[str]]:
    return [[str(cell).replace("|", "\\|") for cell in row] for row in frame.itertuples(index=False)]


def _escaped(text: str) -> str:
    """Return a text with the characters that LaTeX would interpret escaped."""
    plain = "".join(
        f"\\{c}" if c in "_&%#${}" else {"~": r"\textasciitilde{}", "^": r"\^{}", "\\": r"\textbackslash{}"}.get(c, c)
        for c in text
    )
    return "".join(IN_LATEX.get(c, c) if c in "▲▼✗∞±" else c for c in plain)
