"""Read the paragraphs of a manual page in roff, with the macros of man(7), as plain text.

Code, tables and conditional parts are left out; fonts and other escapes are dropped.

Source: groff_man(7), groff_char(7).
"""

import re
from typing import NamedTuple

# The kinds of paragraphs by the macros that begin them.
PARAGRAPHS = {
    **dict.fromkeys(("P", "PP", "LP", "HP", "sp"), "paragraph"),
    **{"SH": "section", "SS": "subsection", "TP": "tag", "TQ": "tag", "IP": "indented", "RS": "inset", "RE": "outset"},
}
SAME_FONT, ALTERNATING_FONTS = ("B", "I", "SM", "SB"), ("BR", "RB", "BI", "IB", "IR", "RI")
CODE, CODE_ENDS = ("nf", "EX", "Vb"), ("fi", "EE", "Ve")
DEFINITIONS = ("de", "de1", "am", "ig")
MDOC = ("Dd", "Sh", "Bl")

GLYPHS = {
    **{"aq": "'", "Aq": "'", "oq": "‘", "cq": "’", "dq": '"', "lq": "“", "rq": "”", "Fo": "«", "Fc": "»", "ga": "`"},
    **{"em": "—", "en": "–", "hy": "-", "bu": "•", "ha": "^", "ti": "~", "rs": "\\", "sl": "/", "or": "|", "ba": "|"},
    **{"at": "@", "sh": "#", "Do": "$", "lB": "[", "rB": "]", "lC": "{", "rC": "}", "la": "⟨", "ra": "⟩", "co": "©"},
    **{"+-": "±", "mu": "×", "<=": "≤", ">=": "≥", "->": "→", "de": "°", "mc": "µ", "*m": "μ", "*p": "π", "*W": "Ω"},
    **{"fm": "′", "sd": "″", "is": "∫", "if": "∞", "12": "½", "sc": "§", "dg": "†", "tm": "™", "oe": "œ", "~n": "ñ"},
    **{"'a": "á", "`a": "à", ":a": "ä", ":o": "ö", ":u": "ü", ":A": "Ä", ":O": "Ö", "^o": "ô"},
}
NOTHING, SPACES, THEMSELVES = "&%:/,)|^c", " ~0t\N{NO-BREAK SPACE}", "-.'`\\"

_ESCAPE = re.compile(r"\\(?:f(?:\[[^]]*\]|\(..|.)|s[-+]?\d+|\*?\((?P<two>..)|\*?\[(?P<name>[^]]*)\]|(?P<one>.)|$)")
_COMMENT = re.compile(r'(?<!\\)((?:\\\\)*)\\["#].*')
_REQUEST = re.compile(r"[.'][ \t]*(\S*)[ \t]*(.*)")
_ARGUMENT = re.compile(r'"((?:[^"]|"")*)"?|((?:\\.|[^\s\\])+)')


class Paragraph(NamedTuple):
    """A paragraph as it stands in a page.

    Args:
        kind: `section`, `tag`, `text` (after a heading or a tag), ..., the same in every translation.
        text: in roff, with its escapes; see `plain`.
    """

    kind: str
    text: str


def paragraphs(page: str) -> list[Paragraph] | None:
    """Return the paragraphs of a page in order, or None where it is written in mdoc(7), which is another language."""
    reader = _Reader()
    for line in page.split("\n"):
        reader.read(_COMMENT.sub(r"\1", line))
        if reader.is_mdoc:
            return None
    reader.begin("end")
    return [paragraph for paragraph in reader.done if paragraph.text.strip()]


