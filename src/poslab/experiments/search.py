"""The trials of a sweep as jobs, and the search by Optuna: each job has one trial of the study.

A retry resumes the same trial, so that the number of a trial is its index in the plan. Grids, sequences and seeds
follow that number whatever was killed.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.pruners import BasePruner, NopPruner
from optuna.samplers import BaseSampler, GridSampler, PartialFixedSampler, QMCSampler, RandomSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from poslab.configuration.build import build
from poslab.experiments.jobs import STUDY, DatabaseLedger, Failure, Job, Jobs, Record, Snapshot
from poslab.experiments.space import Space
from poslab.experiments.storage import STORAGE_ERRORS, open_storage
from poslab.experiments.storage_url import DamagedStorageError
from poslab.experiments.sweep import Sweep
from poslab.runs.trainer_settings import commit
from poslab.training.resume import changes_since

SPECIFICATION = "asked"
"""User attribute of a study: its space, configuration, objectives and search, which must not change."""

MADE_WITH = "made_with"  # user attribute of a study: version, commit and seed that began it

METRICS, REASON = "figures", "reason"
"""User attributes of a trial: the metrics of its run by tag, or the reason of its failure."""

OPTUNA = "optuna"


@dataclass(frozen=True)
class TrialResult:
    """Values of a trial's objectives, None if it was pruned, and metrics of its run by tag."""

    values: Sequence[float] | None
    metrics: Mapping[str, float]


PRUNED = TrialResult(None, {})


class _SweepStudy(Study):
    """A study whose sampler can say that it has tried all values."""

    def stop(self) -> None:
        self.set_user_attr("exhausted", True)


