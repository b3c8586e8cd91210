"""Train a model under a positional encoding: `python -m src.train encoding=rotary`."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import OmegaConf

from poslab.cli.argv import parsed
from poslab.cli.help import train_help
from poslab.cli.hydra_command import choices_of_configuration, command, quick_imports
from poslab.configuration.build import full_keys, is_pretrained
from poslab.configuration.labels import IGNORED_KEYS, OF_THE_ENCODING, labels, short_key, shown
from poslab.data.composed import with_rate
from poslab.io.terminal import HarmlessConsole

if TYPE_CHECKING:
    from poslab.runs.directory import RunDirectory
    from poslab.runs.recipe import Recipe

STEPS_PER_VALIDATION = 20  # steps for each validation of a short run, unless `trainer.validations` is typed
NAMED = ("dataset", "encoding")  # groups whose choice is in the name of every run directory

UNNAMED = ("init_from", "trainer", *IGNORED_KEYS)
"""Keys of a single run that are not in its name; nor are those whose value is a path or a list."""

MAX_VALUE = 20  # characters of a value in a name
MAX_SUFFIX = 50  # characters of all keys and values in a name; further keys are left out
JOBS: list[tuple[RunDirectory, Recipe]] = []  # the runs that this process has finished


def main(config: dict[str, Any], directory: Path, overrides: list[str]) -> None:
    """Check, then train. Slow imports come after all quick checks."""
    trainer = config.get("trainer")
    is_typed = any(word.startswith("trainer.validations=") for word in overrides)
    if isinstance(trainer, dict) and trainer.get("validations") == 5 and not is_typed:
        with contextlib.suppress(KeyError, TypeError):  # reported by the check of the trainer
            trainer["validations"] = min(5, max(1, trainer["max_steps"] // STEPS_PER_VALIDATION))
    if is_pretrained(config.get("model")):  # as typed: a run that is resumed downloads nothing
        from poslab.pretrained.directory import download

        with full_keys("model", config):
            download(config["model"].get("path"))
        config = with_rate(config)

    with quick_imports():
        from poslab.training.resume import plan

    given = [override for override in overrides if not override.startswith("resume=")]
    of_hydra = [word.lstrip("+") for word in HydraConfig.get().overrides.hydra]
    is_named = any(word.startswith(("hydra.run.", "hydra.sweep.")) for word in of_hydra)
    planned = plan(config, named_directory(directory, given), given, is_named)._replace(
        choices=[*choices_of_configuration("train"), *given]
    )

    with quick_imports():
        from poslab.training.checking import check

    recipe = check(planned.config, planned.checkpoint)
    if planned.logs_to is not None and not planned.run.is_finished:
        reached = [f"record with logger {name}" for name in planned.logs_to]
        planned.run.require_trust([*recipe.source.reaches(), *reached])

    with quick_imports():
        from poslab.training.fit import train

    JOBS.append((train(planned, recipe), recipe))


def print_jobs() -> None:
    """Print the first metric of the test of all jobs of `-m` by length, with the mean and deviation of equal labels."""
    if len(JOBS) < 2 or any(os.environ.get(name, "0") != "0" for name in ("RANK", "SLURM_PROCID")):
        return
    import pandas as pd

    names = labels([{**recipe.config, "seed": 0} for _, recipe in JOBS])
    rows = [
        (recipe.task.first_metric(), name, int(length), value)
        for (run, recipe), name in zip(JOBS, names, strict=True)
        for tag, value in run.metrics().items()
        for length in re.findall(rf"^test/{recipe.task.first_metric()}@(\d+)$", tag)
    ]
    frame, console = pd.DataFrame(rows, columns=["metric", "encoding", "length", "value"]), HarmlessConsole()
    for metric, of_metric in frame.groupby("metric", sort=False):
        groups = of_metric.groupby(["encoding", "length"], sort=False)["value"]
        deviations = groups.std().map(lambda deviation: "" if pd.isna(deviation) else f" ±{deviation:.3f}")
        table = (groups.mean().map("{:.3f}".format) + deviations).unstack().rename(columns="{:,}".format)
        shown_table = table.rename_axis(index=None, columns="encoding").to_string(na_rep="–", line_width=console.width)
        console.print(f"\n{str(metric).replace('_', ' ')} of the test, by length\n\n{shown_table}", soft_wrap=True)


def named_directory(directory: Path, overrides: Sequence[str]) -> Path:
    """Return the directory of the running job, with what was typed in its name, unless the user has named it.

    One of several jobs has the keys in which they differ: `python_docs_rotary_base-1e5`.
    """
    hydra = HydraConfig.get()
    is_one_of_several = hydra.mode is RunMode.MULTIRUN
    key = "hydra.sweep.subdir" if is_one_of_several else "hydra.run.dir"
    choices = "_".join(str(hydra.runtime.choices.get(group)) for group in NAMED)
    if not directory.name.endswith(choices) or any(word.lstrip("+").startswith(key) for word in hydra.overrides.hydra):
        return directory
    typed = parsed(overrides)
    if is_one_of_several:
        of_all_jobs = OmegaConf.load(Path(hydra.sweep.dir) / "multirun.yaml").hydra.overrides.task
        swept = [override for override in parsed(of_all_jobs) if override.is_sweep_override()]
        several = [o for o in swept if not o.is_choice_sweep() or len(list(o.sweep_string_iterator())) > 1]
        varied = {_key(override) for override in several}
        named = [override for override in typed if _key(override) in varied]
    else:
        short = re.compile(r"(models/)?[\w.+-]+", re.ASCII)  # neither a path nor a list
        named = [o for o in typed if short.fullmatch(shown(o.value())) and not _key(o).startswith(UNNAMED)]
    return directory.with_name(directory.name + suffix(named))


def suffix(overrides: Sequence[Override]) -> str:
    """Return the end of a name, `_base-1e5_seed-2`, which needs no quotes, in a shell or on Hydra's command line."""
    values = {_key(override): shown(override.value()) for override in overrides if not override.is_delete()}
    keys = sorted(values.keys() - {*NAMED}, key=lambda k: (not k.startswith(OF_THE_ENCODING), list(values).index(k)))
    words = []
    for key in keys:
        value = re.sub(r"[^\w.+-]+", "-", values[key], flags=re.ASCII).strip("-")[:MAX_VALUE]
        words.append(f"_{short_key(key, keys)}-{value}")
    lengths = accumulate(map(len, words))
    return "".join(word for word, length in zip(words, lengths, strict=True) if length <= MAX_SUFFIX)


def _key(override: Override) -> str:
    """Return the key that an override sets: `model.cross_encoding` for `encoding@model.cross_encoding=t5`."""
    return str(override.package or override.key_or_group)


def run() -> None:
    """Run the command, and exit."""
    JOBS.clear()
    command("train", main, train_help, print_jobs)
