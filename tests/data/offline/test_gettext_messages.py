"""Messages of programs and their translations."""

import struct
from pathlib import Path
from typing import Any

import pytest

from poslab.data.offline.gettext_messages import GettextMessages
from tests.data.examples.contract import rows_of

FILE = Path("/usr/share/locale/fr/LC_MESSAGES/gcc-14.mo")
installed = pytest.mark.needs(str(FILE))


def write(path: Path, messages: dict[str, str]) -> None:
    """A .mo file as the GNU gettext manual describes it: a header, two tables of lengths and places, the strings."""
    header = "Content-Type: text/plain; charset=UTF-8\nPlural-Forms: nplurals=2; plural=(n != 1);\n"
    entries = sorted((key.encode(), text.encode()) for key, text in ({"": header} | messages).items())
    count = len(entries)
    place = 28 + 16 * count
    tables: list[bytes] = []
    strings = b""
    for column in (0, 1):
        for entry in entries:
            tables.append(struct.pack("<II", len(entry[column]), place + len(strings)))
            strings += entry[column] + b"\0"
    start = struct.pack("<7I", 0x950412DE, 0, count, 28, 28 + 8 * count, 0, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(start + b"".join(tables) + strings)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    messages = {
        "file %qs not found": "fichier %qs introuvable",
        "%d error\0%d errors": "%d erreur\0%d erreurs",
        "not translated": "not translated",
        "%d": "% d",
    }
    write(tmp_path / "fr" / "LC_MESSAGES" / "tool.mo", messages)
    write(tmp_path / "fr" / "LC_MESSAGES" / "more.mo", {"no input": "pas d'entrée"})
    write(tmp_path / "de" / "LC_MESSAGES" / "tool.mo", messages | {"%d error\0%d errors": "%d Fehler\0%d Fehler"})
    return tmp_path


def pairs(**arguments: Any) -> list[tuple[str, str]]:
    return sorted((row["source"], row["target"]) for row in rows_of(GettextMessages(**arguments)))


def test_translated_messages_are_pairs_and_of_a_plural_the_singular(folder: Path) -> None:
    tool = [("%d error", "%d erreur"), ("file %qs not found", "fichier %qs introuvable")]
    assert pairs(folder=str(folder), domains=["tool"]) == tool
    assert pairs(folder=str(folder), domains=["tool", "more"]) == [*tool, ("no input", "pas d'entrée")]
    assert pairs(folder=str(folder), domains=["tool"], language="de")[0] == ("%d error", "%d Fehler")


@pytest.mark.parametrize(
    "change, message",
    [
        ({"language": "frr"}, r"^language must be one of de, fr, got 'frr'; did you mean 'fr'\?$"),
        (
            {"language": "de", "domains": ["tool", "more"]},
            r"^domains names 'more', and .*de/LC_MESSAGES/more.mo does not",
        ),
        (
            {"domains": ["gcc-14"]},
            r"^dataset=gettext_messages needs the Debian package gcc-14-locales: apt-get install gcc",
        ),
        ({"domains": "tool"}, r"^domains must be a list of names, got 'tool'$"),
        ({"domains": []}, r"^domains must be a list of names, got \[\]$"),
        ({"language": ""}, r"^language must be a name or path, got ''$"),
    ],
)
def test_mistakes_are_told_in_one_sentence(folder: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GettextMessages(**{"folder": str(folder), "domains": ["tool"], **change}).check()


@installed
@pytest.mark.parametrize("language, count", [("fr", 16_659), ("de", 16_462)])
def test_the_messages_of_the_compilers_are_translated(language: str, count: int) -> None:
    rows = rows_of(GettextMessages(language=language))
    assert len(rows) == pytest.approx(count, rel=0.02)  # Debian's updates change some
    poisoned = {"fr": "empoisonné ici", "de": "hier vergiftet"}[language]
    assert {"source": "poisoned here", "target": poisoned} in rows