class SweepJobs(Jobs[TrialResult | None]):
    """The trials of a sweep, each a job whose key is its number.

    The seed is the sampler's; `default` are the parameters of trial 0, by name. Optuna knows
    the result of a job whose result is None.
    """

    def __init__(self, sweep: Sweep, seed: int, default: Mapping[str, Any]) -> None:
        self.storage = open_storage(sweep)
        super().__init__(DatabaseLedger(self.storage.engine, sweep.name), sweep.lost_after)
        optuna.create_study(
            storage=self.storage, study_name=sweep.name, directions=directions_of(sweep), load_if_exists=True
        )
        self.study = _SweepStudy(sweep.name, self.storage, pruner=build_pruner(sweep.pruner, sweep.trust))
        self.sweep = sweep
        self._seed, self._default, self._is_exhausted = seed, default, False

    @property
    def outages(self) -> tuple[type[Exception], ...]:
        return STORAGE_ERRORS

    def wanted(self, records: Mapping[str, Record]) -> tuple[list[str], int]:
        if wrong := [key for key in records if not key.isdecimal()]:
            raise DamagedStorageError(f"is damaged: there is no job {wrong[0][:80]!r} in a sweep")
        numbers = map(str, range(self.sweep.n_trials))
        return [number for number in numbers if number in records or not self._is_exhausted], 0

    def take(self, worker: str) -> Job | None:
        self._is_exhausted = self._reads_exhausted()  # before the transaction, in which SQLite has one connection
        return super().take(worker)

    def snapshot(self) -> Snapshot:
        self._is_exhausted = self._reads_exhausted()
        return super().snapshot()

    def _reads_exhausted(self) -> bool:
        return bool(self.study.user_attrs.get("exhausted", False))

    def directory_of(self, key: str) -> Path:
        return trial_directory(self.sweep, int(key))

    def trials(self) -> dict[str, FrozenTrial]:
        """Return Optuna's trials by key; DamagedStorageError for those that Poslab does not write."""
        trials = self.study.get_trials(deepcopy=False)
        for number, trial in enumerate(trials):
            values, metrics = trial.values or [], trial.user_attrs.get(METRICS, {})
            is_whole = trial.number == number and isinstance(metrics, dict)
            if trial.state == TrialState.COMPLETE:
                is_whole &= len(values) == len(self.study.directions) and all(isinstance(v, float) for v in values)
                is_whole = is_whole and all(map(math.isfinite, values))
            if not is_whole or not all(isinstance(value, int | float) for value in metrics.values()):
                raise DamagedStorageError(f"is damaged: trial {trial.number} is none that Poslab writes")
        return {str(trial.number): trial for trial in trials}

    def finished(self, snapshot: Snapshot | None = None) -> list[FrozenTrial]:
        """Return Optuna's trials of the finished jobs."""
        trials = self.trials()
        return [trials[key] for key in (snapshot or self.snapshot()).finished if key in trials]

    def trial(self, job: Job) -> Trial | None:
        """Return Optuna's trial of a job for its worker; None if Optuna knows its end, and only the record does not."""
        number = int(job.key)
        while len(trials := self.study.get_trials(deepcopy=False)) <= number:
            self.study.add_trial(create_trial(state=TrialState.WAITING))  # one too many waits for a larger budget
        frozen = trials[number]
        if frozen.state.is_finished():
            return None
        self.storage.set_trial_state_values(frozen._trial_id, TrialState.RUNNING)
        self.study.sampler = sampler_of(self.sweep, number, self._seed, self._default)
        self.study._thread_local.cached_all_trials = None  # the sampler must see all results, as after Study.tell
        trial = Trial(self.study, frozen._trial_id)
        if isinstance(self.study.sampler, RandomSampler):  # what a worker drew that was killed is skipped
            for name, distribution in frozen.distributions.items():
                self.study.sampler.sample_independent(self.study, frozen, name, distribution)
        return trial

    def as_plain_data(self, job: Job, result: TrialResult | None) -> Mapping[str, Any]:
        return {}

    def complete(self, job: Job, result: TrialResult | None) -> None:
        """Tell Optuna the result before the record has it: a worker that is killed in between trains nothing again."""
        self.beat(job)
        if job.lost.is_set():
            return
        if result is not None and result.values is None:
            self._end(job.key, TrialState.PRUNED)
        elif result is not None:
            trial_id = self.study.get_trials(deepcopy=False)[int(job.key)]._trial_id
            self.storage.set_trial_user_attr(trial_id, METRICS, dict(result.metrics))
            self.study.tell(int(job.key), list(result.values or ()), skip_if_finished=True)
        super().complete(job, result)

    def put_back(self, job: Job) -> bool:
        is_own = super().put_back(job)
        if is_own:
            self._end(job.key, TrialState.WAITING)
        return is_own

    def fail(self, job: Job, failure: Failure) -> None:
        super().fail(job, failure)
        self.tell_failures()

    def tell_failures(self) -> None:
        """Tell Optuna the trials that failed and are not retried."""
        snapshot = self.snapshot()
        for key in snapshot.failed:
            failure = snapshot.records[key].failure
            self._end(key, TrialState.FAIL, failure.reason if failure else "")

    def _end(self, key: str, state: TrialState, reason: str | None = None) -> None:
        trial = self.trials().get(key)
        if trial is not None and not trial.state.is_finished():
            if reason is not None:
                self.storage.set_trial_user_attr(trial._trial_id, REASON, reason)
            self.storage.set_trial_state_values(trial._trial_id, state)


def trial_directory(sweep: Sweep, number: int) -> Path:
    return Path(sweep.output) / "trials" / f"{number:04}"


