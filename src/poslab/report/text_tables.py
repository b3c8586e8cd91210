"""Tables of texts in Markdown and LaTeX, for a page and a paper."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import pandas as pd

IN_LATEX = {
    **{character: f"\\{character}" for character in "_&%#${}"},
    **{"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"},
    **{character: f"${character}$" for character in "<>|"},
    **{"▲": r"$\blacktriangle$", "▼": r"$\blacktriangledown$", "✗": r"$\times$", "∞": r"$\infty$", "±": r"$\pm$"},
    **{"−": "$-$", "–": "--"},
}
"""Characters that LaTeX would interpret, or does not have."""


def markdown(frame: pd.DataFrame) -> str:
    """Return a table of texts as Markdown, in which nothing of a cell is interpreted."""
    cells = frame.itertuples(index=False)
    return markdown_table(list(frame.columns), ([in_markdown(str(cell)) for cell in row] for row in cells))


def markdown_table(columns: Sequence[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table whose cells are Markdown already, such as links; bars in them are escaped, unless they are."""
    cells = ([re.sub(r"(?<!\\)\|", r"\|", cell) for cell in row] for row in rows)
    return "\n".join(f"| {' | '.join(row)} |" for row in [columns, ["---"] * len(columns), *cells])


def latex(frame: pd.DataFrame, caption: str) -> str:
    """Return a table of texts in LaTeX, with a comment that names the packages which it needs."""
    escaped = frame.map(_escaped).rename(columns=_escaped)
    table = escaped.to_latex(
        index=False, escape=False, caption=_escaped(caption), column_format="l" + "r" * (frame.shape[1] - 1)
    )
    return f"% \\usepackage{{booktabs,amssymb}}\n{table}"


def in_markdown(text: str) -> str:
    """Return a text in one line, with the characters that Markdown would interpret escaped."""
    return re.sub(r"([|*<`\[\]\\])", r"\\\1", " ".join(text.split()))


def _escaped(text: str) -> str:
    """Return a text in one line, with the characters that LaTeX would interpret escaped."""
    return "".join(IN_LATEX.get(character, character) for character in " ".join(text.split()))
