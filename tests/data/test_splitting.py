"""Documents are split, not windows."""

from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from poslab.data.run_data import RunData
from poslab.data.splitting import cut, hold_out, join_neighbours, number_of_parts, random_order, spread_order
from poslab.data.text_files import TextFiles, read

from .conftest import story


def texts_of(corpus: TextFiles) -> dict[str, str]:
    datamodule = RunData(corpus)
    datamodule.setup()
    return {name: datamodule.tokenizer.decode(tokens.ids) for name, tokens in datamodule.splits._tokens.items()}


def test_each_file_is_in_one_split_and_whole(stories: list[Path], arguments: dict[str, Any]) -> None:
    texts = texts_of(TextFiles(files=str(stories[0].parent / "*.txt"), **arguments))
    homes = [[name for name, text in texts.items() if path.read_text() in text] for path in stories]
    assert Counter(name for home in homes for name in home) == {"train": 36, "validation": 2, "test": 2}
    assert all(len(home) == 1 for home in homes)
    assert sum(map(len, texts.values())) == sum(len(path.read_text()) for path in stories)


def test_the_seed_of_a_run_does_not_move_its_test(text: dict[str, Any]) -> None:
    assert texts_of(TextFiles(seed=1, **text)) == texts_of(TextFiles(seed=2, **text))


def test_a_single_file_is_held_out_in_contiguous_parts(tmp_path: Path, arguments: dict[str, Any]) -> None:
    text = story(7, paragraphs=400)
    (tmp_path / "book.txt").write_text(text)
    texts = texts_of(TextFiles(files=str(tmp_path / "book.txt"), **arguments))
    paragraphs = {name: [p for p in part.split("\n\n") if p] for name, part in texts.items()}
    assert sum(map(len, texts.values())) == len(text)
    for name in ("validation", "test"):
        assert 0.03 < len(texts[name]) / len(text) < 0.07
        assert not set(paragraphs[name]) & set(paragraphs["train"])
        places = sorted(text.index(paragraph) for paragraph in paragraphs[name])
        breaks = sum(len(text[a:b].split("\n\n")) > 2 for a, b in pairwise(places))
        assert 1 <= breaks <= 3  # a few parts of successive paragraphs


@pytest.mark.parametrize("text", [story(3, 100), "word " * 1000, "x" * 5000, "a\n" * 2000, "\n\n" * 700, "short", ""])
def test_cutting_loses_nothing(text: str) -> None:
    parts = cut([text, "another"], 40)
    assert "".join(part.text for part in parts if part.document == 0) == text
    assert all(part.text for part in parts)
    assert join_neighbours(parts, range(len(parts))) == [t for t in (text, "another") if t]


def test_parts_end_at_blank_lines() -> None:
    parts = cut([story(3, 200)], 40)
    assert 36 <= len(parts) <= 40
    assert all(part.text.endswith("\n\n") for part in parts[:-1])


def test_only_neighbours_of_one_document_are_joined() -> None:
    parts = cut(["aaaabbbbcccc", "ddddeeee"], 5)
    assert [part.text for part in parts] == ["aaaa", "bbbb", "cccc", "dddd", "eeee"]
    assert join_neighbours(parts, [0, 1, 2, 3]) == ["aaaabbbbcccc", "dddd"]
    assert join_neighbours(parts, [0, 2, 4]) == ["aaaa", "cccc", "eeee"]


@pytest.mark.parametrize("order", [random_order, spread_order])
def test_held_out_documents_have_their_share_of_the_text(order: Any) -> None:
    sizes = np.random.default_rng(0).integers(1, 100, size=2000).tolist()
    splits = hold_out(sizes, order(2000), {"validation": 0.1, "test": 0.2})
    assert sorted(number for split in splits.values() for number in split) == list(range(2000))
    shares = {name: sum(sizes[n] for n in numbers) / sum(sizes) for name, numbers in splits.items()}
    assert shares == pytest.approx({"train": 0.7, "validation": 0.1, "test": 0.2}, abs=0.001)


def test_every_split_has_a_document_however_few_there_are() -> None:
    splits = hold_out([1, 1000, 1], random_order(3), {"validation": 0.05, "test": 0.05})
    assert sorted(map(len, splits.values())) == [1, 1, 1]
    with pytest.raises(ValueError, match=r"need at least 3 documents, got 2"):
        hold_out([1, 1], random_order(2), {"validation": 0.05, "test": 0.05})


def test_parts_that_are_held_out_are_far_apart() -> None:
    for count in (20, 40, 61):
        first_four = sorted(spread_order(count)[:4].tolist())
        assert min(b - a for a, b in pairwise(first_four)) >= count // 8


def test_a_part_holds_the_longest_window_where_that_leaves_parts_small_enough_to_hold_out() -> None:
    assert number_of_parts(size=374_000, longest=2048, smallest_fraction=0.05) == 80
    assert number_of_parts(size=374_000, longest=12_000, smallest_fraction=0.05) == 31
    assert number_of_parts(size=374_000, longest=100_000, smallest_fraction=0.05) == 20


def test_lines_that_end_as_on_windows_are_lines(tmp_path: Path) -> None:
    (tmp_path / "windows.txt").write_bytes(b"one\r\n\r\ntwo\r\n")
    assert read(tmp_path / "windows.txt") == "one\n\ntwo\n"
