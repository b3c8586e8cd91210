"""Item scores are read as they were written, and a file that is something else is refused."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from poslab.evaluation.scores import items as item_files
from poslab.evaluation.scores.items import (
    COLUMNS,
    VERSION,
    ItemScores,
    MeasuredRun,
    read_measured,
    shared_items,
    write_measured,
)

SUMS, COUNTS = np.array([3.0, 0.0, np.nan, 8.0]), np.array([2, 0, 1, 5])
MEASURED = MeasuredRun(
    "Rotary (yarn)",
    "test",
    {
        ("loss", 16): ItemScores("loss", 16, SUMS, COUNTS, "a"),
        ("loss", None): ItemScores("loss", None, SUMS[:2], COUNTS[:2], "b c"),
    },
    {("bleu", None): 12.5, ("perplexity", 16): float("nan")},
    "the hash",
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_measured(MEASURED, tmp_path / "items.parquet")
    result = read_measured(tmp_path / "items.parquet")
    assert (result.encoding, result.split, result.checkpoint) == ("Rotary (yarn)", "test", "the hash")
    assert result.values == pytest.approx(dict(MEASURED.values), nan_ok=True)
    assert list(result.scores) == list(MEASURED.scores)
    for key, item in result.scores.items():
        assert (item.metric, item.length, item.identity) == (*key, MEASURED.scores[key].identity)
        np.testing.assert_array_equal(item.sums, MEASURED.scores[key].sums)
        np.testing.assert_array_equal(item.counts, MEASURED.scores[key].counts)
        assert item.sums.dtype == np.float64 and item.counts.dtype == np.int64
    assert [path.name for path in tmp_path.iterdir()] == ["items.parquet"]


def test_a_run_without_scores_is_written_too(tmp_path: Path) -> None:
    write_measured(MeasuredRun("none", "test", {}, {}), tmp_path / "items.parquet")
    assert read_measured(tmp_path / "items.parquet").scores == {}


FACTS = {"version": VERSION, "encoding": "none", "split": "test", "checkpoint": "a", "values": []}
ROWS = {"metric": ["loss"] * 2, "length": [4] * 2, "identity": ["a"] * 2, "sum": [1.0, 2.0], "count": [1, 2]}


def table(path: Path, facts: Any = FACTS, schema: pa.Schema = COLUMNS, **columns: list[Any]) -> Path:
    """A file of two items, but for these facts and columns."""
    text = facts if isinstance(facts, bytes) else json.dumps(facts).encode()
    made = pa.table({**ROWS, **columns}, schema=schema).replace_schema_metadata({"poslab": text})
    pq.write_table(made, path)
    return path


def test_a_file_of_this_form_is_read(tmp_path: Path) -> None:
    assert read_measured(table(tmp_path / "items.parquet")).scores["loss", 4].value == 1


@pytest.mark.parametrize(
    "facts",
    [
        *(b"[]", b"{}", b"\xff", b"[" * 100_000),
        {**FACTS, "split": "train"},
        {**FACTS, "encoding": "a\nb"},
        {**FACTS, "checkpoint": 1},
        {**FACTS, "version": VERSION - 1},
        {key: value for key, value in FACTS.items() if key != "version"},
        {**FACTS, "values": [["bleu", 4, "1"]]},
        {**FACTS, "values": [["bleu", 4]]},
        {**FACTS, "values": [["bleu", 0, 1.0]]},
    ],
)
def test_facts_of_something_else_are_refused(tmp_path: Path, facts: Any) -> None:
    with pytest.raises(ValueError, match=r"items\.parquet is damaged"):
        read_measured(table(tmp_path / "items.parquet", facts))


@pytest.mark.parametrize(
    "columns",
    [
        {"metric": ["../loss", "loss"]},
        {"metric": [None, "loss"]},
        {"length": [0, 4]},
        {"identity": ["\x1b[2J"] * 2},
        {"identity": ["a", "b"]},
        {"count": [1, -2]},
        {"count": [0, 0]},
        {"count": [None, 1]},
        {"schema": COLUMNS.set(3, pa.field("sum", pa.float32()))},
    ],
)
def test_columns_of_something_else_are_refused(tmp_path: Path, columns: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"items\.parquet is damaged"):
        read_measured(table(tmp_path / "items.parquet", **columns))


def test_a_file_of_more_rows_than_memory_has_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(item_files, "MAX_ROWS", 1)
    with pytest.raises(ValueError, match=r"is damaged"):
        read_measured(table(tmp_path / "items.parquet"))


def test_a_file_that_is_not_there_or_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"cannot be.*No such file"):
        read_measured(tmp_path / "items.parquet")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match=r"pipe cannot.*not a regular file$"):
        read_measured(tmp_path / "pipe")
    write_measured(MEASURED, tmp_path / "items.parquet")
    monkeypatch.setattr(item_files, "MAX_BYTES", 100)
    with pytest.raises(ValueError, match=r"must be.*most 100 bytes long"):
        read_measured(tmp_path / "items.parquet")


def test_flipped_bits_are_refused_or_change_nothing_but_names(tmp_path: Path) -> None:
    write_measured(MEASURED, tmp_path / "items.parquet")
    whole = (tmp_path / "items.parquet").read_bytes()
    for position in np.random.default_rng(0).integers(len(whole), size=300).tolist():
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        (tmp_path / "damaged.parquet").write_bytes(damaged)
        try:
            result = read_measured(tmp_path / "damaged.parquet")
        except ValueError as error:
            assert "is damaged" in str(error)
        else:  # bits that nothing depends on
            np.testing.assert_array_equal(result.scores["loss", 16].sums, SUMS)


def test_the_linearised_scores_have_the_mean_and_the_spread_of_the_ratio() -> None:
    generator = np.random.default_rng(0)
    counts = generator.integers(1, 9, size=200)
    sums = counts * generator.normal(3, 1, size=200)
    item = ItemScores("loss", 8, sums, counts, "a")
    assert item.value == pytest.approx(sums.sum() / counts.sum())
    assert item.linearised.mean() == pytest.approx(item.value)
    drawn = generator.integers(200, size=(20_000, 200))
    ratios = sums[drawn].sum(1) / counts[drawn].sum(1)
    assert item.linearised.std() / 200**0.5 == pytest.approx(ratios.std(), rel=0.02)
    each = ItemScores("f1", 8, sums, np.ones(200, np.int64), "a")
    np.testing.assert_allclose(each.linearised, sums)


def test_items_are_shared_that_count_in_all_runs() -> None:
    item = ItemScores("loss", 8, np.array([1.0, 0.0, 3.0]), np.array([1, 0, 1]), "a")
    other = ItemScores("loss", 8, np.array([5.0, 6.0, 0.0]), np.array([1, 2, 0]), "a")
    assert [scores.sums.tolist() for scores in shared_items([item, other])] == [[1.0], [5.0]]
    with pytest.raises(ValueError, match=r"have length 8 and 9$"):
        shared_items([item, ItemScores("loss", 9, item.sums, item.counts, "a")])
