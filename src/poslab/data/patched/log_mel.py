"""Log-mel spectrograms. Dimension letters: N samples, T frames, F frequencies of a spectrum, M bins."""

from functools import cache

import numpy as np
from scipy.fft import rfft
from scipy.signal import get_window

RATE = 16_000
"""Samples in a second."""

FRAMES_PER_SECOND, BINS = 100, 80
HOP, WINDOW, TRANSFORM = 160, 400, 512
"""Samples from one frame to the next, of a window (25 ms), and of its Fourier transform, of which the rest is 0."""

FLOOR = 1e-10
FRAMES_AT_ONCE = 4096


def log_mel(wave_N: np.ndarray) -> np.ndarray:
    """Return the log-mel spectrogram of a sound at 16 kHz, (T, 80) float32; T = max(0, 1 + (N - 400) // 160).

        log10 max(1e-10, sum_f w[f, m] |X_t[f]|^2)

    X_t is the Fourier transform of 25 ms times a periodic Hann window. Frames are 10 ms apart and lie within the sound,
    so that neither end is padded.

    Args:
        wave_N: usually between -1 and 1.
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
    weights: np.ndarray = np.maximum(0, np.minimum(rising, falling))
    return weights
