"""The form in which texts are compared, the same for texts that read the same."""

import re
import sys
import unicodedata
from functools import cache

# Marks stay, as vowels of Indic scripts, and most symbols, such as + and <, but not ` and ^ (Sk).
UNREAD = {"Pc", "Pd", "Pe", "Pf", "Pi", "Po", "Ps", "Sk", "Zs", "Cc", "Cf"}
BETWEEN_DIGITS = re.compile(r"(?<=[0-9])([\W_]+)(?=[0-9])")


def normal_form(text: str) -> str:
    """Return a text without case, white space, punctuation and differences of Unicode form.

    Punctuation stays between two digits, since 7 - 4 is not 7 * 4; and so does a text of nothing else, such as `:-)`.

    Example: `It's  OK!` and `its ok` become `itsok`.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    words = " ".join(folded.split())
    parts = BETWEEN_DIGITS.split(words)
    parts[::2] = [part.translate(_deleted()) for part in parts[::2]]
    return "".join(parts) or words


@cache
def _deleted() -> dict[int, None]:
    """Return a table that deletes the categories of `UNREAD`."""
    return {code: None for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)) in UNREAD}
