"""Output directory of a sweep or a comparison, which belongs to one study."""

from __future__ import annotations

from pathlib import Path

from poslab.io.writing import write_atomically


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
    owner = output / ".study"
    found = owner.read_text() if owner.exists() else "" if any((output / runs).glob("*")) else study
    if found != study:
        raise ValueError(f"output={output} holds the {runs} of another study: give this one a directory of its own")
    write_atomically(owner, study)
