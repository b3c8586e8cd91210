"""Storages of sweeps and comparisons: a database, and an output directory, which belongs to one of them."""

from __future__ import annotations

import contextlib
import sqlite3
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path

import optuna
from optuna.exceptions import ExperimentalWarning, OptunaError, StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy import event
from sqlalchemy.exc import IntegrityError, ProgrammingError, SQLAlchemyError

from poslab.configuration.command_line import pip_install
from poslab.experiments.jobs import TABLES
from poslab.experiments.storage_url import MAX_TRIALS, DamagedStorageError, Stored, url_of, without_password
from poslab.io.files import read_text, refuse_links, write_atomically
from poslab.runs.errors import RunStoppedError

STORAGE_ERRORS = (StorageInternalError, SQLAlchemyError)
"""Errors of a storage that cannot be reached, perhaps for a moment."""

CONNECT_TIMEOUT_S = 10  # longest time to connect to a server
SQLITE_TIMEOUT_S = 60  # longest time that a process waits for another one that writes
MAX_ROWS = 1_000_000  # most rows of a table, other than the table of trials, in a file of SQLite

MAX_FILE_BYTES, MAX_VALUE_BYTES = 500_000_000, 10_000_000
"""Most bytes of a file of SQLite and of a value in it; 1,000 trials need about 5,000,000."""

OWNER = ".study"  # file with the study to which a directory belongs
STEPS_TO_MAKE_TABLES = 30  # attempts to open a new database: more than the tables and rows that it gets


def quieten_optuna() -> None:
    """Silence Optuna's log of studies and trials, and its warnings about experimental features."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=ExperimentalWarning)


def open_storage(stored: Stored) -> RDBStorage:
    """Open a database.

    ValueError if it cannot be reached, its driver is not installed, or a file of SQLite is damaged or too large.
    """
    url = url_of(stored)
    quieten_optuna()
    try:
        for left in reversed(range(STEPS_TO_MAKE_TABLES)):
            try:
                return _database(url)
            except SQLAlchemyError as error:
                # Optuna looks for each table and then makes it, which fails if another process makes it in between.
                # The text depends on PostgreSQL's language; the type, ProgrammingError, does not.
                is_made = isinstance(error, IntegrityError | ProgrammingError) or "already exists" in str(error)
                if not is_made or not left:
                    raise
        raise AssertionError
    except ImportError as error:
        raise ValueError(f"storage={without_password(url)} needs a driver: {pip_install('databases')}") from error
    except DamagedStorageError as error:
        raise ValueError(f"storage={without_password(url)} {error}") from error
    except ValueError as error:  # whose text may contain a part of the password
        raise ValueError(
            f"storage={without_password(url)} is not the URL of a database; a special character is written as %40 for @"
        ) from error
    except (OSError, RuntimeError, OptunaError, SQLAlchemyError) as error:
        raise ValueError(f"storage={without_password(url)} cannot be reached: {first_line(error)}") from error


@contextlib.contextmanager
def naming_storage(stored: Stored, is_database: bool = True) -> Iterator[None]:
    """Turn an outage of the storage into a RunStoppedError that names it, and damage into a ValueError that does."""
    name = f"storage={without_password(url_of(stored))}" if is_database else f"output={stored.output}"
    try:
        yield
    except STORAGE_ERRORS as error:
        raise RunStoppedError(f"{name} cannot be used any more: {first_line(error)}") from error
    except DamagedStorageError as error:
        raise ValueError(f"{name} {error}") from error
    except Exception as error:  # values of wrong types make Optuna raise anything while it reads a storage
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        if not any(frame.f_globals.get("__name__", "").startswith("optuna.storages.") for frame in frames):
            raise
        raise ValueError(f"{name} is damaged: {repr(error)[:300]}") from error


def _database(url: str) -> RDBStorage:
    file, is_sqlite = url.partition("///")[2].partition("?")[0], url.startswith("sqlite")
    if is_sqlite and file and not Path(file).parent.is_dir():
        raise OSError(f"there is no folder {Path(file).parent}")
    if is_sqlite and Path(file).is_file():
        _check_file(Path(file))
    seconds = {"timeout": SQLITE_TIMEOUT_S} if is_sqlite else {"connect_timeout": CONNECT_TIMEOUT_S}
    storage = RDBStorage(url, engine_kwargs={"connect_args": seconds, "pool_pre_ping": not is_sqlite})
    if is_sqlite:
        # Optuna relies on SELECT ... FOR UPDATE, which SQLite lacks: without a lock from the beginning of each
        # transaction, two processes could take the same trial.
        event.listen(storage.engine, "connect", _prepare)
        event.listen(storage.engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
        storage.engine.dispose()
    TABLES.create_all(storage.engine)
    return storage


def first_line(error: Exception) -> str:
    """Return the first line of a storage error, or of its cause, which Optuna wraps in an error that guesses."""
    if isinstance(error, StorageInternalError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _prepare(connection: sqlite3.Connection, _: object = None) -> None:
    connection.isolation_level = None
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)


def _check_file(file: Path) -> None:
    """Raise DamagedStorageError for a file of SQLite that is damaged, or could take for ever to read."""
    if (size := file.stat().st_size) > MAX_FILE_BYTES:
        raise DamagedStorageError(f"must have at most {MAX_FILE_BYTES:,} bytes, and has {size:,}")
    with contextlib.closing(sqlite3.connect(file, timeout=SQLITE_TIMEOUT_S)) as connection:
        _prepare(connection)
        try:
            connection.execute("PRAGMA ignore_check_constraints = ON")
            (said,) = connection.execute("PRAGMA quick_check(1)").fetchone()  # finds pages that are read in circles
            if said != "ok":
                raise DamagedStorageError(f"is damaged: {' '.join(said.split())}")
            computed = connection.execute(
                "SELECT name FROM sqlite_master WHERE type NOT IN ('table', 'index') OR sql LIKE 'CREATE VIRTUAL%' OR "
                "(type = 'table' AND EXISTS (SELECT 1 FROM pragma_table_xinfo(sqlite_master.name) WHERE hidden > 0))"
            ).fetchone()
            if computed:
                raise DamagedStorageError(f"must contain only plain tables, and {computed[0]} is computed when read")
            for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                quoted, most = table.replace('"', '""'), 2 * MAX_TRIALS if table == "trials" else MAX_ROWS
                (rows,) = connection.execute(f'SELECT count(*) FROM "{quoted}"').fetchone()
                if rows > most:
                    raise DamagedStorageError(f"must have at most {most:,} rows of {table}, and has {rows:,}")
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise DamagedStorageError(f"cannot be reached: {first_line(error)}") from error


def open_output(output: Path) -> None:
    """Make the directory of a sweep or a comparison.

    ValueError if the directory is a run directory, contains links, or cannot be made.
    """
    if (output / "config.yaml").exists():
        raise ValueError(f"output must be a separate directory, not a run directory, got {output}")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"output={output} cannot be made: {error.strerror}") from error
    refuse_links(output.absolute())


def claim(output: Path, study: str, runs: str) -> None:
    """Claim a directory, with its folder of runs, for a study; raise ValueError if it belongs to another."""
    owner = output / OWNER
    claimed_by = read_text(owner) if owner.exists() else "" if any((output / runs).glob("*")) else study
    if claimed_by != study:
        raise ValueError(f"output={output} contains the {runs} of another study: give this one its own directory")
    write_atomically(owner, study)
