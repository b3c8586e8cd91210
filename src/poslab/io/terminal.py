"""Printed text without characters that control a terminal: names come from files, and texts from models."""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterable
from typing import Any, TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

OBEYED = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode categories of control characters, formats (which can reverse letters), surrogates and line separators."""

WRITTEN = "\n\t\u200c\u200d"
"""Characters of these categories that are text: joiners are letters of Persian and Hindi, and join emoji."""


def harmless(text: str) -> str:
    """Return a text with a replacement character for each one that would control a terminal."""
    if text.isascii() and text.isprintable():
        return text
    obeyed = [character for character in {*text} - {*WRITTEN} if unicodedata.category(character) in OBEYED]
    return text.translate(dict.fromkeys(map(ord, obeyed), "\N{REPLACEMENT CHARACTER}"))


def one_line(text: str) -> str:
    """Return a text on one line, made harmless."""
    return harmless(" ".join(text.split()))


HINT = re.compile(r"; (?:hint: |(?=did you mean [^;]*\?(?: \(\w+=[^)]*\))?$))")
"""Separator of a mistake and its hint in a message."""


def print_error(message: str) -> None:
    """Print a mistake to the standard error, and its hint, if it has one, on a second line."""
    mistake, *hints = HINT.split(one_line(message), maxsplit=1)
    mistake = re.sub(r"(\S{200})\S{200,}(\S{200})", r"\1...\2", mistake)
    print("\n".join([f"error: {mistake}", *(f"hint: {hint}" for hint in hints)]), file=sys.stderr, flush=True)


class HarmlessConsole(Console):
    """Console of rich that prints text unchanged, without markup, emoji codes, added colours, or controls.

    It prints to `file`, or to the standard output for None.
    """

    def __init__(self, file: TextIO | None = None, **arguments: Any) -> None:
        super().__init__(file=file, highlight=False, markup=False, emoji=False, **arguments)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the segments of a renderable; rich's own controls, such as cursor moves, stay."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=harmless(segment.text))


def take_any_character() -> None:
    """Make the standard output replace what the terminal's encoding lacks, instead of failing."""
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
