"""Sources of sounds, and their splits, cropped to a length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from poslab.arguments import Count
from poslab.data.patched.arrays import SOUNDS, StoredArrays
from poslab.data.patched.audio import BINS, FRAME_RATE, MAX_SECONDS, normalised_log_mel, read_sound, require_reader
from poslab.data.patched.files import FolderArrays, HubArrays
from poslab.data.patched.source import ArrayBatches, PatchedSource, PatchedSplits
from poslab.data.source import Collating, Share

if TYPE_CHECKING:
    from poslab.data.batch import Batch
    from poslab.data.order import BatchPlan, ExampleOrder

# Raise it with every change of the spectrogram of the same sound: old ones are then not found.
VERSION = 2
MAX_FRAMES = MAX_SECONDS * FRAME_RATE


class SoundSource(PatchedSource):
    """A source of sounds of several classes, whose log-mel spectrogram is cut into patches, the tokens of a model.

    A spectrogram has 80 bins of frequency and 100 frames in a second, each of 25 ms; every sound is resampled to 16
    kHz, and the mean of each bin is subtracted. All sounds are cropped to one length, since the duration can be enough
    to recognise a class: in training at an offset that is drawn by seed and step, in validation and test at their
    beginning. Shorter sounds do not count, so the test has fewer sounds at larger lengths.

    Args:
        seconds: length of the crops of training and validation, a multiple of the frames of a patch (default 1.2).
        length_multiples: lengths of the test, as multiples of that, at least 1; 1 is added.
        patch: frames of a patch that has all bins, so that time is the only axis (default 4); or bins and frames, so
            that frequency and time are axes.
        test_fraction: here 0.2.
        test_examples: here None, which is all of them.
    """

    test_fraction: Share = 0.2
    test_examples: Count | None = None
    seconds: float = 1.2
    length_multiples: Sequence[Count] = (1, 2, 4)
    patch: Count | Sequence[Count] = 4

    kind = SOUNDS
    dtype = "float16"
    channels = 1
    length_means = "duration of a crop in frames of 10 ms"
    patch_unit = "bins and frames"

    def __post_init__(self) -> None:
        if isinstance(self.patch, Sequence) and len(self.patch) != 2:
            raise ValueError(f"patch must be frames, or bins and frames, got {self.patch!r}")
        if BINS % self.patch_sizes[0]:
            raise ValueError(f"patch must have bins that divide {BINS}, got {list(self.patch_sizes)}")
        width = self.patch_sizes[1]
        patches = self.seconds * FRAME_RATE / width
        if not 0.5 < patches <= MAX_FRAMES / width or abs(patches - round(patches)) > 1e-6:
            raise ValueError(
                f"seconds must be a multiple of {width / FRAME_RATE:g}, the seconds of a patch, up to "
                f"{MAX_SECONDS}, got {self.seconds}"
            )
        for multiple in self.length_multiples:
            self.require_length("length_multiples", multiple * self.trained_length)
        super().__post_init__()

    def open(self, joined: bool = False) -> SoundSplits:
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
        return round(self.seconds * FRAME_RATE)

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

    def spectrogram(self, wave_N: np.ndarray) -> np.ndarray:
        """Return the whole spectrogram of a sound, (frames, 80, 1), whatever the length: it is cropped later."""
        return normalised_log_mel(wave_N)[..., None].astype(self.dtype)


class HubSounds(SoundSource, HubArrays):
    """WAV, FLAC and Ogg files in a column of a data set on the Hub, and a column of their classes."""

    audio: str = "audio"

    title = "hub_sounds"
    file_argument = "audio"
    file_type = "Audio"
    column_arguments = ("audio", "label")

    def arrays(self, numbers: Sequence[int], length: int) -> Iterator[np.ndarray]:
        for file, name in self.files(numbers):
            yield self.spectrogram(read_sound(self.file_argument, file, name))


class SoundFolder(HubSounds, FolderArrays):
    """WAV, FLAC and Ogg files in a folder, as of `FolderArrays`.

    A model can also recognise classes by different rates or microphones of their files.
    """

    title = "sounds"
    folder_format = "audiofolder"


class SoundSplits(PatchedSplits):
    """Sounds and their classes, cropped to a length; the test has at each length the sounds that are that long.

    A crop of training begins at a frame that follows from the seed and the index in the stream of training.
    """

    source: SoundSource

    def __init__(self, source: SoundSource) -> None:
        """Open the prepared sounds; ValueError if a split has none that is long enough."""
        super().__init__(source)
        for split in self.facts.num_examples:
            if not len(self.labels(split, self.longest_trained)):
                raise ValueError(
                    f"seconds must be at most the duration of some sounds of {split}, got {self.source.seconds}"
                )

    def lengths_of(self, split: str, max_length: int | None) -> list[int]:
        return [length for length in super().lengths_of(split, max_length) if len(self.labels(split, length))]

    def training_batches(self, task: Collating, plan: BatchPlan) -> Iterable[Batch]:
        from poslab.data.order import ExampleOrder, training_loader

        source, crops = self.source, self._batches("train", self.longest_trained, task)
        repeat = source.batch_size if source.overfit else None
        order = ExampleOrder(crops.num_tokens, source.batch_size, source.seed, repeat)
        return training_loader(TrainingCrops(crops, order), plan, list, source.num_workers)

    @property
    def num_rows(self) -> int | None:
        return None  # crops are not a fixed set

    def report_lines(self, max_length: int | None) -> list[str]:
        counts = (
            f"{len(self.labels('test', length)):,} of {length} frames, {self.most_frequent(length):.1f}%"
            for length in self.lengths
        )
        line = f"sounds of the test that are long enough, and their most frequent class: {'; '.join(counts)}"
        return [*super().report_lines(max_length), line]

    def stored(self, split: str, length: int) -> StoredArrays:
        """Return the whole sounds of a split, which are for all lengths."""
        return super().stored(split, self.longest_trained)

    def labels(self, split: str, length: int) -> np.ndarray:
        stored = self.stored(split, length)
        return stored.labels[stored.sizes[:, 0] >= length]

    def _batches(self, split: str, length: int, task: Collating) -> CropBatches:
        stored = self.stored(split, length)
        return CropBatches(stored, self.source, self.facts.classes, task.collate, length)


@dataclass(eq=False)
class CropBatches(ArrayBatches):
    """Batches of the sounds that have a length in frames, cropped to it at their beginning."""

    length: int

    @cached_property
    def fitting(self) -> np.ndarray:
        """Numbers of the sounds that are long enough."""
        return np.flatnonzero(self.stored.sizes[:, 0] >= self.length)

    @cached_property
    def labels(self) -> np.ndarray:
        return self.stored.labels[self.fitting]

    @property
    def num_tokens(self) -> np.ndarray:
        return np.full(len(self.fitting), self.source.tokens_at(self.length))

    def array(self, number: int, offset: float = 0.0) -> np.ndarray:
        """Return a crop, (bins, frames, 1); `offset`, from 0 to 1, is where it begins in the sound."""
        whole = self.stored[self.fitting[number]]
        first = int(offset * (len(whole) - self.length + 1))
        return whole[first : first + self.length].swapaxes(0, 1)


@dataclass(eq=False)
class TrainingCrops:
    """Batches of training by successive indices of its stream."""

    crops: CropBatches
    order: ExampleOrder

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        numbers = self.order.items(range(indices[0], indices[-1] + 1))
        draws = indices if self.order.repeat is None else [index % self.order.repeat for index in indices]
        begins = [np.random.default_rng([self.order.seed, index]).random() for index in draws]
        arrays = [self.crops.array(number, begin) for number, begin in zip(numbers, begins, strict=True)]
        return self.crops.batch(numbers, arrays, np.full(len(numbers), True))
