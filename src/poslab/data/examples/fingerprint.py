"""The identity of examples that are made from files."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path


def fingerprint(paths: Iterable[Path], *settings: object) -> str:
    """A string that changes when the contents of the files do, or a setting.

    Args:
        paths: in the order in which they are read; their names do not count.
        settings: values that JSON takes, those that decide which examples come out.
    """
    contents = hashlib.sha256(json.dumps(settings).encode())
    for path in paths:
        with path.open("rb") as file:
            contents.update(hashlib.file_digest(file, "sha256").digest())
    return contents.hexdigest()
