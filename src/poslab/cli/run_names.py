"""Names of run directories: behind dataset and encoding, what was typed, as in `python_docs_rotary_base-1e5`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf

from poslab.cli.words import parsed
from poslab.configuration.labels import IGNORED_KEYS, OF_THE_ENCODING, short_key, shown

NAMED = ("dataset", "encoding")
"""Groups whose choice is in the name of every run directory."""

UNNAMED = ("init_from", "trainer", *IGNORED_KEYS)
"""Keys of a single run that are not in its name, beside those whose value is a path or a list."""

LONG = 20
"""Characters of a value in a name."""

LONGEST = 50
"""Characters of all keys and values in a name; further keys are left out."""


def named_directory(directory: Path, overrides: Sequence[str]) -> Path:
    """Return the directory of the job that runs, with what was typed in its name, unless the user has named it.

    One of several jobs has in its name the keys in which they differ.

    Args:
        directory: as conf/train.yaml names it.
        overrides: of the job.
    """
    hydra = HydraConfig.get()
    is_one_of_several = not OmegaConf.is_missing(hydra.job, "num")
    key = "hydra.sweep.subdir" if is_one_of_several else "hydra.run.dir"
    choices = "_".join(str(hydra.runtime.choices.get(group)) for group in NAMED)
    if not directory.name.endswith(choices) or any(word.lstrip("+").startswith(key) for word in hydra.overrides.hydra):
        return directory
    typed = parsed(overrides)
    if is_one_of_several:
        whole = OmegaConf.load(Path(hydra.sweep.dir) / "multirun.yaml").hydra.overrides.task
        varied = {_key(override) for override in parsed(whole) if _varies(override)}
        kept = [override for override in typed if _key(override) in varied]
    else:
        kept = [override for override in typed if _names_a_run(override)]
    return directory.with_name(directory.name + suffix(kept))


def suffix(overrides: Sequence[Override]) -> str:
    """Return the end of a name, `_base-1e5_seed-2`, which needs no quotes, in a shell or on Hydra's command line."""
    values = {_key(override): shown(override.value()) for override in overrides if not override.is_delete()}
    keys = sorted(
        values.keys() - {*NAMED}, key=lambda key: (not key.startswith(OF_THE_ENCODING), list(values).index(key))
    )
    words = [f"_{short_key(key, keys)}-{_plain(values[key])}" for key in keys]
    return "".join(word for word, length in zip(words, accumulate(map(len, words)), strict=True) if length <= LONGEST)


def _key(override: Override) -> str:
    """Return the key that an override sets: that of `encoding@model.cross_encoding=t5` is `model.cross_encoding`."""
    return str(override.package or override.key_or_group)


def _plain(value: str) -> str:
    return re.sub(r"[^\w.+-]+", "-", value, flags=re.ASCII).strip("-")[:LONG]


def _varies(override: Override) -> bool:
    """Return whether a key has several values in the jobs of a command line."""
    if not override.is_sweep_override():
        return False
    return not override.is_choice_sweep() or len(list(override.sweep_string_iterator())) > 1


def _names_a_run(override: Override) -> bool:
    """Return whether an override of a single run is a short one that changes what it learns."""
    value = shown(override.value())
    is_short = re.fullmatch(r"(models/)?[\w.+-]+", value, re.ASCII) is not None
    return not _key(override).startswith(UNNAMED) and is_short
