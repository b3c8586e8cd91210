"""URLs of databases: their form, their drivers, and their passwords, which are never shown."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from poslab.arguments import Count, Range

DRIVERS = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg", "mysql": "mysql+pymysql"}
"""Default drivers, for databases named without one."""

DATABASE = "study.db"  # file of SQLite in the directory of a sweep or a comparison that names no database
MAX_TRIALS = 10_000  # most trials of a study, retries aside: each look at it reads all of them


class DamagedStorageError(ValueError):
    """Contents of a storage that Poslab does not write; `naming_storage` names the storage before the message."""


@dataclass(frozen=True, kw_only=True)
class Stored:
    """Settings that a sweep and a comparison share, as plain data.

    Args:
        name: of it, of its directory, and of its study in the database.
        question: one sentence.
        output: the directory.
        train: choices of every run, by key, as for `python -m src.train`.
        overrides: choices of every run as typed, which override all others.
        workers: processes on this machine that train, each with its share of cores, or its own GPU.
        storage: URL of the database (SQLite, PostgreSQL or MySQL); None means the directory.
        lost_after: seconds of silence after which a run of another machine counts as lost.
        trust: packages other than Poslab that choices may name.
    """

    name: str
    question: str
    output: str
    train: Mapping[str, Any] = field(default_factory=dict)
    overrides: Sequence[str] = ()
    workers: Count = 1
    storage: str | None = None
    lost_after: Annotated[int, Range(at_least=3)] = 60
    trust: Sequence[str] = ()


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
