"""URLs of databases: their form, their drivers, and their passwords, which are never shown."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Protocol

DRIVERS = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg", "mysql": "mysql+pymysql"}
"""Default drivers, for databases named without one."""

DATABASE = "study.db"
"""File of SQLite in the directory of a sweep or a comparison that names no database."""

MAX_TRIALS = 10_000
"""Most trials of a study, retries aside: each look at it reads all of them."""


class DamagedStorageError(ValueError):
    """Contents of a storage that Poslab does not write; `naming_storage` names the storage before the message."""


class Stored(Protocol):
    """A sweep or a comparison."""

    @property
    def storage(self) -> str | None:
        """URL of the database; None means the directory."""

    @property
    def name(self) -> str:
        """Name of its study in the database."""

    @property
    def output(self) -> str:
        """The directory."""

    @property
    def lost_after(self) -> int:
        """Seconds of silence after which a trial of another machine counts as lost."""


def mistake_in_storage(storage: str) -> str:
    """Return what is wrong with the URL of a database; "" if nothing is."""
    if re.match(r"(?!grpc)[\w+]+://", storage):
        return ""
    return (
        "storage must be the URL of a database (SQLite, PostgreSQL or MySQL), such as postgresql://USER@HOST/NAME; "
        f"journal files and gRPC proxies are not supported, got {re.sub(':.*(?=@)', ':***', storage)!r}"
    )


def url_of(stored: Stored) -> str:
    """Return the URL of a database with its driver; the default is a file of SQLite."""
    url = stored.storage or f"sqlite:///{Path(stored.output).absolute() / DATABASE}"
    scheme, colon, rest = url.partition(":")
    return f"{DRIVERS.get(scheme, scheme)}{colon}{rest}"


def without_password(text: str) -> str:
    """Return a text with the passwords of the URLs in it hidden, for printing and keeping."""
    hidden = re.sub(r"(\w://[^\s:@/]*:)\S*(?=@)", r"\1***", text)
    return re.sub(r"(?i)([?&]\w*pass\w*=)[^\s&'\"]*", r"\1***", hidden)
