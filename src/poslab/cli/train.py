"""Train a model under a positional encoding: `python -m src.train encoding=rotary`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig

from poslab.cli.help import train_help
from poslab.cli.hydra_command import choices_of_configuration, command
from poslab.cli.run_names import named_directory
from poslab.configuration.of_pretrained import is_pretrained


def main(config: dict[str, Any], directory: Path, overrides: list[str]) -> dict[str, Any]:
    """Check, then train, and return the run with its first metric. Slow imports come after all quick checks."""
    if is_pretrained(config.get("model")):  # as typed: a run that is resumed downloads nothing
        from poslab.configuration.build import full_keys
        from poslab.data.composed import with_rate
        from poslab.pretrained.directory import download

        with full_keys("model", config):
            download(config["model"].get("path"))
        config = with_rate(config)

    from poslab.training.resume import plan

    given = [override for override in overrides if not override.startswith("resume=")]
    is_named = any(
        word.lstrip("+").startswith(("hydra.run.", "hydra.sweep.")) for word in HydraConfig.get().overrides.hydra
    )
    planned = plan(config, named_directory(directory, given), given, is_named)._replace(
        choices=[*choices_of_configuration("train"), *given]
    )

    from poslab.training.checking import check

    recipe = check(planned.config, planned.checkpoint)
    if planned.logs_to is not None and not planned.run.is_finished:
        reached = [f"record with logger {name}" for name in planned.logs_to]
        planned.run.require_trust([*recipe.source.reaches(), *reached])

    from poslab.training.fit import train

    run, task = train(planned, recipe), recipe.task
    return {
        "run": str(run.path),
        "metric": task.first_metric(),
        "decimals": 3 if task.first_metric() in task.open_ended else 2,
        "aggregate_lengths": task.aggregate_lengths,
    }


def show(directory: Path) -> None:
    """Print and write the table of several runs."""
    from poslab.cli.jobs_table import show_jobs

    show_jobs(directory)


def run() -> None:
    """Run the command, and exit."""
    command("train", main, train_help, after_jobs=show)
