"""Glyphs that move over a canvas. Dimension letters: N videos, T frames, H height, W width."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Annotated, NamedTuple

import numpy as np

from poslab.arguments import Count, Range
from poslab.data.columns import Splits
from poslab.data.patched.arrays import VIDEOS
from poslab.data.patched.glyphs import Glyphs, Variants
from poslab.data.patched.source import PatchedSource

DIRECTIONS = {
    "up": (-1, 0),
    "up right": (-1, 1),
    "right": (0, 1),
    "down right": (1, 1),
    "down": (1, 0),
    "down left": (1, -1),
    "left": (0, -1),
    "up left": (-1, -1),
}
"""Pixels down and to the right in one frame, at a speed of 1."""

SPEEDS = (1, 2, 3)  # pixels of a frame; all are equally likely

MAX_FRAMES = 1024


class Motion(NamedTuple):
    """The path of a glyph: its position in the first frame, a direction and a speed."""

    start: tuple[int, int]
    direction: str
    speed: int


class MovingGlyphs(PatchedSource):
    """Letters and digits that move over a black canvas along a drawn path; the class is the direction.

    A glyph keeps one of eight directions and one of three speeds, and what leaves the canvas at an edge comes in at the
    opposite one. A video that is played backwards has the opposite class, so the order of frames matters. The path of a
    glyph is a function of its number; a longer video continues along it.

    Args:
        frames: of a video of training and validation, a multiple of the frames of a patch (default 8).
        test_frames: of the videos of the test, each of which has all its videos at each of these; `frames` is added.
        canvas: side of a frame in pixels, a multiple of the side of a patch, at most 256 (default 24).
        side: of the glyph in pixels, at least 1 and at most `canvas` (default 12).
        patch: frames, rows and columns of a patch (default 1, 4, 4). One of several frames shows a part of the motion.
        variants: videos of each character in each font, as of `Glyphs`.
        others: as in `PatchedSource`; `test_examples` is 1000 here.
    """

    batch_size: Count = 32
    test_examples: Count | None = 1000
    frames: Count = 8
    test_frames: Sequence[Count] = (4, 8, 16, 32)
    canvas: Annotated[int, Range(1, 256)] = 24
    side: Count = 12
    patch: Sequence[Count] = (1, 4, 4)
    variants: Variants = 8

    title = "moving_glyphs"
    kind = VIDEOS
    axes = ("time", "height", "width")
    channels = 1
    length_means = "number of frames"
    patch_unit = "frames and pixels"

    def __post_init__(self) -> None:
        if len(self.patch) != 3:
            raise ValueError(f"patch must be frames, rows and columns, got {list(self.patch)}")
        if any(self.canvas % size for size in self.patch[1:]):
            sides = " and ".join(map(str, self.patch[1:]))
            raise ValueError(f"canvas must be a multiple of {sides}, the sides of a patch, got {self.canvas}")
        if self.side > self.canvas:
            raise ValueError(f"side must be at most canvas={self.canvas}, got {self.side}")
        self.require_length("frames", self.frames)
        for length in self.test_frames:
            self.require_length("test_frames", length)
        super().__post_init__()

    def require_length(self, name: str, length: int) -> None:
        frames = self.patch[0]
        most = MAX_FRAMES // frames * frames
        if length % frames or not 1 <= length <= most:
            raise ValueError(f"{name} must be a multiple of patch={frames} up to {most} frames, got {length}")

    @property
    def patch_sizes(self) -> tuple[int, ...]:
        return tuple(self.patch)

    @property
    def trained_length(self) -> int:
        return self.frames

    @cached_property
    def all_lengths(self) -> list[int]:
        return sorted({self.frames, *self.test_frames})

    def cells_at(self, length: int) -> list[int]:
        frames, rows, columns = self.patch
        return [length // frames, self.canvas // rows, self.canvas // columns]

    def may_have(self, sizes_N3: np.ndarray, length: int) -> bool:
        return bool((sizes_N3 == (length, self.canvas, self.canvas)).all())

    @cached_property
    def identity(self) -> str:
        return f"{self._stills.identity} {self.canvas} {self.side}"

    def examples(self) -> Splits:
        stills = self._stills.examples()["train"]
        directions = [self.motion(number).direction for number in stills["number"]]
        return {"train": stills.remove_columns("label").add_column("label", directions)}

    def arrays(self, numbers: Sequence[int], length: int) -> Iterator[np.ndarray]:
        for number, still in zip(numbers, self._stills.arrays(numbers, self.side), strict=True):
            yield moving(still[..., 0], self.canvas, self.motion(number), length)[..., None]

    def motion(self, number: int) -> Motion:
        *start, direction, speed = np.random.default_rng(number).integers(
            [self.canvas, self.canvas, len(DIRECTIONS), len(SPEEDS)]
        )
        return Motion((int(start[0]), int(start[1])), list(DIRECTIONS)[direction], SPEEDS[speed])

    @cached_property
    def _stills(self) -> Glyphs:
        return Glyphs(variants=self.variants, side=self.side, sides=[], patch=self.side, sequence_length=1)


def moving(image_HW: np.ndarray, canvas: int, motion: Motion, frames: int) -> np.ndarray:
    """Return the video of an image that moves along a path, (T, canvas, canvas); edges of the canvas are joined."""
    first = np.zeros((canvas, canvas), image_HW.dtype)
    first[: len(image_HW), : len(image_HW)] = image_HW
    steps_T2 = np.array(motion.start) + np.arange(frames)[:, None] * motion.speed * np.array(
        DIRECTIONS[motion.direction]
    )
    return np.stack([np.roll(first, step, (0, 1)) for step in steps_T2])
