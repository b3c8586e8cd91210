"""Files of sounds are read as they were written, and what is damaged or hostile is one sentence."""

import io
import math
import struct
import sys
import tracemalloc
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.signal import resample_poly

from poslab.data.patched.audio import at_16_khz, read_sound, require_reader

from .small import tone


@pytest.mark.parametrize(
    ("name", "subtype", "tolerance"),
    [
        ("x.wav", "PCM_16", 1e-4),
        ("x.wav", "FLOAT", 1e-6),
        ("x.wav", "PCM_U8", 1e-2),
        ("x.flac", "PCM_16", 1e-4),
        ("x.ogg", "VORBIS", 0.1),
    ],
)
def test_a_file_is_read_as_it_was_written(tmp_path, name, subtype, tolerance):
    written = tone(0.5, 440)
    soundfile.write(tmp_path / name, written, 16_000, subtype=subtype)
    read = read_sound("path", tmp_path / name)
    assert read.dtype == np.float32 and len(read) == 8000
    assert np.abs(read - written).max() < tolerance


def test_a_wav_of_the_standard_library_is_read(tmp_path):
    samples = np.random.default_rng(0).integers(-(2**15), 2**15, 800).astype("<i2")
    with wave.open(str(tmp_path / "x.wav"), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    assert np.array_equal(read_sound("path", tmp_path / "x.wav"), samples.astype(np.float32) / 2**15)


@pytest.mark.parametrize("rate", [8_000, 11_025, 44_100, 48_000])
def test_another_rate_is_brought_to_16_khz(tmp_path, rate):
    """A tone below half of either rate stays the tone that it is."""
    soundfile.write(tmp_path / "x.wav", np.sin(2 * np.pi * 440 * np.arange(rate) / rate), rate, subtype="FLOAT")
    read = read_sound("path", tmp_path / "x.wav")
    expected = np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    assert len(read) == 16_000
    assert np.abs(read - expected)[800:-800].max() < 1e-2  # the filter rings at the ends


@pytest.mark.parametrize("rate", [4_001, 44_101, 191_952])
def test_a_rate_of_no_small_ratio_keeps_duration_and_pitch_within_a_quarter_of_a_thousandth(rate):
    """191,952 has the largest error of all rates; a phase is wrong by 0.1 at most after 0.15 seconds of 400 Hz."""
    read = at_16_khz(np.sin(2 * np.pi * 400 * np.arange(rate) / rate), rate)
    assert abs(len(read) - 16_000) <= 5
    expected = np.sin(2 * np.pi * 400 * np.arange(16_000) / 16_000)
    assert np.abs(read[:15_990] - expected[:15_990])[800:2400].max() < 0.1


def test_the_ratio_of_a_usual_rate_is_exact():
    for rate in (8_000, 11_025, 22_050, 24_000, 32_000, 44_100, 48_000, 88_200, 96_000, 176_400, 192_000):
        wave = np.random.default_rng(0).normal(size=500).astype(np.float32)
        common = math.gcd(rate, 16_000)
        assert np.array_equal(at_16_khz(wave, rate), resample_poly(wave, 16_000 // common, rate // common))


def test_channels_become_their_mean(tmp_path):
    soundfile.write(tmp_path / "x.wav", np.tile([[0.5, -0.25]], (800, 1)), 16_000, subtype="FLOAT")
    assert np.allclose(read_sound("path", tmp_path / "x.wav"), 0.125)


def header(channels: int = 1, rate: int = 16_000, data: int = 8, form: int = 1, bits: int = 16) -> bytes:
    """Return the first bytes of a WAV file, which may claim anything."""
    size = channels * bits // 8
    body = struct.pack("<4sIHHIIHH", b"fmt ", 16, form, channels, rate, rate * size % 2**32, size % 2**16, bits)
    return b"RIFF" + struct.pack("<I", (36 + data) % 2**32) + b"WAVE" + body + struct.pack("<4sI", b"data", data)


def encoded(values: np.ndarray, format: str, subtype: str, rate: int = 16_000) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, values, rate, format=format, subtype=subtype)
    return file.getvalue()


HOSTILE: dict[str, Callable[[], bytes]] = {
    "a text": lambda: b"this is not a sound",
    "nothing": lambda: b"",
    "random bytes": lambda: np.random.default_rng(0).bytes(300),
    "another format": lambda: encoded(np.zeros(100), "AIFF", "PCM_16"),
    "a header alone": lambda: header()[:30],
    "no channels": lambda: header(channels=0) + bytes(8),
    "a thousand channels": lambda: header(channels=1000, data=2000) + bytes(2000),
    "nine channels": lambda: header(channels=9, data=18) + bytes(18),
    "a sample in a second": lambda: header(rate=1) + bytes(8),
    "4 billion samples in a second": lambda: header(rate=2**32 - 1) + bytes(8),
    "eleven minutes": lambda: encoded(np.zeros(4000 * 660), "FLAC", "PCM_16", 4000),
    "numbers that are none": lambda: encoded(np.full(100, np.nan), "WAV", "FLOAT"),
    "endless numbers": lambda: encoded(np.full(100, np.inf), "WAV", "FLOAT"),
    "enormous numbers": lambda: encoded(np.full(100, 1e30), "WAV", "FLOAT"),
    "half a WAV": lambda: encoded(tone(1, 440), "WAV", "PCM_16")[:16_000],
    "a WAV without its last byte": lambda: encoded(tone(1, 440), "WAV", "PCM_16")[:-1],
    "half a WAV of four channels": lambda: encoded(np.zeros((800, 4)), "WAVEX", "PCM_24")[:5000],
    "half a FLAC": lambda: encoded(tone(1, 440), "FLAC", "PCM_16")[:4000],
    "a FLAC with a hole": lambda: _with_hole(encoded(tone(1, 440), "FLAC", "PCM_16")),
}


def _with_hole(data: bytes) -> bytes:
    return data[:3000] + bytes(8000) + data[11_000:]


def test_a_wav_that_was_written_to_a_pipe_is_read(tmp_path):
    whole = encoded(tone(1, 440), "WAV", "PCM_16")
    (tmp_path / "x.wav").write_bytes(whole[:4] + b"\xff" * 4 + whole[8:40] + b"\xff" * 4 + whole[44:])
    assert len(read_sound("path", tmp_path / "x.wav")) == 16_000


@pytest.mark.parametrize("way", HOSTILE)
def test_a_hostile_file_is_one_sentence_that_names_it(tmp_path: Path, way: str) -> None:
    (tmp_path / "bad.wav").write_bytes(HOSTILE[way]())
    with pytest.raises(ValueError, match=r"^path must .*bad\.wav") as refused:
        read_sound("path", tmp_path / "bad.wav")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("claimed", [10**6, 2**31, 2**32 - 10])
def test_a_file_that_claims_more_than_it_has_is_refused_or_read_as_far_as_it_goes(tmp_path, claimed):
    (tmp_path / "x.wav").write_bytes(header(data=claimed) + bytes(800))
    try:
        assert len(read_sound("path", tmp_path / "x.wav")) <= 400
    except ValueError as error:
        assert str(error).startswith("path must contain whole sounds")


def test_silence_of_many_channels_is_not_unpacked_at_once(tmp_path):
    """A few kilobytes of FLAC hold 10 seconds of 8 channels at 192 kHz, which are 61 MB."""
    (tmp_path / "x.flac").write_bytes(encoded(np.zeros((1_920_000, 8), np.int16), "FLAC", "PCM_16", 192_000))
    assert (tmp_path / "x.flac").stat().st_size < 50_000
    tracemalloc.start()
    try:
        assert len(read_sound("path", tmp_path / "x.flac")) == 160_000
        assert tracemalloc.get_traced_memory()[1] < 45e6
    finally:
        tracemalloc.stop()


def test_bytes_that_are_flipped_are_read_or_refused(tmp_path):
    """Ogg and FLAC are compressed, so that any byte may mean a length."""
    generator = np.random.default_rng(0)
    for format, subtype in (("OGG", "VORBIS"), ("FLAC", "PCM_16")):
        whole = encoded(tone(0.2, 440), format, subtype)
        for _ in range(60):
            data = bytearray(whole)
            for place in generator.integers(0, len(data), 3):
                data[place] ^= 1 << int(generator.integers(8))
            (tmp_path / "x").write_bytes(data)
            try:
                assert np.isfinite(read_sound("path", tmp_path / "x")).all()
            except ValueError as error:
                assert str(error).startswith("path must contain whole sounds") and "\n" not in str(error)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "soundfile", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"^dataset=prompts needs the package"):
        require_reader("dataset=prompts")
