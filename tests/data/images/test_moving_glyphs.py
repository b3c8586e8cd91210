"""Glyphs move along their paths, and only the order of frames tells a direction from its opposite."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from poslab.data.patched.arrays import StoredArrays, patches_of
from poslab.data.patched.moving_glyphs import DIRECTIONS, SPEEDS, Motion, MovingGlyphs, moving

NUM_GLYPHS = 62 * 21
OPPOSITE = {
    name: next(other for other, (y, x) in DIRECTIONS.items() if (-y, -x) == step) for name, step in DIRECTIONS.items()
}


def source_of(tmp_path: Path, **arguments: Any) -> MovingGlyphs:
    settings: dict[str, Any] = {"variants": 1, "cache_dir": str(tmp_path / "cache"), "canvas": 12, "side": 8}
    settings |= {"frames": 4, "test_frames": [2, 8], "sequence_length": 36, "batch_size": 16}
    return MovingGlyphs(**settings | arguments)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("speed", SPEEDS)
def test_a_frame_is_the_first_one_moved_and_edges_are_joined(direction, speed):
    """As a double loop over the pixels has it."""
    image = np.random.default_rng(0).integers(1, 256, (3, 3)).astype(np.uint8)
    video = moving(image, 7, Motion((5, 2), direction, speed), 6)
    down, right = DIRECTIONS[direction]
    expected = np.zeros((6, 7, 7), np.uint8)
    for frame, y, x in itertools.product(range(6), range(3), range(3)):
        expected[frame, (5 + y + frame * speed * down) % 7, (2 + x + frame * speed * right) % 7] = image[y, x]
    assert np.array_equal(video, expected)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_video_backwards_is_one_of_the_opposite_class(direction):
    image = np.random.default_rng(0).integers(1, 256, (4, 4)).astype(np.uint8)
    video = moving(image, 12, Motion((3, 8), direction, 2), 5)
    last = tuple((place + 4 * 2 * step) % 12 for place, step in zip((3, 8), DIRECTIONS[direction], strict=True))
    assert np.array_equal(video[::-1], moving(image, 12, Motion(last, OPPOSITE[direction], 2), 5))


def test_a_longer_video_goes_on_along_the_path(tmp_path):
    source = source_of(tmp_path)
    for short, long in zip(source.arrays(range(20), 4), source.arrays(range(20), 8), strict=True):
        assert short.shape == (4, 12, 12, 1) and np.array_equal(short, long[:4])


def test_paths_are_a_function_of_the_number_and_cover_all_directions_and_speeds(tmp_path):
    source = source_of(tmp_path)
    paths = [source.motion(number) for number in range(500)]
    assert paths == [source_of(tmp_path, seed=7).motion(number) for number in range(500)]
    assert {(path.direction, path.speed) for path in paths} == set(itertools.product(DIRECTIONS, SPEEDS))
    assert {path.start[0] for path in paths} == {path.start[1] for path in paths} == set(range(12))


def test_prepared_videos_are_those_of_the_source_with_their_classes(tmp_path):
    source = source_of(tmp_path)
    folder = source.prepare_at(4)
    made = {video.tobytes(): source.motion(number) for number, video in enumerate(source.arrays(range(NUM_GLYPHS), 4))}
    classes, seen = sorted(DIRECTIONS), 0
    for split in ("train", "validation", "test"):
        stored = StoredArrays(folder, split, 3, 1)
        for number, label in enumerate(stored.labels):
            path = made[stored[number].tobytes()]
            assert stored[number].shape == (4, 12, 12, 1) and path.direction == classes[label]
            seen += 1
    assert seen == len(set(source.examples()["train"]["content"][:])) > 1000


@pytest.mark.parametrize("patch", [(1, 2, 3), (2, 2, 1), (4, 4, 6)])
def test_patches_of_a_video_are_those_of_a_loop(patch):
    video = np.random.default_rng(0).integers(0, 256, (4, 4, 6, 2)).astype(np.uint8)
    patches, number = patches_of(video, patch), 0
    starts = [range(0, size, side) for size, side in zip(video.shape, patch, strict=False)]
    for corner in itertools.product(*starts):
        places = itertools.product(*(range(first, first + side) for first, side in zip(corner, patch, strict=True)))
        assert patches[number].tolist() == [value for place in places for value in video[place].tolist()]
        number += 1
    assert number == len(patches)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"patch": [4, 4]}, r"^patch must .*got \[4, 4\]$"),
        ({"patch": [0, 4, 4]}, r"^patch must .*got \[0, 4, 4\]$"),
        ({"patch": [2, 4, 4], "frames": 5}, r"^frames must .*got 5$"),
        (
            {"patch": [2, 4, 4], "test_frames": [4, 7]},
            r"^test_frames must .*got 7$",
        ),
        ({"canvas": 10}, r"^canvas must .*got 10$"),
        ({"side": 13}, r"^side must .*got 13$"),
        ({"frames": 1025}, r"^frames must .*got 1025$"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        source_of(tmp_path, **arguments)


def test_a_cache_that_is_named_serves_where_the_usual_one_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null/cache")
    source_of(tmp_path).check()
