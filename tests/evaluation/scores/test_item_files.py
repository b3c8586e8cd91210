"""Item scores are read as they were written, and a file that is something else is refused."""

import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from poslab.evaluation.scores.item_files import VERSION, read_measured, write_measured
from poslab.evaluation.scores.items import ItemScores, MeasuredRun, shared_items

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
HEADER = {"version": VERSION, "encoding": "none", "split": "test", "checkpoint": "a", "values": []}
ENTRY = {"metric": "loss", "length": 4, "items": 2, "identity": "a"}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_measured(MEASURED, tmp_path / "items.npz")
    found = read_measured(tmp_path / "items.npz")
    assert (found.encoding, found.split, found.checkpoint) == ("Rotary (yarn)", "test", "the hash")
    assert found.values == pytest.approx(dict(MEASURED.values), nan_ok=True)
    assert list(found.scores) == list(MEASURED.scores)
    for key, one in found.scores.items():
        assert (one.metric, one.length, one.identity) == (*key, MEASURED.scores[key].identity)
        np.testing.assert_array_equal(one.sums, MEASURED.scores[key].sums)
        np.testing.assert_array_equal(one.counts, MEASURED.scores[key].counts)
        assert one.sums.dtype == np.float64 and one.counts.dtype == np.int64
    assert [path.name for path in tmp_path.iterdir()] == ["items.npz"]


def test_a_run_without_scores_is_written_too(tmp_path: Path) -> None:
    write_measured(MeasuredRun("none", "test", {}, {}), tmp_path / "items.npz")
    assert read_measured(tmp_path / "items.npz").scores == {}


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asarray(array))
    return file.getvalue()


