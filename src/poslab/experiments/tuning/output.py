"""Output directory of a sweep or a comparison, which belongs to one study."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from omegaconf import OmegaConf
from optuna.storages import RDBStorage

from poslab.experiments.tuning.storage import open_storage
from poslab.experiments.tuning.storage_url import DATABASE, Stored, url_of, without_password
from poslab.io.files import read_text, refuse_links, write_atomically

OWNER = ".study"
"""File with the study to which a directory belongs."""


def opened(stored: Stored, runs: str) -> RDBStorage:
    """Open the storage of a sweep or a comparison, and make its directory.

    Args:
        stored: the sweep or the comparison.
        runs: what its directory holds, for messages.

    Raises:
        ValueError: if the storage cannot be reached, or the directory is a run's, holds links, cannot be made, or
            belongs to a study that the storage lacks.
    """
    output = Path(stored.output)
    if output.is_dir():
        refuse_links(output.absolute())
    is_claimed = (output / OWNER).exists()
    if stored.storage is None:
        if is_claimed and not (output / DATABASE).exists():
            raise _of_another(output, runs)
        make(output)
    storage = open_storage(stored)
    if is_claimed and stored.name not in optuna.get_all_study_names(storage):
        raise _of_another(output, runs)
    make(output)
    return storage


def keep_arguments(stored: Stored, file: str, arguments: Mapping[str, Any]) -> None:
    """Write the arguments of a sweep or a comparison into its directory, without the password of its storage."""
    kept = {**arguments, "storage": without_password(url_of(stored))}
    write_atomically(Path(stored.output) / file, OmegaConf.to_yaml(OmegaConf.create(kept)))


def make(output: Path) -> None:
    """Make the directory; raise ValueError if it is a run directory, or cannot be made."""
    if (output / "config.yaml").exists():
        raise ValueError(f"output must be a directory of its own, not a run directory, got {output}")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"output={output} cannot be made: {error.strerror}") from error


def claim(output: Path, study: str, runs: str) -> None:
    """Claim a directory, with its folder of runs, for a study; raise ValueError if it belongs to another."""
    check_claim(output, study, runs)
    write_atomically(output / OWNER, study)


def check_claim(output: Path, study: str, runs: str) -> None:
    """Raise ValueError if a directory, with its folder of runs, belongs to another study."""
    owner = output / OWNER
    found = read_text(owner) if owner.exists() else "" if any((output / runs).glob("*")) else study
    if found != study:
        raise _of_another(output, runs)


def _of_another(output: Path, runs: str) -> ValueError:
    return ValueError(f"output={output} holds the {runs} of another study: give this one a directory of its own")
