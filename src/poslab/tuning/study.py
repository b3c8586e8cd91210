"""A study that many processes share: made or joined, its trials taken, finished and retried."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from poslab.training.environment import commit
from poslab.training.resume import differing_keys
from poslab.tuning.attributes import (
    ASKED,
    CAN_PASS,
    EXHAUSTED,
    FIGURES,
    FIRST_ATTEMPT,
    FROM_OUTSIDE,
    MADE_WITH,
    QUESTION,
    REASON,
    RETRY_OF,
    WORKER,
)
from poslab.tuning.ledger import Ledger, begun_trials, first_attempt
from poslab.tuning.sampling import NumberedSampler, build_pruner
from poslab.tuning.sweep import Sweep


class SweepStudy(optuna.Study):
    """The study of a sweep.

    Args:
        sweep: the sweep.
        storage: where the study is.
        seed: of its sampler.
        default: the parameters of trial 0, by name.
    """

    def __init__(self, sweep: Sweep, storage: RDBStorage, seed: int, default: Mapping[str, Any]) -> None:
        super().__init__(
            study_name=sweep.name,
            storage=storage,
            sampler=NumberedSampler(sweep.sampler, seed, default, sweep.trust),
            pruner=build_pruner(sweep.pruner, sweep.trust),
        )
        self.n_trials = sweep.n_trials
        self.storage = storage

    def stop(self) -> None:
        """What a sampler calls that has tried everything there is."""
        self.set_user_attr(EXHAUSTED, True)

    def ledger(self) -> Ledger:
        """What its trials add up to at this moment."""
        trials = self.get_trials(deepcopy=False)
        ledger = Ledger.of(trials, self.n_trials)
        return Ledger(ledger.attempts, 0) if ledger.missing and self.user_attrs.get(EXHAUSTED) else ledger

    def take(self, worker: str) -> Trial | None:
        """Takes a trial that nobody else has; None where there is none at this moment, or none any more.

        Args:
            worker: who takes it.
        """
        while True:
            ledger = self.ledger()
            for failed in ledger.owed:
                self.add_trial(_retry(failed))
            for waiting in ledger.waiting:
                if self._taken(waiting):
                    trial = Trial(self, waiting._trial_id)
                    try:
                        trial.set_user_attr(WORKER, worker)
                    except UpdateFinishedTrialError:
                        continue
                    return trial
            if not ledger.owed and not ledger.missing:
                if not ledger.waiting:
                    return None
            elif not ledger.owed:
                self.add_trial(create_trial(state=TrialState.WAITING))

    def _taken(self, trial: FrozenTrial) -> bool:
        try:
            self.storage.record_heartbeat(trial._trial_id)  # that of a trial that was put back may be an old one
            return self.storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING)
        except UpdateFinishedTrialError:
            return False

    def current(self, trial: Trial | FrozenTrial) -> FrozenTrial:
        """A trial as it is in the storage at this moment."""
        return self.storage.get_trial(trial._trial_id)

    def complete(self, trial: Trial, values: Sequence[float], figures: Mapping[str, float]) -> None:
        """Ends a trial with its values; nothing if somebody took it for lost and ended it.

        Args:
            trial: it is running.
            values: of the objectives.
            figures: of its run, by tag.
        """
        try:
            trial.set_user_attr(FIGURES, dict(figures))
            self.tell(trial, list(values))
        except UpdateFinishedTrialError:
            return

    def put_back(self, trial: Trial) -> None:
        """Leaves a trial that was stopped for whoever comes next; nothing if somebody took it for lost."""
        try:
            self.storage.set_trial_user_attr(trial._trial_id, WORKER, None)
            self.storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)
        except UpdateFinishedTrialError:
            return

    def fail(self, trial: Trial | FrozenTrial, reason: str, can_pass: bool, from_outside: bool = False) -> None:
        """End a trial that failed; do nothing if it has ended already.

        Args:
            trial: it is running.
            reason: in a few words.
            can_pass: whether it may do better a second time.
            from_outside: whether somebody ended its worker.
        """
        try:
            self.storage.set_trial_user_attr(trial._trial_id, FROM_OUTSIDE, from_outside)
            self.storage.set_trial_user_attr(trial._trial_id, REASON, reason)
            self.storage.set_trial_user_attr(trial._trial_id, CAN_PASS, can_pass)
            self.storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
        except UpdateFinishedTrialError:
            return


def make_or_join(
    sweep: Sweep, storage: RDBStorage, default: Mapping[str, Any], config: Mapping[str, Any]
) -> SweepStudy:
    """The study of a sweep, which may be there already.

    Args:
        sweep: the sweep.
        storage: where it is kept.
        default: the parameters of trial 0, by name.
        config: the configuration of trial 0.

    Raises:
        ValueError: if the study that is there asks something else, or has begun more trials than this budget.
    """
    asked = {
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
    if ASKED not in study.user_attrs:
        if study.get_trials(deepcopy=False) or study.directions != directions:
            raise ValueError(f"name={sweep.name}: the storage has a study of that name that is no sweep of Poslab's")
        made_with = {"optuna": optuna.__version__, "commit": commit(), "seed": config["seed"]}
        # Whoever makes the study at the same moment comes to the same one.
        identity = hashlib.sha256(json.dumps([asked, made_with], sort_keys=True).encode()).hexdigest()[:16]
        study.set_user_attr(MADE_WITH, {**made_with, "id": identity})
        study.set_user_attr(QUESTION, sweep.question)
        study.set_user_attr(ASKED, asked)
    if differing := list(differing_keys(study.user_attrs[ASKED], asked)):
        key = differing[0].removeprefix("configuration.")
        raise ValueError(
            f"the study {sweep.name} was begun with another {key}, and trials that differ in it cannot be compared: "
            "repeat the command that began it, or give this sweep a name of its own (name=...)"
        )
    if (begun := begun_trials(study.get_trials(deepcopy=False))) > sweep.n_trials:
        raise ValueError(
            f"n_trials must be at least {begun}, as many trials of {sweep.name} as have begun already, "
            f"got {sweep.n_trials}"
        )
    return study


def _retry(failed: FrozenTrial) -> FrozenTrial:
    return create_trial(
        state=TrialState.WAITING,
        params=failed.params,
        distributions=failed.distributions,
        intermediate_values=failed.intermediate_values,
        user_attrs={RETRY_OF: failed.number, FIRST_ATTEMPT: first_attempt(failed)},
    )
