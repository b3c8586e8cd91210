"""Spectrograms are those of the definition, as another implementation has them."""

import numpy as np
import pytest
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

from poslab.data.patched.audio import BINS, log_mel, mel_weights, normalised_log_mel


def theirs(wave: np.ndarray) -> np.ndarray:
    filters = mel_filter_bank(257, 80, 0.0, 8000.0, 16_000, norm=None, mel_scale="htk")
    hann = window_function(400, "hann")
    made = spectrogram(
        wave, hann, 400, 160, 512, power=2.0, center=False, mel_filters=filters, log_mel="log10", mel_floor=1e-10
    )
    return made.T


def test_the_bins_are_those_of_transformers_and_none_is_empty():
    expected = mel_filter_bank(257, 80, 0.0, 8000.0, 16_000, norm=None, mel_scale="htk")
    assert np.abs(mel_weights() - expected).max() < 1e-12
    assert (mel_weights().max(0) > 0).all()


@pytest.mark.parametrize("samples", [400, 559, 560, 16_000, 5000 * 160])
def test_a_spectrogram_is_that_of_transformers(samples):
    """Also of more frames than are made at once, and of silence, which is at the floor."""
    wave = np.random.default_rng(samples).normal(0, 0.1, samples)
    wave[: samples // 3] = 0
    ours = log_mel(wave)
    assert ours.shape == (1 + (samples - 400) // 160, BINS) and ours.dtype == np.float32
    assert np.abs(ours - theirs(wave)).max() < 1e-5


@pytest.mark.parametrize("samples", [0, 1, 399])
def test_a_sound_shorter_than_a_window_has_no_frame(samples):
    assert log_mel(np.ones(samples)).shape == normalised_log_mel(np.ones(samples)).shape == (0, BINS)


def test_a_tone_is_loudest_in_the_bin_of_its_frequency():
    wave = np.sin(2 * np.pi * 1000 * np.arange(8000) / 16_000)
    assert np.ptp(log_mel(wave).argmax(1)) == 0
    centre = mel_weights()[32].argmax()  # 1000 Hz is frequency 32 of 31.25 Hz each
    assert (log_mel(wave).argmax(1) == centre).all()


def test_loudness_and_the_colour_of_a_microphone_are_taken_away():
    wave = np.random.default_rng(0).normal(0, 0.1, 8000)
    assert np.abs(normalised_log_mel(wave) - normalised_log_mel(5 * wave)).max() < 1e-4
    assert np.abs(normalised_log_mel(wave).mean(0)).max() < 1e-5
