"""Manual pages and their translations, paragraph by paragraph."""

import gzip
from pathlib import Path

import pytest

from poslab.data.examples.splitting import split_examples
from poslab.data.offline.manual_pages import ManualPages, aligned
from tests.data.examples.contract import rows_of

installed = pytest.mark.needs("/usr/share/man/man2/read.2.gz", "/usr/share/man/fr/man2/read.2.gz")

ENGLISH = """.TH x 2 2024 "Linux man-pages 6.9"
.SH NAME
x \\- do nothing
.SH DESCRIPTION
.BR x ()
does nothing.
.TP
.B EIO
It failed.
"""
FRENCH = """.TH x 2 2024 "Pages du manuel de Linux"
.SH NOM
x \\- ne rien faire
.SH DESCRIPTION
\\fBx\\fP() ne fait rien.
.TP\x20
\\fBEIO\\fP
Échec.
"""
TRANSLATORS = """.PP
.SH TRADUCTION
Traduit par quelqu'un.
"""
PAIRS = [
    ("NAME", "NOM"),
    ("x - do nothing", "x - ne rien faire"),
    ("x() does nothing.", "x() ne fait rien."),
    ("It failed.", "Échec."),
]


def write(folder: Path, pages: dict[str, str]) -> str:
    for name, text in pages.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(gzip.compress(text.encode()))
    return str(folder)


def test_paragraphs_correspond_and_those_that_are_not_translated_are_left_out() -> None:
    assert aligned(ENGLISH, FRENCH) == PAIRS


def test_a_section_on_the_translators_does_not_stand_against_a_page() -> None:
    assert aligned(ENGLISH, FRENCH + TRANSLATORS) == PAIRS


@pytest.mark.parametrize(
    "change", [(".SH NOM\n", ""), (".TP\x20\n", ".P\n"), ("Échec.", "Échec.\n.P\nDe plus."), (".TH", ".Dd x\n.TH")]
)
def test_a_page_whose_macros_differ_is_left_out_whole(change: tuple[str, str]) -> None:
    assert aligned(ENGLISH, FRENCH.replace(*change)) == []


def test_pages_of_other_projects_and_links_are_left_out(tmp_path: Path) -> None:
    other = ENGLISH.replace("Linux man-pages", "Another project")
    pages = {"man2/x.2.gz": ENGLISH, "man2/alone.2.gz": ENGLISH, "man8/y.8.gz": other}
    folder = write(tmp_path, pages | {"fr/man2/x.2.gz": FRENCH, "fr/man2/z.2.gz": FRENCH, "fr/man8/y.8.gz": FRENCH})
    (tmp_path / "man2" / "z.2.gz").symlink_to("x.2.gz")
    rows = rows_of(ManualPages(folder=folder))
    assert [(row["source"], row["target"]) for row in rows] == PAIRS
    assert {row["document"] for row in rows} == {"man2/x.2"}
    before = ManualPages(folder=folder).identity
    write(tmp_path, {"fr/man2/x.2.gz": FRENCH + "\n"})
    assert ManualPages(folder=folder).identity != before


def test_a_language_that_is_not_installed_is_told_with_those_that_are(tmp_path: Path) -> None:
    folder = write(tmp_path, {"man2/x.2.gz": ENGLISH, "fr/man2/x.2.gz": FRENCH, "de/man2/x.2.gz": FRENCH})
    with pytest.raises(ValueError) as error:
        ManualPages(folder=folder, language="fra").check()
    assert str(error.value) == (
        "dataset=manual_pages needs Debian's packages manpages manpages-dev manpages-fra manpages-fra-dev or one of the"
        " languages de, fr; did you mean 'fr'?: apt-get install manpages manpages-dev manpages-fra manpages-fra-dev"
    )
    with pytest.raises(ValueError, match=r"^dataset=manual_pages needs Debian's packages manpages .*-fr-dev: apt-get"):
        ManualPages(folder=str(tmp_path / "nowhere")).check()


@pytest.mark.slow
@installed
def test_the_pages_of_debian_align_and_each_is_in_one_split() -> None:
    source = ManualPages()
    rows = rows_of(source)
    assert len(source.pages) > 1000
    assert len({row["document"] for row in rows}) > 0.98 * len(source.pages)
    assert len({(row["source"], row["target"]) for row in rows}) > 20_000
    assert not any("\\f" in row[column] for row in rows for column in ("source", "target"))
    pairs = {row["source"]: row["target"] for row in rows if row["document"] == "man2/read.2"}
    assert pairs["read - read from a file descriptor"] == "read - Lire depuis un descripteur de fichier"
    splits = split_examples(source)
    homes = {name: set(dataset["document"][:]) for name, dataset in splits.items()}
    assert not homes["train"] & (homes["validation"] | homes["test"]) and not homes["validation"] & homes["test"]
    count = sum(map(len, splits.values()))
    assert len(splits["test"]) / count == pytest.approx(0.1, abs=0.01)
