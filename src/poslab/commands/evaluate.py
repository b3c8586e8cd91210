"""Evaluate trained runs (`python -m src.evaluate run=outputs/RUN`), or an encoding without a run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from poslab.commands.help import evaluate_help
from poslab.commands.hydra_command import command
from poslab.evaluation.parts import names


def main(config: dict[str, Any], directory: Path, overrides: list[str]) -> None:
    """Evaluate, print the metrics and say where the report is.

    Args:
        config, directory, overrides: as `command` gives them.
    """
    runs = _runs(config)
    _check(config, runs, overrides)
    if directory.resolve() != Path.cwd() and config["output"] is None:
        config["output"] = directory  # one of several jobs, each with a directory of its own

    if runs:
        from poslab.evaluation.command import evaluate_runs

        swap_choice = next((o.partition("=")[2] for o in reversed(overrides) if o.startswith("encoding@swap=")), None)
        swaps = [] if swap_choice is None else [_swap(run, overrides) for run in runs]
        evaluate_runs(runs, config, swaps, swap_choice, overrides)
    else:
        from poslab.evaluation.command import diagnose_encoding

        diagnose_encoding(config, overrides)


def _runs(config: dict[str, Any]) -> list[str]:
    """Return the runs to evaluate; ValueError if `run` and `runs` are both given, or one does not exist."""
    from poslab.runs.directory import RunDirectory

    if config["run"] is not None and config["runs"] is not None:
        raise ValueError("runs takes the place of run: give one of the two")
    runs = config["runs"] if config["runs"] is not None else [] if config["run"] is None else [config["run"]]
    if not isinstance(runs, list) or not all(isinstance(run, str) for run in runs):
        key, example = ("runs", "runs=[outputs/A,outputs/B]") if config["run"] is None else ("run", "run=outputs/RUN")
        raise ValueError(f"{key} must name run directories or their checkpoints, as in {example}, got {config[key]}")
    seen: dict[Path, str] = {}
    for run in filter(None, runs):
        if "dataset" not in RunDirectory.of(run).config():
            raise ValueError(f"{run} is not a run directory: its config.yaml names no dataset")
        if (path := Path(run).resolve()) in seen:
            raise ValueError(f"runs must all be different, got {seen[path]} and {run}")
        seen[path] = run
    return runs


def _check(config: dict[str, Any], runs: list[str], overrides: list[str]) -> None:
    """Raise ValueError for a mistake in another key."""
    from poslab.configuration.build import nearest

    if "" in runs or (not runs and config.get("encoding") is None):
        raise ValueError("run must name a run directory or one of its checkpoints: run=outputs/RUN")
    if runs and config.get("encoding") is not None:
        raise ValueError("encoding goes without a run: encoding@swap= takes the place of the encoding of a run")
    if not runs and config.get("swap") is not None:
        raise ValueError("encoding@swap takes the place of a run's encoding: it needs run=")
    if runs and _chooses_temperature(overrides) and config.get("swap") is None:
        raise ValueError("temperature goes with encoding@swap: to change it alone, swap in the run's own encoding")
    of_runs = [override for override in overrides if override.startswith(("model.", "dataset."))]
    if runs and of_runs:
        raise ValueError(f"{of_runs[0].partition('=')[0]} is that of the run, and cannot be another one")
    for key, least in (("tokens", 2), ("stride", 1)):
        if config[key] is not None and (type(config[key]) is not int or config[key] < least):
            raise ValueError(f"{key} must be an integer of at least {least} or null, got {config[key]}")
    lengths = config["lengths"]
    if lengths is not None:
        if not isinstance(lengths, list) or not lengths or any(type(x) is not int or x < 1 for x in lengths):
            raise ValueError(f"lengths must be a list of positive integers, as in lengths=[256,4096], got {lengths}")
        if config["stride"] is not None and config["stride"] > min(lengths):
            raise ValueError(
                f"stride must lie between 1 and the shortest of lengths, {min(lengths)}, got {config['stride']}"
            )
    parts, known = config["parts"], names()
    if parts is not None and (not isinstance(parts, list) or not parts or not set(map(str, parts)) <= set(known)):
        wrong = next((part for part in parts if part not in known), "") if isinstance(parts, list) else ""
        takes = f"a list of some of {', '.join(known)}, or null for all"
        raise ValueError(f"parts must be {takes}, got {parts}{nearest(str(wrong), known)}")
    if config["text"] is not None and (not isinstance(config["text"], str) or not config["text"]):
        raise ValueError(f"text must be a text of at least one character, in quotes, or null, got {config['text']!r}")
    if config["split"] not in ("test", "validation"):
        raise ValueError(f"split must be test or validation, got {config['split']}")
    if type(config["seed"]) is not int or not 0 <= config["seed"] < 2**32:
        raise ValueError(f"seed must be an integer from 0 to 4294967295, got {config['seed']}")
    output = None if config["output"] is None else Path(str(config["output"]))
    if output is not None and (output.is_file() or (output / "config.yaml").exists()):
        raise ValueError(f"output must be a directory of its own, neither a file nor a run directory, got {output}")
    if output is not None:
        there = next(folder for folder in (output, *output.absolute().parents) if folder.exists())
        if not there.is_dir() or not os.access(there, os.W_OK):
            raise ValueError(f"output={output} cannot be made: {there} is not a directory that can be written")


def _swap(run: str, overrides: list[str]) -> dict[str, Any]:
    """Compose the encoding that replaces a run's own; the temperature stays unless one is given."""
    from hydra import compose
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    from poslab.runs.directory import RunDirectory

    directory = RunDirectory.of(run)
    length = directory.config()["dataset"].get("sequence_length")
    if type(length) is not int:  # a text could be an interpolation, which Hydra would resolve
        raise ValueError(f"{directory.config_file}: dataset.sequence_length must be an integer, got {length}")
    searched = [word for word in HydraConfig.get().overrides.hydra if word.startswith("hydra.searchpath")]
    composed = compose("evaluate", overrides=[f"dataset.sequence_length={length}", *overrides, *searched])
    config = OmegaConf.to_container(composed, resolve=True)
    assert isinstance(config, dict)
    swap = {"encoding": config["swap"]}
    if config.get("temperature") is not None or _chooses_temperature(overrides):
        swap["temperature"] = config.get("temperature")
    return swap


def _chooses_temperature(overrides: list[str]) -> bool:
    """Return True if a temperature is given or taken away: `temperature=log_n`, `~temperature`."""
    return any(override.lstrip("~").partition("=")[0] == "temperature" for override in overrides)


def run() -> None:
    """Run the command, and exit."""
    command("evaluate", main, evaluate_help)
