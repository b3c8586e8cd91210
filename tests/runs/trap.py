"""Code that hides in a pickle."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return open, (str(self.file), "w")
