"""Heartbeats of the processes of a run, for the process that has launched them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L

FILES = "heartbeat_*"


class Heartbeats(L.Callback):
    """A callback that touches a file in a directory after each batch; `rank` is that of the process."""

    def __init__(self, directory: Path, rank: int) -> None:
        self._file = directory / FILES.replace("*", str(rank))

    def on_train_batch_end(self, *_: Any, **__: Any) -> None:
        self._file.touch()

    on_validation_batch_end = on_test_batch_end = on_train_batch_end


def newest_heartbeat(directory: Path) -> float:
    """Return the time of the last finished batch of any process, by the clock of the file system; 0 before one."""
    return max((file.stat().st_mtime for file in directory.glob(FILES)), default=0.0)
