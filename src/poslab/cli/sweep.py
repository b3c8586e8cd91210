"""Tunes an encoding, and whatever else a run has: `python -m src.sweep sweep=rotary_base`."""

from __future__ import annotations

import re

from poslab.cli import hydra_command
from poslab.cli.argv import with_config_dir
from poslab.cli.help import questions_help, usage
from poslab.cli.hydra_command import own_keys_and_overrides
from poslab.configuration.command_line import CONF, SWEEPS

OWN_KEYS = {
    "sweep": "one of the sweeps below, or the path of a file like them",
    "preset": "a variant that the file has, such as small",
    "n_trials": "how many trials are finished in the end, the default among them",
    "workers": "processes on this machine, each with its share of cores or GPUs (default: 1)",
    "dry_run": "true prints what is searched, the finished trials and the time to go, and trains nothing",
    "storage": "the URL of a database (default: SQLite in output)",
    "output": "directory of the sweep (default: outputs/sweeps/NAME)",
    "name": "of the study, in a storage that several share (default: the file's, and the preset)",
    "seeds": "runs of each trial, whose mean counts (default: 1)",
    "sampler": "an Optuna sampler: sampler={_target_:optuna.samplers.RandomSampler}",
    "pruner": "an Optuna pruner, or null",
    "objectives": "metrics of metrics.json that are made small or large",
    "lost_after": "seconds of silence after which another machine's trial is lost (default: 60)",
    "trust": "packages besides Poslab that may be named, and whose code is then run: trust=my_package",
}
"""Keys of the command line that speak of the sweep; all others are choices of every trial."""


def main(arguments: list[str]) -> None:
    """Sort the arguments, and run the sweep."""
    from poslab.experiments.sweep import read_sweep, sweep_files

    if hydra_command.HELP & set(arguments):
        first = usage("sweep", "sweep=NAME [KEY=VALUE ...]", "tunes an encoding, or any keys of a run, with Optuna")
        print(questions_help(first, "trial", OWN_KEYS, sweep_files(SWEEPS)))
        return
    given, overrides = own_keys_and_overrides(with_config_dir(arguments), "sweep", OWN_KEYS)
    hydra_command.clear_distributed_env()
    dry_run = given.pop("dry_run", False)
    if not isinstance(dry_run, bool):
        raise ValueError(f"dry_run must be true or false, got {dry_run!r}")
    sweep = read_sweep(SWEEPS, given, overrides)
    hydra_command.print_loading_notice()

    with hydra_command.quick_imports():
        from poslab.experiments.sweep_command import run_sweep

    def with_sweep(mistake: str) -> str:
        """Return a mistake about a key that is searched, and that the encoding lacks, with the sweep that asks."""
        unknown = re.match(r"unknown key '(.+)' here(.*)", mistake)
        if unknown is None or (key := unknown[1]) not in sweep.space:
            return mistake
        group = key.partition(".")[0]
        choice = next((o for o in reversed(sweep.overrides) if o.startswith(f"{group}=")), "its choices")
        return f"{key} is not a key of {choice}, and sweep={sweep.name} searches it{unknown[2]}"

    hydra_command.run_question(sweep, lambda: run_sweep(sweep, CONF, dry_run), OWN_KEYS, with_sweep)


run = hydra_command.without_hydra(main)
