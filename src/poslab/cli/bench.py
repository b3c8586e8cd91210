"""Benchmarks of the field (`python -m src.bench run=outputs/RUN tasks=[ruler] lengths=[512]`), for runs or a pretrained
model under several encodings.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import fields
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from poslab.cli.evaluate import pretrained_choices, words_of_model
from poslab.cli.help import bench_help
from poslab.cli.hydra_command import check_figure_width, command, quick_imports, runs_of
from poslab.configuration.command_line import key_of, pip_install, poslab_command
from poslab.io.files import NotInstalledError


def main(config: dict[str, Any], directory: Path, overrides: list[str], of_model: Sequence[str] = ()) -> None:
    """Measure models on tasks, write and print the results; arguments as of `command`.

    `of_model` are words of `python -m src.train` that choose a pretrained model; none for runs.
    """
    check_figure_width(config["figure"]["width"])
    if config["output"] is None and directory.resolve() != Path.cwd():
        config["output"] = str(directory)  # several jobs have a directory each
    runs = _runs(config, of_model, overrides)
    prepare_harness(config, "bench", ("tasks", "lengths", "scoring"))
    with quick_imports():
        from poslab.experiments.bench.command import run_bench
        from poslab.experiments.bench.models import pretrained_subjects, run_subjects
        from poslab.experiments.bench.plan import BenchRequest

        request = BenchRequest(
            **{key.name: config[key.name] for key in fields(BenchRequest) if key.name in config},
            typed=poslab_command("bench", *of_model, *overrides),
            figure_width=config["figure"]["width"],
        )
    if of_model:
        choices = pretrained_choices(config, of_model)
        subjects: Sequence[Any] = pretrained_subjects(choices, config["dtype"], config["device"], config["seed"])
    else:
        subjects = run_subjects(runs, config["device"], config["trust"])
    run_bench(subjects, request)


def prepare_harness(config: dict[str, Any], name: str, lists: Sequence[str]) -> None:
    """Require the harness for a command, hide its bars, and make single values of some keys lists."""
    for key in lists:
        if not isinstance(config[key], list | None):
            config[key] = [config[key]]
    if find_spec("lm_eval") is None:
        raise NotInstalledError(f"{name} needs lm_eval: {pip_install('lm-eval')}")
    os.environ.setdefault("TQDM_DISABLE", "1")  # before the harness is imported


def _runs(config: dict[str, Any], of_model: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """Return the runs to measure; ValueError if there are none, or a model too."""
    runs = [run for run in runs_of(config) if run]
    if of_model or runs:
        for key in ("encodings", "dtype") if runs else ():
            if key in map(key_of, overrides):
                raise ValueError(f"{key} applies to a pretrained model: it needs model.path= or pretrained=")
        return runs
    raise ValueError("run must name a run directory, as in run=outputs/RUN, or model.path a pretrained model")


def run() -> None:
    """Run the command, and exit."""
    of_model = words_of_model(sys.argv[1:], "bench")
    sys.argv[1:] = [word for word in sys.argv[1:] if word not in of_model]
    command("bench", partial(main, of_model=of_model), bench_help)
