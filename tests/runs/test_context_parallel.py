"""Processes that share each window have its loss and its gradient, under every encoding that they do not refuse."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, distributed, multiprocessing

from poslab.data.corpus import WindowRows
from poslab.models import Decoder
from poslab.runs.checkpoint import load_checkpoint
from poslab.runs.directory import RunDirectory
from poslab.runs.errors import RunEndedEarlyError
from poslab.runs.steps import ContextParallel, Objective, TaskLoss
from poslab.tasks.language_modelling import LanguageModelling
from poslab.training.checking import check
from poslab.training.fit import run_test, train
from poslab.training.resume import Plan
from tests.cli.running import TIMED
from tests.encoding_choices import EVERY_ENCODING, described, small_decoder
from tests.training.runs import recorded, run_of, small, weights

OF_EACH_ROUTE = ("abacus", "deberta", "fire", "learned", "longrope", "per_layer", "rotary_values", "shaw", "t5", "yarn")
WINDOWS = np.random.default_rng(0).integers(40, size=(2, 49))

MODELS: dict[str, dict[str, Any]] = {
    "a sliding window": {"name": "rotary", "window": 7},
    "sinks": {"name": "rotary", "sinks": "all"},
    "dense": {"name": "alibi", "attention": "dense"},
    "normed keys": {"name": "rotary", "qk_norm": True},
    "shared keys": {"name": "rotary", "shared_key": 0.5},
} | {name: {"name": name} for name in EVERY_ENCODING if "state" not in described(name).hooks}


def loss_and_gradient(objective: Objective, boundary: int | None, **arguments: Any) -> tuple[Tensor, Tensor]:
    model: Decoder = small_decoder(**arguments).double().train()
    task = LanguageModelling({"train": 1.0}, boundary)
    batch = task.collate(WindowRows(WINDOWS, [0, 1]), np.ones_like(WINDOWS, dtype=bool))
    sums = objective.sums(task, model, batch, None)
    sums.loss.backward()
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
    return torch.stack([sums.loss.detach(), *sums.task[1:]]), torch.cat([gradient.flatten() for gradient in gradients])


def compare(rank: int, folder: str, processes: int, names: Sequence[str]) -> None:
    """Write a line for each model whose sums or gradients are not those of one process."""
    store = distributed.FileStore(f"{folder}/store", processes)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=processes)
    objective, wrong = ContextParallel(processes), []
    for name in names:
        for boundary in (None, 3):
            found = loss_and_gradient(objective, boundary, **MODELS[name])
            for ours in found:
                distributed.all_reduce(ours)
            if rank:
                continue
            expected = loss_and_gradient(TaskLoss(), boundary, **MODELS[name])
            for ours, theirs in zip(found, expected, strict=True):
                difference = (ours - theirs).abs().max() / theirs.abs().max()
                if not difference < 1e-6:  # of logits, which are rounded to float32
                    wrong.append(f"{name}, boundary {boundary}: {difference:.2g}")
    if rank == 0:
        Path(folder, "wrong").write_text("\n".join(wrong))
    distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("processes", "names"), [(2, list(MODELS)), (3, [*OF_EACH_ROUTE, *set(MODELS) - set(EVERY_ENCODING)])]
)
def test_processes_together_have_the_loss_and_the_gradient_of_one(tmp_path, processes, names):
    multiprocessing.start_processes(compare, (str(tmp_path), processes, names), processes, start_method="forkserver")
    assert not (tmp_path / "wrong").read_text()


def keep_draws(rank: int, folder: str) -> None:
    """Write what the first dropout of each of two passes reads and drops, the seed of both being the same."""
    store = distributed.FileStore(f"{folder}/store", 2)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    model: Decoder = small_decoder("abacus", dropout=0.5).train()
    kept: list[Tensor] = []
    model.dropout.register_forward_hook(lambda _, read, result: kept.extend([read[0].detach(), result == 0]))
    task, windows = LanguageModelling({"train": 1.0}), np.tile([1, 40], (2, 25))[:, :49]  # a digit, and none
    for _ in range(2):
        torch.manual_seed(7)
        batch = task.collate(WindowRows(windows, [0, 1]), np.ones_like(windows, dtype=bool))
        ContextParallel(2).sums(task, model, batch, None)
    torch.save(kept, f"{folder}/{rank}")
    distributed.destroy_process_group()


@pytest.mark.slow
def test_parts_of_a_window_share_what_an_encoding_draws_and_not_the_draws_of_dropout(tmp_path):
    multiprocessing.start_processes(keep_draws, (str(tmp_path),), 2, start_method="forkserver")
    first, second = (torch.load(tmp_path / str(rank)) for rank in range(2))
    for read, dropped, read_again, dropped_again in (first, second):
        assert torch.equal(read, read_again) and torch.equal(dropped, dropped_again)
    assert torch.equal(first[0], second[0])
    assert 0.4 < (first[1] == second[1]).float().mean() < 0.6


@pytest.mark.slow
@pytest.mark.parametrize(
    "sharing",
    [["trainer.micro_batch_size=1"], ["trainer.strategy=fsdp", "trainer.activation_checkpointing=true"]],
    ids=["ddp", "fsdp"],
)
def test_a_run_of_processes_that_share_its_windows_learns_as_one_process(tmp_path, sharing):
    shape = ["dataset.document_boundaries=true", "dataset.batch_size=2", "encoding=t5", "model.num_layers=2"]
    one = run_of(small(tmp_path, *shape), tmp_path / "one")
    two = run_of(small(tmp_path, *shape, "trainer=ddp_cpu", "trainer.context_parallel=2", *sharing), tmp_path / "two")
    expected, found = (
        {(step, tag): value for step, tag, value in recorded(run) if tag not in TIMED} for run in (one, two)
    )
    assert found == pytest.approx(expected, rel=1e-5)
    tokens = [load_checkpoint(run.last_checkpoint)["trained"]["tokens"] for run in (one, two)]
    assert tokens == [2 * 16 * 4] * 2
    metrics = two.metrics()
    two.metrics_file.write_text(json.dumps({tag: value for tag, value in metrics.items() if "test" not in tag}))
    assert run_test(two) == pytest.approx({tag: metrics[tag] for tag in metrics if "test" in tag}, rel=1e-5)


ONE: list[str] = []
TWO = ["trainer=ddp_cpu", "trainer.context_parallel=2", "trainer.precision=32-true"]
IN_PIECES = ["trainer.micro_batch_size=1"]


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(ONE, TWO), (TWO, ONE), (IN_PIECES, ONE), (ONE, IN_PIECES)])
def test_a_run_resumes_on_other_devices_and_with_other_micro_batches(tmp_path, before, after):
    shape = ["encoding=t5", "dataset.batch_size=2", "trainer.max_steps=4", "trainer.validations=4"]
    whole = run_of(small(tmp_path, *shape), tmp_path / "whole")
    run, config = RunDirectory(tmp_path / "run"), small(tmp_path, *shape, *before)
    with pytest.raises(RunEndedEarlyError):
        train(Plan(run, config, None), check(config), lambda step, metrics: "enough" if step == 2 else None)
    resumed = run_of(small(tmp_path, *shape, *after), run.path, run.last_checkpoint)
    expected, found = weights(whole.last_checkpoint), weights(resumed.last_checkpoint)
    assert load_checkpoint(resumed.last_checkpoint)["global_step"] == 4
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, rtol=0, atol=1e-5)


MISTAKES: dict[str, tuple[str, str]] = {
    "devices": ("trainer=cpu", "trainer.context_parallel must divide the number of devices, 1, got 2"),
    "batch": ("trainer.micro_batch_size=3", "trainer.micro_batch_size must divide the 4 windows that each device has"),
    "encoder": ("model=encoder", "trainer.context_parallel must be 1 unless a Poslab decoder predicts the next "),
    "length": ("dataset.sequence_length=17", "dataset.sequence_length must be divisible by trainer.context_parallel=2"),
    "step": ("step=private", "step must be standard with trainer.context_parallel=2"),
    "positions": ("positions=shifted", "positions must be contiguous with trainer.context_parallel=2, got Shifted"),
    "compile": ("trainer.compile=blocks", "trainer.compile must be false with trainer.context_parallel=2"),
    "registers": ("model.registers=1", "model.registers must be 0 with trainer.context_parallel=2, got 1"),
    "canon": ("model.canon=AC", "model.canon and mixers must be null with trainer.context_parallel=2"),
    "state": ("encoding=forgetting", "encoding must not have a state of each token with trainer.context_parallel=2"),
    "teacher": ("objective=distil", "objective must be task with trainer.context_parallel=2"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_processes_cannot_share_is_one_sentence(tmp_path, mistake):
    override, sentence = MISTAKES[mistake]
    with pytest.raises(ValueError) as error:
        check(small(tmp_path, "trainer=ddp_cpu", "trainer.context_parallel=2", override))
    assert str(error.value).startswith(sentence), error.value