def plain(text: str) -> str | None:
    r"""Return text without escapes, with single spaces: `\fBread\fP()\~\(em` becomes `read() —`.

    It is None for a text with an unknown escape.
    """
    unknown = False

    def character(match: re.Match[str]) -> str:
        nonlocal unknown
        name, one = match["two"] or match["name"], match["one"]
        if name is not None:
            if re.fullmatch("u[0-9A-F]{4,5}", name):
                return chr(int(name[1:], 16))
            unknown |= name not in GLYPHS
            return GLYPHS.get(name, "")
        if one is None or one in NOTHING:
            return ""
        if one in SPACES:
            return " "
        unknown |= one not in THEMSELVES + "e"
        return "\\" if one == "e" else one

    characters = _ESCAPE.sub(character, text)
    return None if unknown else " ".join(characters.split())


class _Reader:
    """A reader of a page, line by line."""

    def __init__(self) -> None:
        self.done: list[Paragraph] = []
        self.is_mdoc = False
        self._kind, self._words = "top", ""
        self._in_code = self._awaits_tag = self._glued = False
        self._skips_to: str | None = None
        self._open_braces = 0
        self._address: str | None = None
        self._before_link = ""

    def begin(self, kind: str) -> None:
        """End the present paragraph, and begin one of this kind."""
        self.done.append(Paragraph(self._kind, self._words))
        self._kind, self._words, self._glued = kind, "", False

    def read(self, line: str) -> None:
        request = _REQUEST.match(line)
        if self._skips_to is not None:
            if request is not None and request[1] == self._skips_to:
                self._skips_to = None
        elif self._open_braces > 0:
            self._open_braces += line.count(r"\{") - line.count(r"\}")
        elif request is not None:
            self._obey(request[1], request[2])
        elif not self._in_code:
            if line.strip():
                self._add(line)
                self._end_tag()
            elif not self._awaits_tag:
                self.begin("paragraph")

    def _obey(self, name: str, rest: str) -> None:
        if name in MDOC:
            self.is_mdoc = True
        elif name in ("if", "ie", "el"):
            self._open_braces = rest.count(r"\{") - rest.count(r"\}")
        elif name in DEFINITIONS:
            self._skips_to = "."
        elif name == "TS":
            self.begin("text")
            self._skips_to = "TE"
        elif name in CODE + CODE_ENDS:
            self.begin("text")
            self._in_code = name in CODE
        elif name in PARAGRAPHS:
            # Within code, only a heading shows that its end was forgotten.
            if not self._in_code or name in ("SH", "SS"):
                self._in_code = False
                self._begin_as(name, _arguments(rest))
        elif not self._in_code:
            self._set_words(name, rest)

    def _begin_as(self, name: str, arguments: list[str]) -> None:
        self.begin(PARAGRAPHS[name])
        # A tag is the line that follows, as is a heading without arguments.
        self._awaits_tag = name in ("TP", "TQ") or (name in ("SH", "SS") and not arguments)
        if arguments and name in ("SH", "SS", "IP"):
            self._add(arguments[0] if name == "IP" else " ".join(arguments))
            self.begin("text")

    def _set_words(self, name: str, rest: str) -> None:
        if name in SAME_FONT and rest:
            self._add(" ".join(_arguments(rest)))
        elif name in ALTERNATING_FONTS:
            self._add("".join(_arguments(rest)))
        elif name in ("UR", "MT"):
            self._address = next(iter(_arguments(rest)), "")
            self._before_link = self._words
            return
        elif name in ("UE", "ME") and self._address is not None:
            if self._words == self._before_link:
                self._add(self._address)  # a link without words shows its address
            self._words += "".join(_arguments(rest))
            self._address = None
        else:
            return
        self._end_tag()

    def _add(self, words: str) -> None:
        if self._words and not self._glued:
            self._words += " "
        self._words += words
        self._glued = words.endswith(r"\c")

    def _end_tag(self) -> None:
        if self._awaits_tag and self._words and not self._glued:
            self._awaits_tag = False
            self.begin("text")


def _arguments(rest: str) -> list[str]:
    """Return the arguments of a macro, between spaces or within quotation marks, which are doubled inside."""
    return [quoted.replace('""', '"') or bare for quoted, bare in _ARGUMENT.findall(rest)]
