from __future__ import annotations

from typing import Any

import optuna
import pytest
from optuna import Study, Trial

from poslab.experiments.tuning.sampling import NumberedSampler, build_pruner

TPE = {"_target_": "optuna.samplers.TPESampler", "n_startup_trials": 3}


def drawn(
    node: dict[str, Any], trials: int, seed: int = 1, interrupted_after: int | None = None
) -> list[dict[str, Any]]:
    """The parameters of trials of a sweep, whose sampler is made anew after some of them."""
    study = optuna.create_study(sampler=NumberedSampler(node, seed, {"x": 5.0, "y": "b"}))
    for number in range(trials):
        if number == interrupted_after:
            study.sampler = NumberedSampler(node, seed, {"x": 5.0, "y": "b"})
        trial = study.ask()
        x, y = trial.suggest_float("x", 1, 10), trial.suggest_categorical("y", ["a", "b"])
        study.tell(trial, (x - 3) ** 2 + (y == "a"))
    return [trial.params for trial in study.trials]


def test_trial_0_is_the_default():
    assert drawn(TPE, 2)[0] == {"x": 5.0, "y": "b"}


@pytest.mark.parametrize("name", ["TPESampler", "RandomSampler", "QMCSampler", "NSGAIISampler"])
def test_a_sweep_that_was_stopped_goes_on_as_if_it_had_not_been(name):
    node = {"_target_": f"optuna.samplers.{name}"}

    assert drawn(node, 8, interrupted_after=5) == drawn(node, 8)


def test_another_seed_draws_other_trials():
    assert drawn(TPE, 4, seed=2)[1:] != drawn(TPE, 4, seed=1)[1:]


def test_two_workers_do_not_draw_the_same_trials():
    storage = optuna.storages.InMemoryStorage()
    optuna.create_study(storage=storage, study_name="shared")

    def taken_by_a_worker() -> Trial:
        sampler = NumberedSampler({"_target_": "optuna.samplers.RandomSampler"}, 1, {"x": 5.0})
        return Study("shared", storage, sampler=sampler).ask()

    running = [taken_by_a_worker() for _ in range(5)]

    assert len({trial.suggest_float("x", 0, 10) for trial in running}) == 5


@pytest.mark.parametrize(
    ("node", "sentence"),
    [
        ({"_target_": "optuna.samplers.TPE"}, r"sampler\._target_: optuna\.samplers has no TPE"),
        ({"_target_": "optuna.integration.BoTorchSampler"}, r"^sampler\._target_ must name a "),
        ({"_target_": "optuna.pruners.NopPruner"}, r"must name a BaseSampler, got optuna\.pruners\.NopPruner"),
        ({"_target_": "optuna.samplers.TPESampler", "n_startups": 3}, r"sampler\.n_startups: .* has no such argument"),
    ],
)
def test_a_sampler_that_is_none_is_one_sentence(node, sentence):
    with pytest.raises(ValueError, match=sentence):
        NumberedSampler(node, 1, {})


def test_a_pruner_can_wrap_another():
    node = {
        "_target_": "optuna.pruners.PatientPruner",
        "wrapped_pruner": {"_target_": "optuna.pruners.MedianPruner"},
        "patience": 2,
    }

    assert isinstance(build_pruner(node), optuna.pruners.PatientPruner)
    assert isinstance(build_pruner(None), optuna.pruners.NopPruner)
    with pytest.raises(ValueError, match=r"pruner\._target_ must name a BasePruner, got optuna\.samplers\.TPESampler"):
        build_pruner({"_target_": "optuna.samplers.TPESampler"})
