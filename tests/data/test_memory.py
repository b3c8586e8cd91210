"""The memory that can be had is no more than there is."""

from pathlib import Path

import psutil
import pytest

from poslab.data import memory


@pytest.mark.skipif(not memory.MEMINFO.exists(), reason="only Linux says it")
def test_the_memory_that_can_be_had_is_that_of_the_system_or_of_the_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    available = memory.available_memory()
    assert available is not None and 0 < available <= psutil.virtual_memory().total
    monkeypatch.setattr(memory, "CONTAINER_LIMIT", tmp_path / "memory.max")
    (tmp_path / "memory.max").write_text("1000000\n")
    assert memory.available_memory() == 1_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert (memory.available_memory() or 0) > 1_000_000
