"""Numbers, words and tables as text: digits that are alike within a column, and tables in Markdown and LaTeX."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # pandas takes a third of a second, and messages of mistakes need none
    import pandas as pd

SIGNIFICANT = 4  # digits of a number on its own, and of the smallest one of a column

IN_LATEX = {
    **{character: f"\\{character}" for character in "_&%#${}"},
    **{"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"},
    **{character: f"${character}$" for character in "<>|"},
    **{"▲": r"$\blacktriangle$", "▼": r"$\blacktriangledown$", "✗": r"$\times$", "∞": r"$\infty$", "±": r"$\pm$"},
    **{"−": "$-$", "–": "--"},
}
"""Characters that LaTeX would interpret, or does not have."""


def readable(numbers: Sequence[float]) -> list[str]:
    """Format the numbers of one column, which may be infinite but not NaN.

    Whole numbers stay whole. Others share a number of decimals, at most 4. If they differ by more than a factor of
    1000, or some are below 0.001 or at least 1e7, each has its own four significant digits.

        readable([256, 4096]) == ["256", "4,096"]
        readable([0.5, 0.03125]) == ["0.5000", "0.0312"]
        readable([1e-05, 0.5, 1234.5]) == ["1.000e−5", "0.5000", "1,234"]
    """
    sizes = [abs(number) for number in numbers if number and math.isfinite(number)]
    if all(size == int(size) and size < 1e15 for size in sizes):
        return [fixed(number, 0) for number in numbers]
    smallest, largest = min(sizes), max(sizes)
    if smallest < 1e-3 or largest >= 1e7 or largest > 1000 * smallest:
        texts = []
        for number in numbers:
            if not number or math.isinf(number):
                texts.append(fixed(number, 0))
            elif 1e-3 <= abs(number) < 1e7:
                texts.append(fixed(number, _decimals(abs(number))))
            else:
                mantissa, exponent = f"{number:.{SIGNIFICANT - 1}e}".split("e")
                texts.append(f"{mantissa}e{int(exponent)}".replace("-", "−"))
        return texts
    decimals = min(_decimals(smallest), SIGNIFICANT)
    return [fixed(number, decimals) for number in numbers]


def _decimals(number: float) -> int:
    """Return how many decimals show the significant digits of a number above zero."""
    return max(0, SIGNIFICANT - 1 - math.floor(math.log10(number)))


def fixed(number: float, decimals: int) -> str:
    """Format a number, which may be infinite but not NaN, with this many decimals."""
    if math.isinf(number):
        return "∞" if number > 0 else "−∞"
    return f"{number:,.{decimals}f}".replace("-", "−")


def listed(names: Sequence[str]) -> str:
    """Return names in words: `a`, `a and b`, `a, b and c`."""
    *before, end = names
    return f"{', '.join(before)} and {end}" if before else end


def file_name(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


def amount(count: int, noun: str) -> str:
    """Return `1 seed` or `5 seeds`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def roughly(seconds: float) -> str:
    """Return a duration in words, as exactly as an estimate is: `about 3 h`."""
    units = {"days": 86400, "h": 3600, "min": 60}
    unit, size = next(((unit, size) for unit, size in units.items() if seconds >= 1.5 * size), ("s", 1))
    return f"about {max(10, round(seconds, -1)) if size == 1 else seconds / size:.0f} {unit}"


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
