"""Prepared images are those of their source, divided without overlap, and made again where they are damaged."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from poslab.data import cache
from poslab.data.patched.arrays import ArrayFacts, StoredArrays, patches_of
from poslab.data.patched.glyphs import Glyphs
from poslab.data.patched.images import HubImages, ImageFolder, ImageSource
from poslab.data.run_data import RunData
from poslab.data.source import HELD_OUT, SPLITS
from poslab.tasks.patch_classification import ImageClassification

from ..conftest import seal
from .small import write_fashion, write_images


def fashion(tmp_path: Path, **arguments: Any) -> HubImages:
    folder = tmp_path / "files"
    settings: dict[str, Any] = {"side": 8, "sides": [8, 16], "sequence_length": 4, "batch_size": 16}
    settings |= {"cache_dir": str(tmp_path / "cache"), "path": str(folder), "test_split": "test"}
    if not folder.exists():
        write_fashion(folder)
    return HubImages(**settings | arguments)


def opened(source: ImageSource) -> RunData:
    data = RunData(source)
    data.prepare_data()
    data.setup()
    data.connect(ImageClassification.of(data), None)
    return data


@pytest.mark.slow
def test_stored_images_are_those_of_the_source_at_each_side(tmp_path):
    source = fashion(tmp_path)
    numbers = {side: {} for side in (8, 16)}
    everything = {side: [p.tobytes() for p in source.arrays(range(240), side)] for side in (8, 16)}
    for side, splits in ((8, SPLITS), (16, HELD_OUT)):
        folder = source.prepare_at(side)
        for name in splits:
            stored = StoredArrays(folder, name, 2, 1)
            found = [everything[side].index(stored[number].tobytes()) for number in range(len(stored))]
            assert [int(label) for label in stored.labels] == [
                sorted({"T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker"}).index(label)
                for label in (str(source.examples()[of]["label"][at]) for of, at in map(_place, found))
            ]
            numbers[side][name] = found
    assert numbers[16] == {name: numbers[8][name] for name in HELD_OUT}
    assert set(numbers[8]["test"]) == set(range(200, 240))
    assert not set(numbers[8]["train"]) & set(numbers[8]["validation"])


def _place(number: int) -> tuple[str, int]:
    return ("train", number) if number < 200 else ("test", number - 200)


def test_mean_and_deviation_are_those_of_training(tmp_path):
    source = ImageFolder(
        path=str(write_images(tmp_path / "p", [(8, 8), (24, 8)], count=12)),
        side=8,
        sides=[],
        sequence_length=4,
        cache_dir=str(tmp_path / "cache"),
    )
    folder = source.prepare_at(8)
    facts, stored = cache.read_facts(folder, ArrayFacts), StoredArrays(folder, "train", 2, 3)
    pixels = np.concatenate([stored[number].reshape(-1, 3) for number in range(len(stored))]).astype(np.float64)
    assert facts.mean == pytest.approx(pixels.mean(0).tolist()) and facts.channels == 3
    assert facts.deviation == pytest.approx(pixels.std(0).tolist())


def test_no_two_splits_share_a_font(tmp_path):
    source = Glyphs(variants=1, side=8, sides=[], sequence_length=4, cache_dir=str(tmp_path))
    data = opened(source)
    assert data.splits.facts.classes == sorted("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
    drawn: dict[bytes, set[str]] = {}
    for number, image in enumerate(source.arrays(range(21 * 62), 8)):
        drawn.setdefault(image.tobytes(), set()).add(source._row(number)[0])
    fonts = {}
    for split in SPLITS:
        stored = data.held_out(split, 8).stored
        of_images = [drawn[stored[number].tobytes()] for number in range(len(stored))]
        fonts[split] = set().union(*(own for own in of_images if len(own) == 1))  # some look alike in two fonts
    assert all(fonts.values()) and sum(map(len, fonts.values())) == len(set().union(*fonts.values()))


def test_at_most_so_many_images_are_held_out_and_the_same_at_all_sides(tmp_path):
    data = opened(fashion(tmp_path, test_examples=9))
    assert data.splits.facts.num_examples == {"train": 180, "validation": 9, "test": 9}
    labels = [data.held_out("test", side).stored.labels.tolist() for side in (8, 16)]
    assert labels[0] == labels[1]


def test_lengths_are_sides_as_far_as_the_model_has_positions(tmp_path):
    data = opened(fashion(tmp_path, sides=[4, 16]))
    assert (data.lengths_of("validation"), data.lengths_of("test")) == ([8], [4, 8, 16])
    data.max_length = 4
    assert data.lengths_of("test") == [4, 8] and list(data.splits.lengths) == [4, 8, 16]
    assert data.held_out("test", 32).num_tokens.tolist() == [64] * 40  # a side that was not prepared
    with pytest.raises(ValueError, match=r"^lengths must .*got 30$"):
        data.held_out("test", 30)


def test_a_batch_has_patches_row_after_row_and_rows_that_do_not_count(tmp_path):
    data = opened(fashion(tmp_path))
    items = data.held_out("test", 16)
    batch = items.__getitems__([38, 39, 40])
    assert (batch.classes == -100).tolist() == [False, False, True]
    assert batch.sizes is None and batch.real is None and batch.grid == {"height": 4, "width": 4}
    expected = (items.stored[39].astype(np.float64) - data.splits.facts.mean[0]) / data.splits.facts.deviation[0]
    for row in range(4):
        for column in range(4):
            patch = expected[4 * row : 4 * row + 4, 4 * column : 4 * column + 4].ravel()
            assert np.abs(batch.patches[1, 4 * row + column].numpy() - patch).max() < 1e-5


@pytest.mark.parametrize(("height", "width", "channels", "patch"), [(6, 9, 3, 3), (4, 8, 1, 4), (5, 3, 3, 1)])
def test_patches_are_those_of_a_double_loop_and_go_back(height, width, channels, patch):
    image = np.random.default_rng(0).integers(0, 256, (height, width, channels)).astype(np.uint8)
    patches, back = patches_of(image, (patch, patch)), np.zeros_like(image)
    number = 0
    for top in range(0, height, patch):
        for left in range(0, width, patch):
            own = [image[top + y, left + x, c] for y in range(patch) for x in range(patch) for c in range(channels)]
            assert patches[number].tolist() == own
            back[top : top + patch, left : left + patch] = patches[number].reshape(patch, patch, channels)
            number += 1
    assert number == len(patches) and np.array_equal(back, image)


def damaged_facts(folder: Path, **changes: Any) -> None:
    facts = json.loads((folder / cache.FACTS).read_text())
    (folder / cache.FACTS).write_text(json.dumps(facts | changes))


WAYS = {
    "more images": lambda folder: damaged_facts(folder, num_examples={"train": 9, "validation": 20, "test": 40}),
    "no test": lambda folder: damaged_facts(folder, num_examples={"train": 180, "validation": 20}),
    "one class": lambda folder: damaged_facts(folder, classes=["T-shirt"]),
    "three colours": lambda folder: damaged_facts(folder, channels=3, mean=[1.0] * 3, deviation=[1.0] * 3),
    "a deviation of 0": lambda folder: damaged_facts(folder, deviation=[0.0]),
    "a mean that is no number": lambda folder: damaged_facts(folder, mean=[float("nan")]),
    "labels that there are not": lambda folder: np.full(40, 8, np.int32).tofile(folder / "test.labels"),
    "labels below 0": lambda folder: np.full(40, -1, np.int32).tofile(folder / "test.labels"),
    "half a size": lambda folder: (folder / "test.sizes").write_bytes(bytes(12)),
    "sizes of 0": lambda folder: np.zeros((40, 2), np.int32).tofile(folder / "test.sizes"),
    "sizes that patches do not fill": lambda folder: np.full((40, 2), [1, 64], np.int32).tofile(folder / "test.sizes"),
    "pixels without end": lambda folder: (folder / "test.values").write_bytes(bytes(9999)),
}


def test_sizes_of_as_many_patches_and_pixels_are_those_of_other_images(tmp_path, capsys):
    source = fashion(tmp_path)
    folder = source.prepare_at(8)
    np.full((40, 2), [4, 16], np.int32).tofile(folder / "test.sizes")
    seal(folder)
    assert source.prepare_at(8) == folder and "prepared again" not in capsys.readouterr().err


@pytest.mark.parametrize("way", WAYS)
def test_arrays_that_do_not_fit_together_are_made_again(tmp_path, way, capsys):
    """Also where checksums fit, as in a folder of somebody else."""
    source = fashion(tmp_path)
    folder = source.prepare_at(8)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    WAYS[way](folder)
    seal(folder)
    source.prepare_at(8)
    assert "the data is prepared again" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
