"""Evaluation predicts every token of a split once, at every length, over any number of processes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from poslab.data.batch import IGNORE
from poslab.data.text_files import TextFiles

from .conftest import story


@pytest.mark.parametrize("batch_size", [1, 12])
@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("split", ["validation", "test"])
def test_every_token_but_the_first_is_predicted_once_at_each_length(
    text: dict[str, Any], attach: Callable[..., Any], split: str, world_size: int, batch_size: int
) -> None:
    text |= {"batch_size": batch_size, "length_multiples": [1, 2, 4, 8]}
    ranks = [attach(TextFiles(**text), world_size, rank) for rank in range(world_size)]
    whole = ranks[0].splits._tokens[split].ids.tolist()
    loaders = [rank.val_dataloader() if split == "validation" else rank.test_dataloader() for rank in ranks]
    assert ranks[0].lengths_of("test") == [32, 64, 128, 256]
    for place, length in enumerate(ranks[0].lengths_of("test")):
        batches = [list(loader[place]) for loader in loaders]
        assert len({len(of_rank) for of_rank in batches}) == 1
        assert len({batch.tokens.shape for of_rank in batches for batch in of_rank}) == 1
        predicted: list[int] = []
        # Windows in the order of the text: the rank's batches interleave.
        ordered = [
            row
            for number in range(len(batches[0]))
            for of_rank in batches
            for row in zip(of_rank[number].tokens.tolist(), of_rank[number].targets.tolist(), strict=True)
        ]
        for tokens, targets in ordered:
            kept = [target for target in targets if target != IGNORE]
            assert targets[: len(kept)] == kept
            assert tokens[: len(kept)] == whole[len(predicted) : len(predicted) + len(kept)]
            predicted += kept
        assert predicted == whole[1:]
        assert all(len(tokens) == length for tokens, _ in ordered)


def test_batches_of_longer_windows_have_fewer_rows(text: dict[str, Any], attach: Callable[..., Any]) -> None:
    text["length_multiples"] = [1, 2, 3, 16]
    loaders = attach(TextFiles(**text)).val_dataloader()
    assert [next(iter(loader)).tokens.shape for loader in loaders] == [(12, 32), (6, 64), (4, 96), (1, 512)]
    loaders = attach(TextFiles(**text), world_size=2, accumulate=3).val_dataloader()
    assert [next(iter(loader)).tokens.shape[0] for loader in loaders] == [2, 1, 1, 1]


def test_lengths_end_where_the_model_ends(text: dict[str, Any], attach: Callable[..., Any]) -> None:
    text["length_multiples"] = [8, 1, 2, 1000]
    datamodule = attach(TextFiles(**text))
    datamodule.max_length = 64
    assert datamodule.lengths_of("test") == [32, 64]
    assert len(datamodule.test_dataloader()) == 2


def test_lengths_that_validation_and_test_do_not_fill_are_left_out_and_told(
    tmp_path: Path, arguments: dict[str, Any], attach: Callable[..., Any]
) -> None:
    (tmp_path / "notes.txt").write_text(story(1, paragraphs=220))
    more = {"sequence_length": 256, "length_multiples": [1, 2, 4, 8, 100]}
    datamodule = attach(TextFiles(files=str(tmp_path / "notes.txt"), **{**arguments, **more}))
    assert 15_000 < (tmp_path / "notes.txt").stat().st_size < 25_000
    shortest = min(datamodule.splits.num_tokens[split] for split in ("validation", "test"))
    assert 512 < shortest <= 1024
    assert datamodule.lengths_of("test") == [256, 512]
    assert len(datamodule.val_dataloader()) == len(datamodule.test_dataloader()) == 2
    *_, line = datamodule.report_lines()
    split = next(name for name, count in datamodule.splits.num_tokens.items() if count == shortest)
    assert "1,024 and 2,048 and 25,600" in line and line.endswith(f": {split} has only {shortest}")
    datamodule.max_length = 512
    assert len(datamodule.report_lines()) == 2  # the text has no fault where the model ends


@pytest.mark.parametrize("excess, lengths", [(0, [32]), (1, [32, 64])])
def test_a_window_takes_one_token_more_than_its_length(
    tmp_path: Path, arguments: dict[str, Any], attach: Callable[..., Any], excess: int, lengths: list[int]
) -> None:
    for number in range(40):
        (tmp_path / f"{number:02}.txt").write_text("x" * (63 + excess))
    corpus = TextFiles(files=str(tmp_path / "*.txt"), validation_fraction=0.025, test_fraction=0.025, **arguments)
    datamodule = attach(corpus)
    assert datamodule.splits.num_tokens["validation"] == datamodule.splits.num_tokens["test"] == 64 + excess
    assert datamodule.lengths_of("test") == lengths
