"""New studies, and existing ones that are joined if their specification is the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import optuna
from optuna.storages import RDBStorage
from optuna.study import StudyDirection

from poslab.experiments.tuning.attributes import IDENTITY, MADE_WITH, QUESTION, SPECIFICATION, DamagedStorageError
from poslab.experiments.tuning.study import SweepStudy
from poslab.experiments.tuning.sweep import Sweep
from poslab.experiments.tuning.trial_record import begun_trials
from poslab.runs.trainer_settings import commit
from poslab.training.resume import changes_since


def make_or_join(
    sweep: Sweep, storage: RDBStorage, default: Mapping[str, Any], config: Mapping[str, Any]
) -> SweepStudy:
    """Return the study of a sweep: a new one, or the one that is there already.

    `default` and `config` are the parameters, by name, and the configuration of trial 0.

    Raises:
        ValueError: if the study that is there has another specification, or has begun more trials than this budget.
    """
    specification = {
        "space": dict(sweep.space),
        "configuration": {key: value for key, value in config.items() if key != "resume"},
        "objectives": list(sweep.objectives),
        "seeds": sweep.seeds,
        "sampler": dict(sweep.sampler),
        "pruner": None if sweep.pruner is None else dict(sweep.pruner),
    }
    directions = [StudyDirection[objective.direction.upper()] for objective in sweep.all_objectives]
    optuna.create_study(storage=storage, study_name=sweep.name, directions=directions, load_if_exists=True)
    study = SweepStudy(sweep, storage, seed=config["seed"], default=default)
    if SPECIFICATION not in study.user_attrs:
        is_of_another = IDENTITY in study.user_attrs or study.directions != directions
        if is_of_another or study.get_trials(deepcopy=False):
            raise ValueError(f"name={sweep.name}: the storage has a study of that name that is not a sweep of Poslab's")
        made_with = {"optuna": optuna.__version__, "commit": commit(), "seed": config["seed"]}
        # A process that makes the study at the same moment gets the same id.
        identity = hashlib.sha256(json.dumps([specification, made_with], sort_keys=True).encode()).hexdigest()[:16]
        study.set_user_attr(MADE_WITH, {**made_with, "id": identity})
        study.set_user_attr(QUESTION, sweep.question)
        study.set_user_attr(SPECIFICATION, specification)
    kept, made = study.user_attrs[SPECIFICATION], study.user_attrs.get(MADE_WITH)
    is_whole = isinstance(kept, dict) and isinstance(kept.get("configuration"), dict)
    is_known = (
        isinstance(made, dict) and made.keys() >= {"optuna", "commit", "seed"} and isinstance(made.get("id"), str)
    )
    if not is_whole or not is_known:
        raise DamagedStorageError(f"is damaged: the study {sweep.name} lacks what it was begun with")
    if differing := list(_differing(kept, specification)):
        raise ValueError(
            f"the study {sweep.name} was begun with another {differing[0]}, and trials that differ in it cannot be "
            "compared: repeat the command that began it, or give this sweep a name of its own (name=...)"
        )
    if (begun := begun_trials(study.checked_trials())) > sweep.n_trials:
        raise ValueError(
            f"n_trials must be at least {begun}, as many trials of {sweep.name} as have begun already, "
            f"got {sweep.n_trials}"
        )
    return study


def _differing(stored: dict[str, Any], specification: Mapping[str, Any]) -> Iterator[str]:
    """Yield the dotted keys in which the specification of a study, perhaps of an earlier version, differs."""
    now: dict[str, Any] = json.loads(json.dumps(specification))  # as stored: keys are texts
    yield from (key for key, *_ in changes_since(stored.pop("configuration"), now.pop("configuration")))
    yield from (key for key, *_ in changes_since(stored, now))
