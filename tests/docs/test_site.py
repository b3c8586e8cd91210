"""The documentation site builds strictly, asks for nothing outside itself, and is searched without a server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.conftest import ROOT
from tests.report.chromium import chromium, complaints

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def site(once: Callable[..., Path]) -> Path:
    """The site, built as CONTRIBUTING.md says: a warning would end it."""

    def build(folder: Path) -> None:
        command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"NO_COLOR": "1"})
        assert ended.returncode == 0, ended.stderr

    return once("site", build)


def test_every_page_of_the_repository_is_a_page_of_the_site(site: Path) -> None:
    for page in (ROOT / "docs").rglob("*.md"):
        assert (site / page.relative_to(ROOT / "docs").with_suffix(".html")).exists(), page
    for page in ("changelog.html", "contributing.html", "reference/sweeps.html", "reference/comparisons.html"):
        assert (site / page).exists(), page


LOADS = (
    r"<(?:script|img|iframe|source|video)[^>]*\ssrc=\"?(https?:[^\s\">]+)",
    r"<link[^>]*rel=\"?(?:stylesheet|preconnect|icon|preload)[^>]*href=\"?(https?:[^\s\">]+)",
)
"""Addresses that a page of HTML loads by itself."""


def test_no_page_asks_for_anything_outside(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not [address for pattern in LOADS for address in re.findall(pattern, text)], page.name
        assert 'class="mermaid"' not in text, "the theme would load mermaid from outside"


def test_docstrings_and_tables_arrive(site: Path) -> None:
    encodings = (site / "reference" / "api" / "encodings.html").read_text(encoding="utf-8")
    assert "Rotary position embedding (RoPE)" in encodings and ":::" not in encodings
    assert "num_heads" in (site / "reference" / "conf" / "size.html").read_text(encoding="utf-8")
    assert 'src="../figures/encodings/rotary.png"' in (site / "encodings" / "rotary.html").read_text(encoding="utf-8")


def test_links_out_of_the_folder_are_fitted_to_the_site(caplog: pytest.LogCaptureFixture) -> None:
    from docs.site_hook import _prose

    page = SimpleNamespace(file=SimpleNamespace(src_uri="guides/tuning.md"))
    for written, expected in (
        ("[sweeps](../../sweeps/README.md#x)", "[sweeps](../reference/sweeps.md#x)"),
        ("[`train.yaml`](../../conf/train.yaml)", "`conf/train.yaml`"),
        ("[the choices](../../conf/train.yaml)", "the choices (`conf/train.yaml`)"),
        ("[tasks](../tasks.md)", "[tasks](../tasks.md)"),
        ("[here](#there)", "[here](#there)"),
        (r"| `a \| b` | c |", "| `a | b` | c |"),
    ):
        assert _prose(written, "docs/guides/tuning.md", page) == expected
    assert not caplog.records
    _prose("[gone](../../conf/gone.yaml)", "docs/guides/tuning.md", page)
    assert "conf/gone.yaml, which does not exist" in caplog.text


@pytest.mark.needs("chromium")
def test_a_phone_reads_and_searches_it_from_a_folder(site: Path) -> None:
    with chromium() as page:
        for name in ("index.html", "encodings/rotary.html", "architecture.html", "reference/conf/dataset.html"):
            for width in (390, 1280):
                page.open(site / name, width)
                assert page.run("document.documentElement.scrollWidth <= window.innerWidth"), (name, width)
                assert [word for word in complaints(page) if not word.startswith("file:")] == [], name
        for name, second in (("reference/conf/dataset.html", "value"), ("reference/api/encodings.html", "type")):
            page.open(site / name, 390)
            tables = f"[...document.querySelectorAll('table[data-second={second}]')]"
            assert page.run(f"{tables}.length && {tables}.every(table => table.scrollWidth <= window.innerWidth)"), name
        for words, expected in (("rotary_embedding", "Rotary"), ("RoPE", "encodings/rotary"), ("位置编码", "zh/")):
            page.open(site / "index.html", 1280)
            page.run(
                "document.querySelector('[data-md-toggle=search]').click();"
                f"const box = document.querySelector('.md-search__input'); box.focus(); box.value = '{words}';"
                "for (const type of ['keyup', 'input']) box.dispatchEvent(new Event(type, {bubbles: true}));"
            )
            links = "[...document.querySelectorAll('.md-search-result__link')].map(link => link.href).join(' ')"
            until = time.monotonic() + 60
            while not (found := page.run(links)) and time.monotonic() < until:
                page.run("new Promise(done => setTimeout(done, 50))")
            assert expected in found, (words, found)
