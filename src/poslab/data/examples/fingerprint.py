"""The identity of examples that are made from files."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path


def fingerprint(paths: Iterable[Path], *settings: object) -> str:
    """Return a string that changes with the contents and the order of files, not their names, and with the settings."""
    contents = hashlib.sha256(json.dumps(settings).encode())
    for path in paths:
        with path.open("rb") as file:
            contents.update(hashlib.file_digest(file, "sha256").digest())
    return contents.hexdigest()
