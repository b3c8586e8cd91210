"""The base class of all sources of sounds. Dimension letters: N sounds."""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from poslab.data.bounds import require_integer
from poslab.data.kinds.patched import SOUNDS
from poslab.data.patched.source import PatchedSource
from poslab.data.sounds.log_mel import BINS, FRAMES_PER_SECOND, normalised_log_mel
from poslab.data.sounds.reading import MAX_SECONDS, require_reader
from poslab.data.source import Share

if TYPE_CHECKING:
    from poslab.data.sounds.sound_splits import SoundSplits

# Raise it with every change of the spectrogram of the same sound: old ones are then not found.
VERSION = 2
MAX_FRAMES = MAX_SECONDS * FRAMES_PER_SECOND


class SoundSource(PatchedSource):
    """A source of sounds of several classes, whose log-mel spectrogram is cut into patches, the tokens of a model.

    A spectrogram has 80 bins of frequency and 100 frames in a second, each of 25 ms; every sound is resampled to 16
    kHz, and the mean of each of its bins is taken away. All sounds are cropped to one length, since their duration
    alone can tell classes apart: in training at a place that is drawn by seed and step, in validation and test at their
    beginning. Those that are shorter do not count, so the test has fewer sounds at larger lengths.

    Args:
        seconds: length of the crops of training and validation, a multiple of the frames of a patch (default 1.2).
        length_multiples: lengths of the test, as multiples of that, at least 1; 1 is added.
        patch: frames of a patch that has all bins, so that time is the only axis (default 4); or bins and frames, so
            that frequency and time are axes.
        test_fraction: here 0.2.
        test_examples: here None, which is all of them.
        others: those of `PatchedSource`.
    """

    test_fraction: Share = 0.2
    test_examples: int | None = None
    seconds: float = 1.2
    length_multiples: Sequence[int] = (1, 2, 4)
    patch: int | Sequence[int] = 4

    kind = SOUNDS
    dtype = "float16"
    channels = 1
    length_means = "duration of a crop in frames of 10 ms"

    def __post_init__(self) -> None:
        if not isinstance(self.patch, int) and not (isinstance(self.patch, Sequence) and len(self.patch) == 2):
            raise ValueError(f"patch must be frames, or bins and frames, got {self.patch!r}")
        for size, most in zip(self.patch_sizes, (BINS, MAX_FRAMES), strict=True):
            require_integer("patch", size, least=1, most=most)
        if BINS % self.patch_sizes[0]:
            raise ValueError(f"patch must have bins that divide {BINS}, got {list(self.patch_sizes)}")
        if isinstance(self.seconds, bool) or not isinstance(self.seconds, int | float):
            raise ValueError(f"seconds must be a number, got {self.seconds!r}")
        width = self.patch_sizes[1]
        patches = self.seconds * FRAMES_PER_SECOND / width
        if not 0.5 < patches <= MAX_FRAMES / width or abs(patches - round(patches)) > 1e-6:
            raise ValueError(
                f"seconds must be a multiple of {width / FRAMES_PER_SECOND:g}, the seconds of a patch, up to "
                f"{MAX_SECONDS}, got {self.seconds}"
            )
        for multiple in self.length_multiples:
            require_integer("length_multiples", multiple, least=1, most=MAX_FRAMES // self.trained_length)
        super().__post_init__()

    def open(self, joined: bool = False) -> "SoundSplits":
        from poslab.data.sounds.sound_splits import SoundSplits

        return SoundSplits(self)

    def check(self) -> None:
        super().check()
        require_reader(f"dataset={self.title}")

    def require_length(self, name: str, length: int) -> None:
        width = self.patch_sizes[1]
        if length % width or not 1 <= length <= MAX_FRAMES:
            most = MAX_FRAMES // width * width
            raise ValueError(f"{name} must be a multiple of patch={width} up to {most} frames, got {length}")

    @property
    def axes(self) -> tuple[str, ...]:
        return ("time",) if isinstance(self.patch, int) else ("frequency", "time")

    @property
    def patch_sizes(self) -> tuple[int, ...]:
        return (BINS, self.patch) if isinstance(self.patch, int) else tuple(self.patch)

    @property
    def trained_length(self) -> int:
        return round(self.seconds * FRAMES_PER_SECOND)

    @cached_property
    def all_lengths(self) -> list[int]:
        return sorted({self.trained_length * multiple for multiple in (1, *self.length_multiples)})

    def cells_at(self, length: int) -> list[int]:
        bins, frames = self.patch_sizes
        return [BINS // bins, length // frames][-len(self.axes) :]

    def stored_length(self, length: int) -> int:
        return self.trained_length

    def form(self, length: int) -> list[int]:
        return [VERSION]

    def may_have(self, sizes_N2: np.ndarray, length: int) -> bool:
        frames_N, bins_N = sizes_N2.T
        return bool((bins_N == BINS).all() and (frames_N >= 0).all() and (frames_N <= MAX_FRAMES).all())

    @property
    def one_trained(self) -> str:
        return f"a crop of {self.seconds:g} seconds"

    def spectrogram(self, wave_N: np.ndarray) -> np.ndarray:
        """Return the whole spectrogram of a sound, (frames, 80, 1), whatever the length: it is cropped later."""
        return normalised_log_mel(wave_N)[..., None].astype(self.dtype)

    def in_words(self, counts: str, channels: int) -> str:
        patches = f"{self.most_tokens_trained} patches of {' x '.join(map(str, self.patch_sizes))} bins and frames"
        return f"{counts} sounds, {patches} in {self.seconds:g} seconds"
