"""`python docs/make.py` makes the pages that are not written by hand, each of what it is made of."""

import re
import subprocess
import sys

import pandas as pd
import pytest
from pages import extrapolation

from tests.conftest import ROOT
from tests.docs.guides import PAGES


def test_no_page_shows_its_readers_a_note_to_maintainers():
    shown = {page.name: re.sub("(?s)<!--.*?-->", "", page.read_text(encoding="utf-8")) for page in PAGES}
    assert [name for name, text in shown.items() if "Do not edit" in text] == []


@pytest.mark.slow
def test_a_page_that_does_not_exist_is_refused_by_its_name():
    command = [sys.executable, "docs/make.py", "sweeps"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 2
    assert "got sweeps" in ended.stderr


def test_the_page_on_extrapolation_is_made_of_an_evaluation(tmp_path, monkeypatch):
    row = {"model": "rotary", "protocol": "sliding", "tokens": 900, "pieces": 3, "loss": 1.0, "accuracy": 40.0}
    bits = {"bits_per_byte": 1.5, "bits_low": 1.25, "bits_high": 1.75}
    rows = [row | bits | {"length": length} for length in (16, 32)]
    rows += [row | bits | {"length": 64, "bits_per_byte": 3.0, "loss": 2.0}]
    rows += [row | bits | {"length": length, "model": "t5", "bits_per_byte": 1.4} for length in (16, 32, 64)]
    pd.DataFrame(rows).to_csv(tmp_path / "per_length.csv")
    for name in extrapolation.PICTURES:
        (tmp_path / f"{name}.png").write_bytes(b"a picture")
    monkeypatch.setattr(extrapolation, "DOCS", tmp_path / "docs")
    monkeypatch.setattr(extrapolation, "PAGE", tmp_path / "docs" / "extrapolation.md")
    extrapolation.make(tmp_path)
    text = (tmp_path / "docs" / "extrapolation.md").read_text()
    assert "# Sliding windows" in text and "| rotary | 1.500 (1.25 to 1.75) | 1.500 (1.25 to 1.75) |" in text
    assert "Rotary in sliding windows of 16 tokens, its training length, has 1.500 bits per byte." in text
    assert "t5 1.400 (at 16: 1.400); rotary 3.000 (at 16: 1.500)." in text
    assert len(list((tmp_path / "docs" / extrapolation.FIGURES).iterdir())) == len(extrapolation.PICTURES)
