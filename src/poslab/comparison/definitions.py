"""Definitions of the runs of a comparison: the configuration of each encoding on each case, numbered as it changes.

Files of choices, and the comparison's own, may change between two commands. Runs of an earlier definition are kept, and
are not compared with those of the newest.
"""

from __future__ import annotations

import json
import secrets
from typing import Any

import optuna

from poslab.comparison.comparison import Comparison
from poslab.comparison.configurations import CellConfigurations
from poslab.configuration.build import trusted_packages
from poslab.runs.earlier_versions import ADDED, as_of_now
from poslab.training.resume import changed_keys

IDENTITY = "id"
"""User attribute of a study: a random text, by which its directory knows it."""


def numbered(
    study: optuna.Study, comparison: Comparison, configurations: CellConfigurations, keep: bool
) -> dict[str, int]:
    """Return the number of the present definition of each `case/encoding`.

    An equal definition of before keeps its number; a new one gets the next, and is kept with the study if `keep`.
    """
    numbers = {}
    for case, encoding in comparison.pairs:
        name = f"{case}/{encoding}"
        now: dict[str, Any] = json.loads(json.dumps(configurations.definition(case, encoding)))
        number = 1
        while (before := study.user_attrs.get(f"definition {name} {number}")) is not None and _differs(before, now):
            number += 1
        if before is None and keep:
            study.set_user_attr(f"definition {name} {number}", now)
        numbers[name] = number
    return numbers


def _differs(before: dict[str, Any], now: dict[str, Any]) -> bool:
    trusted = ("poslab", *trusted_packages(now))
    old = ADDED | as_of_now(before)
    return any(key.partition(".")[0] != "trust" for key, *_ in changed_keys(old, now, trusted))


def identity(study: optuna.Study) -> str:
    """Return the identity of a study, which is made when it is first asked for."""
    if IDENTITY not in study.user_attrs:
        study.set_user_attr(IDENTITY, secrets.token_hex(8))
    return str(study.user_attrs[IDENTITY])