def make_or_join(sweep: Sweep, default: Mapping[str, Any], config: Mapping[str, Any]) -> SweepJobs:
    """Return the trials of a sweep: of a new study, or of the one that is there already.

    `default` and `config` are the parameters, by name, and the configuration of trial 0. ValueError if the study that
    is there has another specification, or has begun more trials than this budget.
    """
    specification = {
        "space": dict(sweep.space),
        "configuration": {key: value for key, value in config.items() if key != "resume"},
        "objectives": list(sweep.objectives),
        "seeds": sweep.seeds,
        "sampler": dict(sweep.sampler),
        "pruner": None if sweep.pruner is None else dict(sweep.pruner),
    }
    jobs = SweepJobs(sweep, seed=config["seed"], default=default)
    study = jobs.study
    if SPECIFICATION not in study.user_attrs:
        made_with = {"optuna": optuna.__version__, "commit": commit(), "seed": config["seed"]}
        # A process that makes the study at the same moment gets the same id.
        identity = hashlib.sha256(json.dumps([specification, made_with], sort_keys=True).encode()).hexdigest()[:16]
        with jobs.ledger.changing() as records:
            is_of_another = records.setdefault(STUDY, {"id": identity}) != {"id": identity}
        if is_of_another or study.get_trials(deepcopy=False) or study.directions != directions_of(sweep):
            raise ValueError(f"name={sweep.name}: the storage has a study of that name that is not a sweep of Poslab's")
        study.set_user_attr(MADE_WITH, {**made_with, "id": identity})
        study.set_user_attr("question", sweep.question)
        study.set_user_attr(SPECIFICATION, specification)
    kept, made = study.user_attrs[SPECIFICATION], study.user_attrs.get(MADE_WITH)
    is_whole = isinstance(kept, dict) and isinstance(kept.get("configuration"), dict)
    is_known = (
        isinstance(made, dict) and made.keys() >= {"optuna", "commit", "seed"} and isinstance(made.get("id"), str)
    )
    if not is_whole or not is_known:
        raise DamagedStorageError(f"is damaged: the study {sweep.name} lacks what it was started with")
    now: dict[str, Any] = json.loads(json.dumps(specification))  # as stored: keys are texts
    configurations = changes_since(kept.pop("configuration"), now.pop("configuration"))
    if differing := [key for key, *_ in (*configurations, *changes_since(kept, now))]:
        raise ValueError(
            f"the study {sweep.name} was started with another {differing[0]}, and trials that differ in it cannot be "
            "compared: repeat the command that began it, or give this sweep its own name (name=...)"
        )
    begun = 1 + max(map(int, jobs.snapshot().taken), default=-1)
    if begun > sweep.n_trials:
        raise ValueError(
            f"n_trials must be at least {begun}, as many trials of {sweep.name} as have begun already, "
            f"got {sweep.n_trials}"
        )
    return jobs


def directions_of(sweep: Sweep) -> list[StudyDirection]:
    """Return Optuna's directions of the objectives."""
    return [StudyDirection[objective.direction.upper()] for objective in sweep.all_objectives]


def sampler_of(sweep: Sweep, number: int, seed: int, default: Mapping[str, Any]) -> BaseSampler:
    """Return the sampler of a trial: trial 0 has the default, and others are drawn under a seed made of their number.

    So workers do not draw equal trials, and a sweep draws the same ones however often it is stopped. ValueError for an
    unknown sampler, or arguments that it does not have.
    """
    config = {"sampler": sweep.sampler, "trust": list(sweep.trust)}
    made = build(config, "sampler", Callable[..., BaseSampler], OPTUNA)
    is_sequence = isinstance(sampler := made(), GridSampler | QMCSampler)  # all points of a sequence share a seed
    if "seed" in inspect.signature(made).parameters:
        entropy = np.random.SeedSequence((seed, number))
        sampler = made(seed=seed if is_sequence else int(entropy.generate_state(1)[0]))
    if number > 0:
        return sampler
    is_grid = isinstance(sampler, GridSampler)  # which would count a point as tried
    return PartialFixedSampler(dict(default), RandomSampler() if is_grid else sampler)


def try_sampler(sweep: Sweep, space: Space, default: Mapping[str, Any]) -> None:
    """Draw two trials in memory; raise ValueError if the sampler does not support the space."""
    study = optuna.create_study(directions=directions_of(sweep))
    for number in range(2):
        study.sampler = sampler_of(sweep, number, 0, default)
        try:
            space.suggest(study.ask())
        except (ValueError, NotImplementedError) as error:
            raise ValueError(
                f"sampler: {str(sweep.sampler['_target_']).rpartition('.')[2]} cannot search this space: {error}"
            ) from error


def build_pruner(node: Mapping[str, Any] | None, trust: Sequence[str] = ()) -> BasePruner:
    """Build a pruner from its `_target_` and arguments, or for None one that prunes nothing.

    ValueError for an unknown pruner, or arguments that it does not have.
    """
    if node is None:
        return NopPruner()
    return build({"pruner": node, "trust": list(trust)}, "pruner", BasePruner, OPTUNA)
