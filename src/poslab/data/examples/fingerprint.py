"""The identity of examples that are made from files."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path


def fingerprint(paths: Iterable[Path], *settings: object) -> str:
    """Return a string that changes with the contents of the files and with the settings.

    Args:
        paths: in the order in which they are read; their names do not count.
        settings: values of JSON that decide which examples come out.
    """
    contents = hashlib.sha256(json.dumps(settings).encode())
    for path in paths:
        with path.open("rb") as file:
            contents.update(hashlib.file_digest(file, "sha256").digest())
    return contents.hexdigest()
