"""Sources of sounds, and their files, read within bounds. Dimension letters: N samples or sounds, C channels."""

import importlib.util
import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.signal import resample_poly

from poslab.arguments import Count
from poslab.data.kinds.patched import SOUNDS
from poslab.data.patched.files import FolderArrays, HubArrays
from poslab.data.patched.log_mel import BINS, FRAMES_PER_SECOND, RATE, normalised_log_mel
from poslab.data.patched.source import PatchedSource
from poslab.data.paths import require_regular
from poslab.data.source import Share
from poslab.io.files import NotInstalledError
from poslab.io.terminal import one_line

if TYPE_CHECKING:
    from poslab.data.patched.sound_splits import SoundSplits

SUFFIXES = (".wav", ".flac", ".ogg", ".oga")
FORMATS = ("WAV", "WAVEX", "FLAC", "OGG")
"""As libsndfile names them."""

RATES = (4_000, 192_000)
MAX_SECONDS, MAX_CHANNELS = 600, 8
"""Bounds of a file; a few bytes can ask for any numbers."""

CUT = re.compile(r"^data : (\d+) \(should be (\d+)\)$", re.MULTILINE)
"""Line of libsndfile's log for a WAV file with another number of bytes than its header claims."""

STREAMED = 2**31 - 2**16
"""Least number of bytes that a program claims of a WAV file that it writes to a pipe, before it knows how many."""

LARGEST_TERM = 2_000
"""Largest denominator of a ratio of rates."""

LOUDEST = 1000
"""The largest value of a sound, of which 1 is full scale; the Ogg files of many recordings go somewhat beyond that."""

# Raise it with every change of the spectrogram of the same sound: old ones are then not found.
VERSION = 2
MAX_FRAMES = MAX_SECONDS * FRAMES_PER_SECOND


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
        others: those of `PatchedSource`.
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

    def __post_init__(self) -> None:
        if isinstance(self.patch, Sequence) and len(self.patch) != 2:
            raise ValueError(f"patch must be frames, or bins and frames, got {self.patch!r}")
        if BINS % self.patch_sizes[0]:
            raise ValueError(f"patch must have bins that divide {BINS}, got {list(self.patch_sizes)}")
        width = self.patch_sizes[1]
        patches = self.seconds * FRAMES_PER_SECOND / width
        if not 0.5 < patches <= MAX_FRAMES / width or abs(patches - round(patches)) > 1e-6:
            raise ValueError(
                f"seconds must be a multiple of {width / FRAMES_PER_SECOND:g}, the seconds of a patch, up to "
                f"{MAX_SECONDS}, got {self.seconds}"
            )
        for multiple in self.length_multiples:
            self.require_length("length_multiples", multiple * self.trained_length)
        super().__post_init__()

    def open(self, joined: bool = False) -> "SoundSplits":
        from poslab.data.patched.sound_splits import SoundSplits

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


class HubSounds(SoundSource, HubArrays):
    """WAV, FLAC and Ogg files in the rows of a data set on the Hub, and a column of their classes.

    Args:
        audio: the column of the sounds (default `audio`).
        others: those of `SoundSource` and `HubArrays`.
    """

    audio: str = "audio"

    title = "hub_sounds"
    file_argument = "audio"

    @property
    def file_type(self) -> Any:
        from datasets import Audio

        return Audio(decode=False)

    def arrays(self, numbers: Sequence[int], length: int) -> Iterator[np.ndarray]:
        for file, name in self.files(numbers):
            yield self.spectrogram(read_sound(self.file_argument, file, name))


class SoundFolder(SoundSource, FolderArrays):
    """WAV, FLAC and Ogg files in one folder for each class, or in a table, as of `FolderArrays`.

    A model can also recognise classes by different rates or microphones of their files.
    """

    title = "sounds"
    suffixes = SUFFIXES

    def arrays(self, numbers: Sequence[int], length: int) -> Iterator[np.ndarray]:
        for number in numbers:
            yield self.spectrogram(read_sound("path", self.labelled[number][0]))


