"""The memory that can be had is no more than there is."""

from pathlib import Path

import psutil
import pytest

from poslab.data import text_files


@pytest.mark.skipif(not text_files.MEMINFO.exists(), reason="only Linux says it")
def test_the_memory_that_can_be_had_is_that_of_the_system_or_of_the_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    available = text_files.available_memory()
    assert available is not None and 0 < available <= psutil.virtual_memory().total
    monkeypatch.setattr(text_files, "CONTAINER_LIMIT", tmp_path / "memory.max")
    (tmp_path / "memory.max").write_text("1000000\n")
    assert text_files.available_memory() == 1_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert (text_files.available_memory() or 0) > 1_000_000


def test_text_that_memory_does_not_hold_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.txt").write_text("word " * 10_000)
    monkeypatch.setattr(text_files, "available_memory", lambda: 300_000)
    with pytest.raises(ValueError, match=r"^files must fit in memory"):
        text_files.TextFiles(files=str(tmp_path / "x.txt")).documents()
