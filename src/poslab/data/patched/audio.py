"""Files of sounds, read within bounds, and their log-mel spectrograms.

Dimension letters: N samples, C channels, T frames, F frequencies of a spectrum, M bins.
"""

import importlib.util
import re
from fractions import Fraction
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.fft import rfft
from scipy.signal import get_window, resample_poly

from poslab.io.files import NotInstalledError, require_regular
from poslab.io.terminal import one_line

if TYPE_CHECKING:
    from soundfile import SoundFile

FORMATS = ("WAV", "WAVEX", "FLAC", "OGG")  # as libsndfile names them

RATES = (4_000, 192_000)
MAX_SECONDS, MAX_CHANNELS = 600, 8  # bounds of a file; a few bytes can ask for any numbers

CUT = re.compile(r"^data : (\d+) \(should be (\d+)\)$", re.MULTILINE)
"""Line of libsndfile's log for a WAV file with another number of bytes than its header claims."""

STREAMED = 2**31 - 2**16
"""Least number of bytes that a program claims of a WAV file that it writes to a pipe, before it knows how many."""

LARGEST_TERM = 2_000  # largest denominator of a ratio of rates

LOUDEST = 1000
"""The largest value of a sound, of which 1 is full scale; the Ogg files of many recordings go somewhat beyond that."""

RATE = 16_000  # samples in a second

FRAME_RATE, BINS = 100, 80
HOP, WINDOW, TRANSFORM = 160, 400, 512
"""Samples from one frame to the next, of a window (25 ms), and of its Fourier transform, of which the rest is 0."""

FLOOR = 1e-10
FRAMES_AT_ONCE = 4096


def require_reader(name: str) -> None:
    """Raise ValueError, starting with a name, unless the package that reads sounds is installed."""
    if importlib.util.find_spec("soundfile") is None:
        raise NotInstalledError(f"{name} needs the package soundfile, which reads sounds: pip install soundfile")


def read_sound(argument: str, file: Path | BytesIO, name: str | None = None) -> np.ndarray:
    """Return the sound of a file at 16 kHz, (N,) float32, as of `at_16_khz`; several channels become their mean.

    Args:
        argument: name of the argument that names the file, with which messages start.
        file: path of a WAV, FLAC, Ogg Vorbis or Opus file, or its contents.
        name: of the file in messages; None is its path.

    Raises:
        ValueError: for a file that is damaged, is none of these, has a rate beyond 4 to 192 kHz, more than 8 channels
            or more than 10 minutes. An Ogg file that is cut may be read as far as it goes.
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
                raise ValueError(f"its header claims {int(cut[1]):,} bytes of sound, and it contains {int(cut[2]):,}")
            rate = opened.samplerate
            wave_N = _mono(opened, opened.frames, rate)  # of Ogg, the number is an estimate
    except Exception as error:  # whatever the library meets in a file that is not as it should be
        reason = one_line(getattr(error, "error_string", str(error)))  # of the library's, without the file
        named = repr(str(file)) if name is None else name
        raise ValueError(f"{argument} must contain whole sounds, but {named} is not one: {reason}") from error
    return at_16_khz(wave_N, rate)


def at_16_khz(wave_N: np.ndarray, rate: int) -> np.ndarray:
    """Return a sound of a rate in samples per second at 16 kHz; its duration and pitch are right within 0.025%.

    They are exact for usual rates, such as 11,025, 22,050, 44,100 and 48,000. The filter of a ratio of two rates grows
    with its terms, so 44,101's would cost more than the sound: it is rounded to a denominator of at most 2,000.
    """
    ratio = Fraction(RATE, rate).limit_denominator(LARGEST_TERM)
    return wave_N if ratio == 1 else resample_poly(wave_N, ratio.numerator, ratio.denominator)


def _mono(file: "SoundFile", frames: int, at_once: int) -> np.ndarray:
    """Return the mean of the channels, (N,) float32; few frames at once, as a megabyte of silence can be gigabytes."""
    waves = [np.zeros(0, np.float32)]
    for first in range(0, frames, at_once):
        wave_NC = file.read(min(at_once, frames - first), dtype="float32", always_2d=True)
        if not len(wave_NC):
            break
        if not np.abs(wave_NC).max() <= LOUDEST:
            raise ValueError(f"it has values that are not numbers up to {LOUDEST:,}")
        waves.append(wave_NC.mean(1))
    return np.concatenate(waves)


def log_mel(wave_N: np.ndarray) -> np.ndarray:
    """Return the log-mel spectrogram of a sound at 16 kHz, (T, 80) float32; T = max(0, 1 + (N - 400) // 160).

        log10 max(1e-10, sum_f w[f, m] |X_t[f]|^2)

    X_t is the Fourier transform of 25 ms times a periodic Hann window. Frames are 10 ms apart and lie within the sound,
    so that neither end is padded.
    """
    if len(wave_N) < WINDOW:
        return np.zeros((0, BINS), np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(wave_N, WINDOW)[::HOP]
    hann, weights_FM = get_window("hann", WINDOW), mel_weights()
    spectrum_TM = np.empty((len(frames), BINS), np.float32)
    for first in range(0, len(frames), FRAMES_AT_ONCE):  # which bounds the memory
        power_TF = np.abs(rfft(frames[first : first + FRAMES_AT_ONCE] * hann, TRANSFORM)) ** 2
        spectrum_TM[first : first + FRAMES_AT_ONCE] = np.log10(np.maximum(FLOOR, power_TF @ weights_FM))
    return spectrum_TM


def normalised_log_mel(wave_N: np.ndarray) -> np.ndarray:
    """Return a log-mel spectrogram less the mean of each bin over the sound, (T, 80) float32.

    That removes the loudness and the colour of a microphone, by which a model could recognise classes of one speaker
    each: mean normalisation, Atal 1974.
    """
    spectrum_TM = log_mel(wave_N)
    return spectrum_TM - spectrum_TM.mean(0) if len(spectrum_TM) else spectrum_TM


@cache
def mel_weights() -> np.ndarray:
    """Return the weights of the frequencies in each bin, (F, M): triangles whose corners are equally far apart in mel.

        mel(f) = 2595 log10(1 + f / 700)

    Bin m rises from corner m to corner m + 1, where it is 1, and falls to corner m + 2, of M + 2 corners from 0 to 8
    kHz. O'Shaughnessy, "Speech Communication" (1987), as HTK and Kaldi have it.
    """
    corners = 700 * (10 ** (np.linspace(0, np.log10(1 + RATE / 2 / 700), BINS + 2)) - 1)
    frequencies_F1 = np.linspace(0, RATE / 2, TRANSFORM // 2 + 1)[:, None]
    widths = np.diff(corners)
    rising, falling = (frequencies_F1 - corners[:-2]) / widths[:-1], (corners[2:] - frequencies_F1) / widths[1:]
    return np.maximum(0, np.minimum(rising, falling))
