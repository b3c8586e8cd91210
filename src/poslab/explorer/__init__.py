"""The explorer: one page in which a person moves the knobs of two encodings and sees what they do.

It is joined from the files of this folder.
"""

from __future__ import annotations

import json
from pathlib import Path

from poslab.io.files import write_atomically

HERE = Path(__file__).parent

DATA = HERE / "data.json"
"""Numbers that the page does not compute: smallest bases, and trained weights. `docs/make.py --explorer` writes it."""

SCRIPTS = ("formulas.js", "encodings.js", "words.js", "chart.js", "charts.js", "explorer.js")
"""Parts of the script, each of which uses only those before it when it is read."""


def explorer_page(train: str = "python -m src.train") -> str:
    """Return the page, which needs no other file and no network.

    Args:
        train: command that trains an encoding, whose keys the page adds.
    """
    parts = {
        "style": _read("explorer.css"),
        "data": json.dumps(json.loads(_read(DATA.name)), separators=(",", ":")),
        "script": "\n".join(_read(name) for name in SCRIPTS),
        "train": train,
    }
    page = _read("explorer.html")
    for name, text in parts.items():
        page = page.replace(f"{{{{ {name} }}}}", text.strip())
    return page


def write_explorer(path: Path, train: str = "python -m src.train") -> None:
    """Write `explorer_page` into a file, such as explorer.html, which a browser opens; an older one is replaced."""
    write_atomically(path, explorer_page(train))


def _read(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")
