"""Definitions of the runs of a comparison: the configuration of each encoding on each case, numbered as it changes.

Files of choices, and the comparison's own, may change between two commands. Runs of an earlier definition are kept, and
are not compared with those of the newest.
"""

from __future__ import annotations

import json
import secrets
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import RDBStorage

from poslab.data.source import default_cache
from poslab.experiments.comparison import Comparison
from poslab.experiments.configurations import CellConfigurations
from poslab.experiments.tuning.attributes import IDENTITY, MADE_WITH, SPECIFICATION, DamagedStorageError
from poslab.io.files import PACKAGE
from poslab.training.resume import changes_since


def numbered(
    study: optuna.Study, comparison: Comparison, configurations: CellConfigurations, keep: bool
) -> dict[str, int]:
    """Return the number of the present definition of each `case/encoding`.

    An equal definition of before keeps its number; a new one gets the next, and is kept with the study if `keep`.
    """
    numbers = {}
    # equal on every machine, wherever it keeps packages, data and the working folder
    places = {sysconfig.get_path("purelib"): PACKAGE, str(default_cache()): "cache:", str(Path.cwd()): ""}
    for case, encoding in comparison.pairs:
        name = f"{case}/{encoding}"
        now: dict[str, Any] = json.loads(json.dumps(configurations.definition(case, encoding)))
        now = _without_places(now, places)
        number = 1
        while (before := study.user_attrs.get(f"definition {name} {number}")) is not None:
            if not isinstance(before, dict):
                raise DamagedStorageError(f"is damaged: definition {number} of {name} is none that Poslab writes")
            if not any(changes_since(_without_places(before, places), now)):
                break
            number += 1
        if before is None and keep:
            study.set_user_attr(f"definition {name} {number}", now)
        numbers[name] = number
    return numbers


def _without_places(node: Any, places: Mapping[str, str]) -> Any:
    """Return a part of a configuration in which the beginnings of paths have other names."""
    if isinstance(node, dict):
        return {key: _without_places(value, places) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_without_places(value, places) for value in node]
    if isinstance(node, str):
        for place, name in places.items():
            if node.startswith(f"{place}/"):
                return name + node.removeprefix(f"{place}/")
    return node


def study_of(comparison: Comparison, storage: RDBStorage) -> optuna.Study:
    """Return the study of a comparison: a new one, or the one that is there already.

    Raises:
        ValueError: if that is the study of something else.
    """
    study = optuna.create_study(storage=storage, study_name=comparison.name, load_if_exists=True)
    known = study.user_attrs
    is_of_a_sweep = MADE_WITH in known or SPECIFICATION in known
    if is_of_a_sweep or (IDENTITY not in known and study.get_trials(deepcopy=False)):
        what = "a sweep" if is_of_a_sweep else "a study"
        raise ValueError(
            f"name={comparison.name}: the storage has {what} of that name: give this comparison a name of its own"
        )
    return study


def identity(study: optuna.Study) -> str:
    """Return the identity of a study, which gets one if it has none."""
    if IDENTITY not in study.user_attrs:
        study.set_user_attr(IDENTITY, secrets.token_hex(8))
    return str(study.user_attrs[IDENTITY])
