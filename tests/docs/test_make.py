"""`python docs/make.py` makes the pages that are not written by hand, each of what it is made of."""

import re
import subprocess
import sys

import pytest

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
