"""Small files of sounds, and runs over them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile


def tone(seconds: float, hertz: float, rate: int = 16_000, seed: int = 0) -> np.ndarray:
    """Return a tone with some noise, (N,)."""
    times = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(seed).normal(0, 0.01, len(times))
    return 0.3 * np.sin(2 * np.pi * hertz * times) + noise


def sweep(seconds: float, rises: bool, rate: int = 16_000, seed: int = 0) -> np.ndarray:
    """Return a tone that rises again and again from 400 to 6400 Hz in a tenth of a second, or falls, (N,)."""
    times = np.arange(round(seconds * rate)) / rate
    octaves = times * 10 % 1
    phase = 2 * np.pi * np.cumsum(400 * 16 ** (octaves if rises else 1 - octaves)) / rate
    return 0.3 * np.sin(phase) + np.random.default_rng(seed).normal(0, 0.01, len(times))


def write_sounds(folder: Path, durations: Sequence[float] = (0.2, 0.3, 0.5), count: int = 24) -> Path:
    """Write `count` WAV files of these durations in turn into the folders of two classes, of rising tones and others.

    They differ in the order of their frames alone: the mean of a sound, which is taken away, is the same.
    """
    for label in ("falling", "rising"):
        (folder / label).mkdir(parents=True)
        for number in range(count):
            wave = sweep(durations[number % len(durations)], label == "rising", seed=sum(label.encode()) + 99 * number)
            soundfile.write(folder / label / f"{number:03}.wav", wave, 16_000)
    return folder