def archive(path: Path, header: Any, compression: int = zipfile.ZIP_STORED, **entries: bytes) -> Path:
    """A file of two items, but for these entries."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    parts = {"header": npy(np.frombuffer(text, np.uint8)), "sums": npy([1.0, 2.0]), "counts": npy([1, 2])} | entries
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in parts.items():
            file.writestr(f"{name}.npy", content)
    return path


def test_a_file_of_this_form_is_read(tmp_path: Path) -> None:
    found = read_measured(archive(tmp_path / "items.npz", {**HEADER, "scores": [ENTRY]}))
    assert found.scores["loss", 4].value == 1


@pytest.mark.parametrize(
    "header",
    [
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        {**HEADER, "scores": []},
        {**HEADER, "scores": [{**ENTRY, "items": 3}]},
        {**HEADER, "scores": [{**ENTRY, "items": -1}, {**ENTRY, "items": 3, "length": 5}]},
        {**HEADER, "scores": [{**ENTRY, "items": True}, {**ENTRY, "items": 1, "length": 5}]},
        {**HEADER, "scores": [{**ENTRY, "items": 1}, {**ENTRY, "items": 1}]},
        {**HEADER, "scores": [{**ENTRY, "metric": "../loss"}]},
        {**HEADER, "scores": [{**ENTRY, "metric": ["loss"]}]},
        {**HEADER, "scores": [{**ENTRY, "length": 0}]},
        {**HEADER, "scores": [{**ENTRY, "length": 4.0}]},
        {**HEADER, "scores": [{**ENTRY, "identity": "\x1b[2J"}]},
        {**HEADER, "scores": [ENTRY], "split": "train"},
        {**HEADER, "scores": [ENTRY], "encoding": "a\nb"},
        {**HEADER, "scores": [ENTRY], "checkpoint": 1},
        {**HEADER, "scores": [ENTRY], "version": VERSION - 1},
        {key: value for key, value in {**HEADER, "scores": [ENTRY]}.items() if key != "version"},
        {**HEADER, "scores": [ENTRY], "values": [{"metric": "bleu", "length": 4, "value": "1"}]},
        {**HEADER, "scores": [ENTRY], "values": [{"metric": "bleu", "length": 4}]},
    ],
)
def test_a_header_of_something_else_is_refused(tmp_path: Path, header: Any) -> None:
    with pytest.raises(ValueError, match=r"items\.npz is damaged: it does not hold the scores of a run$"):
        read_measured(archive(tmp_path / "items.npz", header))


HUGE = npy([1.0, 2.0]).replace(b"(2,)", b"(2000000000000,)".ljust(4))


@pytest.mark.parametrize(
    "entries",
    [
        {"sums": npy([1, 2])},
        {"sums": npy([[1.0, 2.0]])},
        {"sums": npy([1.0])},
        {"sums": npy([1.0, 2.0])[:-1]},
        {"sums": HUGE},
        {"sums": b""},
        {"counts": npy([1, -2])},
        {"counts": npy([0, 0])},
        {"other": npy([1.0])},
    ],
)
def test_an_array_of_something_else_is_refused(tmp_path: Path, entries: dict[str, bytes]) -> None:
    with pytest.raises(ValueError, match=r"is damaged"):
        read_measured(archive(tmp_path / "items.npz", {**HEADER, "scores": [ENTRY]}, **entries))


def test_code_and_compressed_entries_are_refused(tmp_path: Path) -> None:
    file = io.BytesIO()
    np.lib.format.write_array(file, np.array([print, print]))
    header = {**HEADER, "scores": [ENTRY]}
    for path in (
        archive(tmp_path / "code.npz", header, sums=file.getvalue()),
        archive(tmp_path / "small.npz", header, zipfile.ZIP_DEFLATED),
    ):
        with pytest.raises(ValueError, match=r"is damaged"):
            read_measured(path)


def test_a_file_that_is_not_there_or_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"cannot be read: No such file"):
        read_measured(tmp_path / "items.npz")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match=r"pipe cannot be read: it is not a regular file$"):
        read_measured(tmp_path / "pipe")
    write_measured(MEASURED, tmp_path / "items.npz")
    monkeypatch.setattr("poslab.evaluation.scores.item_files.MAX_BYTES", 100)
    with pytest.raises(ValueError, match=r"must be at most 100 bytes long"):
        read_measured(tmp_path / "items.npz")


def test_flipped_bits_are_refused_or_change_nothing_but_names(tmp_path: Path) -> None:
    write_measured(MEASURED, tmp_path / "items.npz")
    whole = (tmp_path / "items.npz").read_bytes()
    for place in np.random.default_rng(0).integers(len(whole), size=300).tolist():
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        (tmp_path / "damaged.npz").write_bytes(damaged)
        try:
            found = read_measured(tmp_path / "damaged.npz")
        except ValueError as error:
            assert "is damaged" in str(error)
        else:  # a date or an attribute of the archive
            np.testing.assert_array_equal(found.scores["loss", 16].sums, SUMS)


def test_the_linearised_scores_have_the_mean_and_the_spread_of_the_ratio() -> None:
    generator = np.random.default_rng(0)
    counts = generator.integers(1, 9, size=200)
    sums = counts * generator.normal(3, 1, size=200)
    one = ItemScores("loss", 8, sums, counts, "a")
    assert one.value == pytest.approx(sums.sum() / counts.sum())
    assert one.linearised.mean() == pytest.approx(one.value)
    drawn = generator.integers(200, size=(20_000, 200))
    ratios = sums[drawn].sum(1) / counts[drawn].sum(1)
    assert one.linearised.std() / 200**0.5 == pytest.approx(ratios.std(), rel=0.02)
    each = ItemScores("f1", 8, sums, np.ones(200, np.int64), "a")
    np.testing.assert_allclose(each.linearised, sums)


def test_items_are_shared_that_count_in_all_runs() -> None:
    one = ItemScores("loss", 8, np.array([1.0, 0.0, 3.0]), np.array([1, 0, 1]), "a")
    other = ItemScores("loss", 8, np.array([5.0, 6.0, 0.0]), np.array([1, 2, 0]), "a")
    assert [own.sums.tolist() for own in shared_items([one, other])] == [[1.0], [5.0]]
    with pytest.raises(ValueError, match=r"have length 8 and 9$"):
        shared_items([one, ItemScores("loss", 9, one.sums, one.counts, "a")])