def require_reader(name: str) -> None:
    """Raise ValueError, beginning with a name, unless the package that reads sounds is installed."""
    if importlib.util.find_spec("soundfile") is None:
        raise NotInstalledError(f"{name} needs the package soundfile, which reads sounds: pip install soundfile")


def read_sound(argument: str, file: Path | BytesIO, name: str | None = None) -> np.ndarray:
    """Return the sound of a file at 16 kHz, (N,) float32, as of `at_16_khz`; several channels become their mean.

    Args:
        argument: name of the argument that names the file, for messages.
        file: path of a WAV, FLAC, Ogg Vorbis or Opus file, or its contents.
        name: of the file in messages; None is its path.

    Raises:
        ValueError: one sentence that begins with `argument`, for a file that is damaged, is none of these, has a rate
            beyond 4 to 192 kHz, more than 8 channels or more than 10 minutes. An Ogg file that is cut may be read as
            far as it goes.
    """
    require_reader(argument)
    import soundfile

    try:
        if isinstance(file, Path):
            require_regular(file)
        with soundfile.SoundFile(file) as opened:
            if opened.format not in FORMATS:
                raise ValueError(f"it is a file of the format {opened.format}")
            if not RATES[0] <= opened.samplerate <= RATES[1]:
                raise ValueError(f"it has {opened.samplerate:,} samples in a second")
            if opened.channels > MAX_CHANNELS:
                raise ValueError(f"it has {opened.channels:,} channels")
            if opened.frames > MAX_SECONDS * opened.samplerate:
                raise ValueError(f"it has {opened.frames / opened.samplerate:,.0f} seconds")
            cut = CUT.search(opened.extra_info)
            if cut and int(cut[2]) < int(cut[1]) < STREAMED:
                raise ValueError(f"its header claims {int(cut[1]):,} bytes of sound, and it holds {int(cut[2]):,}")
            rate = opened.samplerate
            wave_N = _mono(opened, opened.frames, rate)  # of Ogg, the number is an estimate
    except Exception as error:  # whatever the library meets in a file that is not as it should be
        reason = one_line(getattr(error, "error_string", str(error)))  # of the library's, without the file
        named = repr(str(file)) if name is None else name
        raise ValueError(f"{argument} must hold whole sounds, but {named} is not one: {reason}") from error
    return at_16_khz(wave_N, rate)


def at_16_khz(wave_N: np.ndarray, rate: int) -> np.ndarray:
    """Return a sound of a rate in samples per second at 16 kHz; its duration and pitch are right within 0.025 %.

    They are exact for usual rates, such as 11,025, 22,050, 44,100 and 48,000. The filter of a ratio of two rates grows
    with its terms, so that of 44,101 would cost more than the sound: it is rounded to a denominator of at most 2,000.
    """
    ratio = Fraction(RATE, rate).limit_denominator(LARGEST_TERM)
    resampled: np.ndarray = wave_N if ratio == 1 else resample_poly(wave_N, ratio.numerator, ratio.denominator)
    return resampled


def _mono(file: Any, frames: int, at_once: int) -> np.ndarray:
    """Return the mean of the channels of an open file, (N,) float32, of at most so many frames.

    Few are unpacked at once, of which each has all channels: a megabyte of silence can stand for gigabytes.
    """
    waves = [np.zeros(0, np.float32)]
    for first in range(0, frames, at_once):
        wave_NC = file.read(min(at_once, frames - first), dtype="float32", always_2d=True)
        if not len(wave_NC):
            break
        if not np.abs(wave_NC).max() <= LOUDEST:
            raise ValueError(f"it has values that are not numbers up to {LOUDEST:,}")
        waves.append(wave_NC.mean(1))
    return np.concatenate(waves)
