"""Evaluate trained runs (`python -m src.evaluate run=outputs/RUN`), or an encoding without a run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from poslab.commands.help import evaluate_help
from poslab.commands.hydra_command import command
from poslab.commands.named_runs import named_runs
from poslab.evaluation.settings import Request


def main(config: dict[str, Any], directory: Path, overrides: list[str]) -> None:
    """Evaluate, print the metrics and say where the report is.

    Args:
        config, directory, overrides: as `command` gives them.
    """
    runs = _runs(config)
    _check_choices(config, runs, overrides)
    of_job = None if directory.resolve() == Path.cwd() else directory  # several jobs have a directory each
    request = Request(
        **{name: config[name] for name in ("parts", "lengths", "stride", "text", "seed", "split", "tokens", "device")},
        output=of_job if config["output"] is None else str(config["output"]),
        trust=config["trust"],
        typed=overrides,
    )
    if config["output"] is not None:
        _check_output(Path(str(config["output"])))

    from poslab.evaluation.command import diagnose_encoding, evaluate_runs

    if runs:
        swap_choice = next((o.partition("=")[2] for o in reversed(overrides) if o.startswith("encoding@swap=")), None)
        swaps = [] if swap_choice is None else [_swap(run, overrides) for run in runs]
        evaluate_runs(runs, request, swaps, swap_choice)
    else:
        diagnose_encoding(config, request)


def _runs(config: dict[str, Any]) -> list[str]:
    """Return the runs to evaluate; ValueError if `run` and `runs` are both given, or one does not exist."""
    from poslab.runs.directory import RunDirectory

    if config["run"] is not None and config["runs"] is not None:
        raise ValueError("runs takes the place of run: give one of the two")
    if config["runs"] is not None:
        runs = named_runs(config["runs"])
    else:
        runs = [] if config["run"] is None else [config["run"]]
        if not all(isinstance(run, str) for run in runs):
            raise ValueError(
                f"run must name a run directory or a checkpoint, as in run=outputs/RUN, got {config['run']}"
            )
    for run in filter(None, runs):
        if "dataset" not in RunDirectory.of(run).config():
            raise ValueError(f"{run} is not a run directory: its config.yaml names no dataset")
    return runs


def _check_choices(config: dict[str, Any], runs: list[str], overrides: list[str]) -> None:
    """Raise ValueError for groups and sizes that do not go with runs, or without one."""
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


def _check_output(output: Path) -> None:
    """Raise ValueError for a directory that an evaluation cannot be written to."""
    if output.is_file() or (output / "config.yaml").exists():
        raise ValueError(f"output must be a directory of its own, neither a file nor a run directory, got {output}")
    there = next(folder for folder in (output, *output.absolute().parents) if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise ValueError(f"output={output} cannot be made: {there} is not a directory that can be written")


def _swap(run: str, overrides: list[str]) -> dict[str, Any]:
    """Compose the encoding that replaces a run's own; the temperature stays unless one is given."""
    from hydra import compose
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    from poslab.configuration.of_pretrained import is_pretrained, without_usual
    from poslab.runs.directory import RunDirectory

    directory = RunDirectory.of(run)
    length = directory.config()["dataset"].get("sequence_length")
    if type(length) is not int:  # a text could be an interpolation, which Hydra would resolve
        raise ValueError(f"{directory.config_file}: dataset.sequence_length must be an integer, got {length}")
    searched = [word for word in HydraConfig.get().overrides.hydra if word.startswith("hydra.searchpath")]
    composed = compose("evaluate", overrides=[f"dataset.sequence_length={length}", *overrides, *searched])
    config = OmegaConf.to_container(composed, resolve=True)
    assert isinstance(config, dict)
    if is_pretrained(directory.config()["model"]):
        config = without_usual(config, OmegaConf.to_container(composed, resolve=False))
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
