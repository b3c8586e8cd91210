"""The page of a report and the files of its figures."""

from __future__ import annotations

import base64
import re
import struct
from html.parser import HTMLParser
from itertools import pairwise

import pandas as pd
import pytest

from poslab.report.figures import LARGEST_SVG, Section, Table, style, write_figures, write_report
from tests.report.sample_report import NASTY, curve, sections, write_sample


class Parsed(HTMLParser):
    """The tags of a page with their attributes, and all text outside of scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.cells: list[str] = []
        self._inside = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self._inside = tag
        self.tags.append((tag, dict(attrs)))
        if tag == "td":
            self.cells.append("")

    def handle_data(self, data):
        if self._inside not in ("script", "style"):
            self.text += data
        if self._inside == "td":
            self.cells[-1] += data

    def handle_endtag(self, tag):
        self._inside = ""

    def all(self, *names: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag in names]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return write_sample(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def parsed(page):
    return Parsed(page.read_text(encoding="utf-8"))


def test_page_holds_all_that_it_needs(page, parsed):
    addresses = [attributes[name] for _, attributes in parsed.tags for name in ("src", "href") if name in attributes]
    assert [address for address in addresses if not address.startswith(("data:", "#"))] == []
    assert parsed.all("link") == [{"rel": "icon", "href": "data:,"}]
    assert "url(" not in page.read_text() and "@import" not in page.read_text()


def test_text_is_shown_and_never_becomes_markup(parsed):
    assert parsed.all("b") == [] and len(parsed.all("script")) == 1
    shown = {f"Report {NASTY}", f"Reach {NASTY}", f"First {NASTY}", f"Curve {NASTY}", NASTY}
    assert [text for text in shown if text not in parsed.text] == []
    assert {"alt": f"Curve {NASTY}. A flat line is good."}.items() <= parsed.all("img")[0].items()


def test_contents_lead_to_every_section_and_figure(parsed):
    ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert [link["href"].removeprefix("#") for link in parsed.all("a")] == [
        *("section-1", "figure-losses"),
        *("section-2", "figure-curve", "figure-wide", "figure-heat_map"),
        *("section-3", "figure-long"),
    ]
    assert {link["href"].removeprefix("#") for link in parsed.all("a")} <= set(ids)


def test_a_lead_is_before_the_facts_and_the_contents(tmp_path):
    lead = Section("Conclusion", "Rotary is best.", [curve()])
    write_report(tmp_path / "report.html", "title", {"run": "outputs/a"}, sections()[:1], lead=lead)
    text = Parsed((tmp_path / "report.html").read_text(encoding="utf-8")).text
    positions = [text.index(word) for word in ("Rotary is best.", "outputs/a", "Contents", "Reach")]
    assert positions == sorted(positions)


def test_headings_are_in_order_and_figures_have_a_text(parsed):
    levels = [int(tag[1]) for tag, _ in parsed.tags if tag in ("h1", "h2", "h3")]
    assert levels == [1, 2, 2, 3, 2, 3, 3, 3, 2, 3]
    assert parsed.all("html") == [{"lang": "en"}]
    assert [image["alt"] for image in parsed.all("img")][1:] == ["Heat map. Bright is found.", ""]


def test_missing_values_are_dashes_and_numbers_are_told_with_all_digits(parsed):
    losses = parsed.cells[2:14][1::2]
    assert losses == ["10.500", "9.250", "–", "2.125", "∞", "−100.000"]
    assert parsed.cells[2:14][10] == "–"
    values = [cell.get("data-value") for cell in parsed.all("td")][2:14][1::2]
    assert values == ["10.5", "9.25", None, "2.125", "Infinity", "-100.0"]


def test_index_with_a_name_is_a_column_of_page_and_file(tmp_path, parsed):
    assert "layer" in parsed.text
    write_figures(tmp_path, sections())
    assert pd.read_csv(tmp_path / "wide.csv").columns[0] == "layer"


def test_picture_of_very_many_points_is_not_a_drawing(tmp_path):
    kinds = {}
    for points in (10, 20_000):
        write_report(tmp_path / "report.html", "Report", {}, [Section("Points", "", [curve(points)])])
        source = Parsed((tmp_path / "report.html").read_text()).all("img")[0]["src"]
        kinds[points] = source.split(";")[0]
        assert len(base64.b64decode(source.split(",")[1])) < LARGEST_SVG
    assert kinds == {10: "data:image/svg+xml", 20_000: "data:image/png"}


@pytest.mark.slow
def test_files_of_figures_hold_them(tmp_path):
    write_figures(tmp_path / "new" / "figures", sections())
    files = {path.name: path.read_bytes() for path in (tmp_path / "new" / "figures").iterdir()}
    assert sorted(files) == [
        *("curve.pdf", "curve.png", "curve.svg", "heat_map.pdf", "heat_map.png", "heat_map.svg"),
        *("long.csv", "losses.csv", "wide.csv"),
    ]
    width, height = struct.unpack(">II", files["curve.png"][16:24])
    assert (width, height) == (7 * 300, 4 * 300)
    assert files["losses.csv"].decode().splitlines()[:3] == ["encoding,loss", "rotary,10.5", "ALiBi,9.25"]


def test_a_pdf_has_the_width_of_a_column_and_letters_of_the_same_size(tmp_path):
    sizes = {}
    for width in (None, 3.25):
        write_figures(tmp_path, sections(), width)
        (box,) = set(re.findall(rb"/MediaBox \[ 0 0 ([\d.]+) ([\d.]+) \]", (tmp_path / "curve.pdf").read_bytes()))
        sizes[width] = tuple(map(float, box))
    assert sizes == {None: (7 * 72, 4 * 72), 3.25: (3.25 * 72, 4 * 72)}


def test_lines_that_follow_one_another_differ_in_grey_print_too():
    styles = [style(position) for position in range(28)]
    assert all(item[kind] != other[kind] for item, other in pairwise(styles) for kind in item)
    assert len({tuple(item.values()) for item in styles}) == len(styles)


@pytest.mark.slow
def test_same_figures_give_the_same_bytes(tmp_path):
    """Also when a figure is drawn again, whose layout then moves a little."""
    once = sections()
    for folder, which in (("one", once), ("again", once), ("anew", sections())):
        write_figures(tmp_path / folder, which)
        write_report(tmp_path / folder / "report.html", "Report", {}, which)
    item, *others = ({p.name: p.read_bytes() for p in (tmp_path / f).iterdir()} for f in ("one", "again", "anew"))
    for other in others:
        assert [name for name in item if other[name] != item[name]] == []


def test_failure_leaves_what_was_there_and_no_half_file(tmp_path):
    (tmp_path / "losses.csv").write_text("as it was")
    broken = curve()
    broken.figure.axes[0].set_title(r"$\frac{1}{$")  # no formula: drawing fails
    for write in (
        lambda: write_figures(tmp_path, [*sections()[:1], Section("Broken", "", [broken])]),
        lambda: write_report(tmp_path / "losses.csv", "Report", {}, [Section("Broken", "", [broken])]),
    ):
        with pytest.raises(ValueError, match="frac"):
            write()
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        write_report(tmp_path / "folder", "Report", {}, [])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "losses.csv"]
    assert (tmp_path / "losses.csv").read_text() == "as it was"


def test_names_of_columns_are_words_in_the_page_and_stay_in_the_file(tmp_path):
    frame = pd.DataFrame({"bits_per_byte": [1.5], "model.num_heads": [2], "": [3]})
    result = [Section("S", "", [Table("t", "T", "C", frame)])]
    write_report(tmp_path / "report.html", "Report", {}, result)
    text = Parsed((tmp_path / "report.html").read_text()).text
    assert "bits per byte" in text and "bits_per_byte" not in text and "model.num_heads" in text
    write_figures(tmp_path, result)
    assert (tmp_path / "t.csv").read_text().startswith("bits_per_byte,model.num_heads,")


def test_columns_that_ask_for_it_have_one_number_of_decimals(tmp_path):
    frame = pd.DataFrame({"accuracy": [0, 0], "token_accuracy": [12.5, 0.0], "loss": [0.5, 0.25]})
    table = Table("t", "T", "C", frame, decimals={"accuracy": 1, "token_accuracy": 1})
    write_report(tmp_path / "report.html", "Report", {}, [Section("S", "", [table])])
    cells = Parsed((tmp_path / "report.html").read_text()).cells
    assert cells == ["0.0", "12.5", "0.5000", "0.0", "0.0", "0.2500"]
