"""Evaluates trained runs: `python -m src.evaluate run=outputs/RUN`, or an encoding without a run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from src.command import CONF, command


def main(config: dict[str, Any], directory: Path, overrides: list[str]) -> None:
    """Evaluates, prints the figures and says where the report is.

    Args:
        config, directory, overrides: as `command` gives them.
    """
    runs = _runs(config)
    if not runs and config.get("encoding") is None:
        raise ValueError("run must name a run directory or one of its checkpoints: run=outputs/RUN")
    for key, least in (("tokens", 2), ("stride", 1)):
        if config[key] is not None and (type(config[key]) is not int or config[key] < least):
            raise ValueError(f"{key} must be an integer of at least {least} or null, got {config[key]}")
    if config["split"] not in ("test", "validation"):
        raise ValueError(f"split must be test or validation, got {config['split']}")
    if type(config["seed"]) is not int or not 0 <= config["seed"] < 2**32:
        raise ValueError(f"seed must be an integer from 0 to 4294967295, got {config['seed']}")

    if runs:
        from poslab.evaluation.command import evaluate_runs

        swap_choice = next((o.partition("=")[2] for o in overrides if o.startswith("encoding@swap=")), None)
        evaluate_runs(runs, config, swap_choice)
    else:
        from poslab.evaluation.command import diagnose_encoding

        diagnose_encoding(config)


def _runs(config: dict[str, Any]) -> list[str]:
    """The runs that are asked for; ValueError where `run` and `runs` are both given, or one does not exist."""
    from poslab.run_directory import RunDirectory

    if config["run"] is not None and config["runs"] is not None:
        raise ValueError("runs takes the place of run: give one of the two")
    runs = [config["run"]] if config["run"] is not None else config["runs"] or []
    for run in runs:
        RunDirectory.of(run)
    return [str(run) for run in runs]


def with_training_length(arguments: list[str]) -> list[str]:
    """The command line with the training length of the run, by which a swapped encoding may scale."""
    from poslab.run_directory import RunDirectory

    given = dict(argument.partition("=")[::2] for argument in arguments if "=" in argument)
    run = given.get("run") or given.get("runs", "").strip("[]").split(",")[0]
    if not run or "dataset.sequence_length" in given:
        return arguments
    try:
        config = RunDirectory.of(run).config()
    except ValueError:
        return arguments  # told when the command checks its runs
    return [*arguments, f"dataset.sequence_length={config['dataset']['sequence_length']}"]


def in_full(arguments: list[str]) -> list[str]:
    """The command line with keys of a swap's scaling written out: `swap.factor=4` as `swap.scaling.factor=4`."""
    import yaml

    choice = next((a.partition("=")[2] for a in arguments if a.startswith("encoding@swap=")), None)
    file = CONF / "encoding" / f"{choice}.yaml"
    if choice is None or not file.is_file():
        return arguments
    node = yaml.safe_load(file.read_text(encoding="utf-8"))
    scaling = node.get("scaling") or {}

    def written_out(argument: str) -> str:
        key = argument.partition("=")[0].removeprefix("swap.")
        inner = argument.startswith("swap.") and key not in node and key in scaling
        return f"swap.scaling.{argument.removeprefix('swap.')}" if inner else argument

    return [written_out(argument) for argument in arguments]


if __name__ == "__main__":
    sys.argv[1:] = with_training_length(in_full(sys.argv[1:]))
    command("evaluate", main)
