"""The order of a run: pure in seed and step, whatever the devices, and each window once a pass."""

from collections.abc import Callable
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from poslab.data.batch import TokenBatch
from poslab.data.order import BatchPlan, WindowOrder
from poslab.data.text_files import TextFiles


@pytest.mark.parametrize("num_tokens", [33, 40, 64, 65, 1000, 1024, 1025])
def test_a_pass_takes_windows_that_do_not_overlap_each_once(num_tokens: int) -> None:
    order = WindowOrder(num_tokens, length=32, seed=0)
    offsets = set()
    for number in range(50):
        first = number * order.items_per_pass
        starts = sorted(order.items(range(first, first + order.items_per_pass)))
        assert {b - a for a, b in pairwise(starts)} <= {32}
        assert starts[0] >= 0
        assert starts[-1] + 33 <= num_tokens
        offsets.add(starts[0])
    assert len(offsets) > 1 or num_tokens == 33
    assert order.items_per_pass >= num_tokens // 32 - 1


def test_a_place_has_one_window_whatever_was_asked_before() -> None:
    whole = WindowOrder(5000, length=32, seed=3).items(range(1000))
    assert WindowOrder(5000, length=32, seed=3).items(range(990, 1000)) == whole[990:]
    assert WindowOrder(5000, length=32, seed=4).items(range(1000)) != whole


def windows_of_steps(datamodules: list[Any], steps: int, accumulate: int) -> list[set[tuple[int, ...]]]:
    loaders = [iter(datamodule.train_dataloader()) for datamodule in datamodules]
    rows_of_steps: list[set[tuple[int, ...]]] = []
    for _ in range(steps):
        batches: list[TokenBatch] = [next(loader) for loader in loaders for _ in range(accumulate)]
        rows = [tuple(row.tolist()) for batch in batches for row in batch.tokens]
        assert len(rows) == 12
        rows_of_steps.append(set(rows))
    return rows_of_steps


@pytest.mark.parametrize("world_size, accumulate", [(1, 2), (2, 1), (3, 2), (1, 12), (12, 1)])
def test_the_windows_of_a_step_do_not_depend_on_devices_and_micro_batches(
    text: dict[str, Any], attach: Callable[..., Any], world_size: int, accumulate: int
) -> None:
    def steps(world_size: int, accumulate: int) -> list[set[tuple[int, ...]]]:
        ranks = [attach(TextFiles(**text), world_size, rank, accumulate) for rank in range(world_size)]
        return windows_of_steps(ranks, 10, accumulate)

    assert steps(world_size, accumulate) == steps(1, 1)


def test_processes_that_share_windows_have_the_same_ones() -> None:
    def places(rank: int) -> list[range]:
        trainer = SimpleNamespace(max_steps=3, world_size=4, global_rank=rank, accumulate_grad_batches=2, global_step=0)
        return list(BatchPlan.of(trainer, 8, processes_per_window=2))

    assert places(0) == places(1) == list(BatchPlan(8, world_size=2, rank=0, accumulate=2, last_step=3))
    assert places(2) == places(3) == list(BatchPlan(8, world_size=2, rank=1, accumulate=2, last_step=3))


def test_targets_are_the_tokens_that_follow(text: dict[str, Any], attach: Callable[..., Any]) -> None:
    datamodule = attach(TextFiles(**text))
    whole = datamodule.splits._tokens["train"].ids.tolist()
    tokens, targets, segments, *_ = next(iter(datamodule.train_dataloader()))
    assert tokens.shape == targets.shape == (12, 32)
    assert tokens.dtype == targets.dtype == torch.int64
    assert segments is None
    for row, following in zip(tokens.tolist(), targets.tolist(), strict=True):
        assert any(whole[i : i + 33] == [*row, following[-1]] for i in range(len(whole)))
        assert following[:-1] == row[1:]


def test_a_batch_size_that_devices_cannot_share_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^batch_size.*x 4 micro-batches, got 12$"):
        BatchPlan(batch_size=12, world_size=2, accumulate=4)


def test_loader_processes_give_the_same_batches(text: dict[str, Any], attach: Callable[..., Any]) -> None:
    here = attach(TextFiles(**text), max_steps=3).train_dataloader()
    there = attach(TextFiles(num_workers=1, **text), max_steps=3).train_dataloader()
    assert [batch.tokens.tolist() for batch in here] == [batch.tokens.tolist() for batch in there]


@pytest.mark.parametrize("world_size, accumulate", [(1, 1), (3, 2)])
def test_overfit_trains_on_the_first_global_batch_over_and_over(
    text: dict[str, Any], attach: Callable[..., Any], world_size: int, accumulate: int
) -> None:
    first, second = windows_of_steps([attach(TextFiles(**text))], 2, 1)
    corpus = TextFiles(overfit=True, **text)
    for step in (0, 5):
        ranks = [attach(corpus, world_size, rank, accumulate, global_step=step) for rank in range(world_size)]
        assert windows_of_steps(ranks, 3, accumulate) == [first] * 3
    assert first != second
