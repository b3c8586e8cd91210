"""An output directory belongs to one study, and what a stranger has put into it ends in one sentence."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from poslab.experiments.storage import claim


def test_a_directory_belongs_to_the_study_that_came_first(tmp_path):
    claim(tmp_path, "one", "trials")
    claim(tmp_path, "one", "trials")
    with pytest.raises(ValueError, match=r"^output=.* contains the trials of"):
        claim(tmp_path, "two", "trials")


@pytest.mark.parametrize(
    ("content", "reason"), [(b"\xff\xfe\x00", "is not UTF-8 text"), (b"a" * 300_000, "must be at most 200,000 bytes")]
)
def test_a_damaged_name_of_a_study_is_one_sentence(content: bytes, reason: str, tmp_path: Path):
    (tmp_path / ".study").write_bytes(content)
    with pytest.raises(ValueError, match=f"^{re.escape(str(tmp_path / '.study'))} {reason}"):
        claim(tmp_path, "one", "trials")


def test_a_folder_in_the_place_of_the_name_is_one_sentence(tmp_path):
    (tmp_path / ".study").mkdir()
    with pytest.raises(ValueError, match=r"\.study cannot be read: it"):
        claim(tmp_path, "one", "trials")
