"""The average of the weights over a run, which is what a run is measured by."""

from __future__ import annotations

from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor

from poslab.runs.checkpoint import load_checkpoint
from poslab.runs.directory import RunDirectory
from poslab.training.callbacks import Samples
from poslab.training.checking import check
from poslab.training.checkpoints import StopOnSignals
from poslab.training.fit import run_test, train_here
from tests.training.runs import assert_resumes, recorded, run_of, small, weights

STEPS = 6
AVERAGED = ("callbacks=[ema]", "callbacks.ema.decay=0.3", f"trainer.max_steps={STEPS}", "trainer.validations=2")


class Weights(L.Callback):
    """The weights after each step."""

    def __init__(self) -> None:
        self.after: list[dict[str, Tensor]] = []

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        named = pl_module.model.named_parameters()  # type: ignore[union-attr, operator]
        self.after.append({name: parameter.detach().clone() for name, parameter in named})


def test_a_checkpoint_has_the_average_and_the_weights_that_training_goes_on_with(tmp_path):
    config, seen, run = small(tmp_path, *AVERAGED), Weights(), RunDirectory(tmp_path / "run")
    run.start(config, {})
    train_here(run, check(config), None, StopOnSignals(), callbacks=[seen])

    average = seen.after[0]
    for step in range(1, STEPS):
        kept = min(0.3, (1 + step) / (10 + step))
        average = {name: kept * average[name] + (1 - kept) * weight for name, weight in seen.after[step].items()}
    saved = weights(run.last_checkpoint)
    for name, weight in average.items():
        torch.testing.assert_close(saved[name], weight, msg=name)
    going_on = load_checkpoint(run.last_checkpoint)["current_model_state"]
    assert all(torch.equal(going_on[f"model.{name}"], weight) for name, weight in seen.after[-1].items())


def test_training_is_as_without_it_and_validation_is_not(tmp_path):
    plain = run_of(small(tmp_path, *AVERAGED[2:]), tmp_path / "plain")
    averaged = run_of(small(tmp_path, *AVERAGED), tmp_path / "averaged")
    losses = [{(step, tag): value for step, tag, value in recorded(run) if "loss" in tag} for run in (plain, averaged)]
    differing = {tag for step, tag in losses[0] if losses[0][step, tag] != losses[1][step, tag]}
    assert differing and all(tag.startswith(("validation/", "test/")) for tag in differing)


def test_the_test_of_a_run_is_of_the_average_in_its_checkpoint(tmp_path):
    run = run_of(small(tmp_path, *AVERAGED), tmp_path / "run")
    metrics = run.metrics()
    run.finish({tag: value for tag, value in metrics.items() if not tag.startswith("test/")})
    assert run_test(run) == {tag: value for tag, value in metrics.items() if tag.startswith("test/")}


def test_a_resumed_run_ends_with_the_same_average(tmp_path):
    assert_resumes(small(tmp_path, *AVERAGED), tmp_path)


def test_a_decay_that_never_forgets_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"callbacks\.ema\.decay must be a"):
        check(small(tmp_path, "callbacks=[ema]", "callbacks.ema.decay=1.0"))


@pytest.mark.parametrize("order", ["[ema,samples]", "[samples,ema]"])
def test_samples_are_of_the_average_in_any_order_of_callbacks(order, tmp_path, monkeypatch):
    seen = []

    def see(self: Samples, trainer: L.Trainer, learner: L.LightningModule) -> None:
        seen.append({name: weight.clone() for name, weight in learner.model.state_dict().items()})

    monkeypatch.setattr(Samples, "_write", see)
    run = run_of(small(tmp_path, f"callbacks={order}", "logger=[tensorboard,csv]"), tmp_path / "run")
    assert all(torch.equal(weight, seen[-1][name]) for name, weight in weights(run.last_checkpoint).items())
