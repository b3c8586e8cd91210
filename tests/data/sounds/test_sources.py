"""Sources of sounds find their files, keep splits apart, and refuse what is wrong in one sentence."""

import os
from typing import Any

import numpy as np
import pytest
import soundfile

from poslab.data.patched.audio import normalised_log_mel, read_sound
from poslab.data.patched.sounds import SoundFolder, SoundSource

from .small import tone, write_sounds

pytestmark = pytest.mark.usefixtures("hub_cache")

COMMON: dict[str, Any] = {"seconds": 0.2, "length_multiples": [2], "sequence_length": 5}


def test_a_folder_of_sounds_is_read_by_class(tmp_path):
    folder = write_sounds(tmp_path / "s", count=3)
    soundfile.write(folder / "rising" / "x.OGG", tone(0.2, 400), 16_000, format="OGG")
    for other in ("notes.txt", ".DS_Store", "._000.wav"):
        (folder / "rising" / other).write_text("not a sound")
    os.mkfifo(folder / "rising" / "pipe.wav")
    source = SoundFolder(path=str(folder), **COMMON)
    source.check()
    train = source.examples()["train"]
    assert list(train["label"]) == ["falling"] * 3 + ["rising"] * 4 and "document" not in train.column_names
    spectra = list(source.arrays([0, 2], 20))
    assert [spectrum.shape for spectrum in spectra] == [(18, 80, 1), (48, 80, 1)]  # whole, whatever the length
    expected = normalised_log_mel(read_sound("path", folder / "falling" / "002.wav"))
    assert spectra[1].dtype == np.float16 and np.abs(spectra[1][..., 0] - expected).max() < 4e-3


@pytest.mark.parametrize(
    ("arguments", "axes", "patch", "grid"),
    [
        ({}, ("time",), (80, 4), [30]),
        ({"patch": 8}, ("time",), (80, 8), [15]),
        ({"patch": [80, 8]}, ("frequency", "time"), (80, 8), [1, 15]),
        ({"patch": [16, 8]}, ("frequency", "time"), (16, 8), [5, 15]),
    ],
)
def test_a_patch_is_of_frames_or_of_bins_and_frames(tmp_path, arguments, axes, patch, grid):
    source = SoundFolder(path=str(tmp_path), sequence_length=0, **arguments)
    assert (source.axes, source.patch_sizes, source.grid_trained) == (axes, patch, grid)
    assert source.all_lengths == [120, 240, 480]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seconds": 0.21}, r"^seconds must .*got 0.21$"),
        ({"seconds": 0}, r"^seconds must be a multiple of 0.04"),
        ({"seconds": 1e-9}, r"^seconds must be a multiple of 0.04"),
        ({"seconds": 604}, r"^seconds must be a multiple of 0.04"),
        ({"seconds": "long"}, r"^seconds must .*got 'long'$"),
        ({"seconds": float("nan")}, r"^seconds must be a"),
        ({"length_multiples": [0]}, r"^length_multiples must .*got \[0\]$"),
        ({"length_multiples": [3001]}, r"^length_multiples must .*got 60020$"),
        ({"patch": 0}, r"^patch must .*got 0$"),
        ({"patch": True}, r"^patch must be .*, got true$"),
        ({"patch": 0.5}, r"^patch must be .*, got 0.5$"),
        ({"patch": [16]}, r"^patch must .*got \[16\]$"),
        ({"patch": [81, 4]}, r"^patch must .*got \[81, 4\]$"),
        ({"patch": [30, 4]}, r"^patch must .*got \[30, 4\]$"),
        ({"grid": [3, 4]}, r"^grid must .*got \[3, 4\]$"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        SoundFolder(path=str(tmp_path), **COMMON | arguments)


def test_lengths_are_whole_patches(tmp_path):
    source: SoundSource = SoundFolder(path=str(tmp_path), **COMMON)
    with pytest.raises(ValueError, match=r"^lengths must .*got 30$"):
        source.require_length("lengths", 30)


def test_folders_without_classes_or_sounds_are_refused(tmp_path):
    def refused(message: str) -> None:
        source = SoundFolder(path=str(tmp_path / "s"), **COMMON)
        with pytest.raises(ValueError, match=message):
            source.check()
            source.examples()

    refused(r"^path must be a folder, got")
    (tmp_path / "s" / "bird").mkdir(parents=True)
    refused(r"^path must have a folder of .*for each class, at least two")
    (tmp_path / "s" / "bird" / "x.wav").touch()
    refused(r"^path must have a folder of .*for each class, at least two and none within another")
    with pytest.raises(ValueError, match=r"^path must .*got None$"):
        SoundFolder(**COMMON)
