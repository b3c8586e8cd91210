"""Sources of sounds find their files, keep splits apart, and refuse what is wrong in one sentence."""

import os
import shutil
from typing import Any

import numpy as np
import pytest
import soundfile

from poslab.data.examples.splitting import split_examples
from poslab.data.sounds.folder import SoundFolder
from poslab.data.sounds.log_mel import normalised_log_mel
from poslab.data.sounds.prompts import VOICES, Prompts
from poslab.data.sounds.reading import read_sound
from poslab.data.sounds.source import SoundSource
from poslab.data.sounds.spoken_captions import SpokenCaptions

from .small import tone, write_captions, write_sounds

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


def test_captions_are_of_languages_that_have_enough_and_no_two_splits_share_a_stamp(tmp_path):
    stamps = [f"animals/cats/cat_{number}" for number in range(20)]
    folder = write_captions(tmp_path / "s", ["fr", "ca", "pt_BR"], stamps)
    write_captions(folder, ["nl"], stamps[:19])
    (folder / "animals" / "cats" / "cat_1_desc_fr.txt").write_text("le chat")
    source = SpokenCaptions(folder=str(folder), least_captions=20, **COMMON)
    assert {sound.label for sound in source.sounds} == {"ca", "fr", "pt_BR"} and len(source.sounds) == 60
    splits = split_examples(source)
    of_splits = [set(rows["document"]) for rows in splits.values()]
    assert all(of_splits) and sum(map(len, of_splits)) == len(set().union(*of_splits)) == 20
    for rows in splits.values():
        assert sorted(rows["label"]) == sorted(["ca", "fr", "pt_BR"] * len(set(rows["document"])))


def test_prompts_are_those_of_five_voices_and_no_two_splits_share_a_prompt(tmp_path):
    for number, voice in enumerate(VOICES.values()):
        for name in ("digits/1", "digits/2", "hello", "silence/1", "goodbye", "yes"):
            path = tmp_path / voice / f"{name}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, tone(0.1, 500, 8000, seed=10 * number + len(name)), 8000)
    source = Prompts(folder=str(tmp_path), **COMMON)
    assert len(source.sounds) == 25 and {sound.label for sound in source.sounds} == set(VOICES)
    assert {sound.document for sound in source.sounds} == {
        "digits/1.wav",
        "digits/2.wav",
        "hello.wav",
        "goodbye.wav",
        "yes.wav",
    }


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (SpokenCaptions, r"^dataset=spoken_captions needs .*, from Debian's package tuxpaint-stamps-default: apt-get"),
        (Prompts, r"^dataset=prompts needs .*/en_US_f_Allison, from Debian's package asterisk-core-sounds-en-wav: apt"),
    ],
)
def test_a_missing_package_is_named(tmp_path, source, message):
    with pytest.raises(ValueError, match=message):
        source(folder=str(tmp_path), **COMMON).check()


def test_a_single_class_is_refused(tmp_path):
    folder = write_captions(tmp_path / "s", ["fr"], ["cat", "dog"])
    with pytest.raises(ValueError, match=r"^dataset=spoken_captions must have sounds of at least two classes, got fr$"):
        SpokenCaptions(folder=str(folder), least_captions=2, **COMMON).check()


@pytest.mark.parametrize(
    ("source", "classes", "least"),
    [
        pytest.param(source, classes, least, marks=pytest.mark.needs(source.folder))
        for source, classes, least in (
            (SpokenCaptions, ["bg", "ca", "es", "fr", "ro", "ru"], 5000),
            (Prompts, ["en", "es", "fr", "it", "ru"], 2700),
        )
    ],
)
def test_the_packages_have_what_the_documentation_says(source, classes, least):
    sounds = source(**COMMON).sounds
    assert sorted({sound.label for sound in sounds}) == classes and len(sounds) >= least


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
        ({"seconds": 0.21}, r"^seconds must be a multiple of 0.04, the seconds of a patch, up to 600, got 0.21$"),
        ({"seconds": 0}, r"^seconds must be a multiple of 0.04"),
        ({"seconds": 1e-9}, r"^seconds must be a multiple of 0.04"),
        ({"seconds": 604}, r"^seconds must be a multiple of 0.04"),
        ({"seconds": "long"}, r"^seconds must be a number, got 'long'$"),
        ({"seconds": float("nan")}, r"^seconds must be a multiple"),
        ({"length_multiples": [0]}, r"^length_multiples must be an integer from 1 to 3000, got 0$"),
        ({"length_multiples": [3001]}, r"^length_multiples must be an integer from 1 to 3000, got 3001$"),
        ({"patch": 0}, r"^patch must be an integer from 1 to 60000, got 0$"),
        ({"patch": True}, r"^patch must be an integer from 1 to 60000, got True$"),
        ({"patch": 0.5}, r"^patch must be frames, or bins and frames, got 0.5$"),
        ({"patch": [16]}, r"^patch must be frames, or bins and frames, got \[16\]$"),
        ({"patch": [81, 4]}, r"^patch must be an integer from 1 to 80, got 81$"),
        ({"patch": [30, 4]}, r"^patch must have bins that divide 80, got \[30, 4\]$"),
        ({"grid": [3, 4]}, r"^grid must be patches on the axes time, got \[3, 4\]$"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        SoundFolder(path=str(tmp_path), **COMMON | arguments)


def test_a_table_names_sounds_and_their_classes(tmp_path):
    folder = write_sounds(tmp_path / "s", count=3)
    rows = [f"s/{file.relative_to(folder)},{file.parent.name}\n" for file in sorted(folder.glob("*/*.wav"))]
    (tmp_path / "labels.csv").write_text("file,label\n" + "".join(rows))
    tables, folders = (SoundFolder(path=str(path), **COMMON) for path in (tmp_path / "labels.csv", folder))
    tables.check()
    assert tables.identity == folders.identity
    assert tables.examples()["train"].to_dict() == folders.examples()["train"].to_dict()
    assert np.array_equal(next(iter(tables.arrays([4], 20))), next(iter(folders.arrays([4], 20))))


def test_lengths_are_whole_patches(tmp_path):
    source: SoundSource = SoundFolder(path=str(tmp_path), **COMMON)
    with pytest.raises(ValueError, match=r"^lengths must be a multiple of patch=4 up to 60000 frames, got 30$"):
        source.require_length("lengths", 30)


def test_folders_without_classes_or_sounds_are_refused(tmp_path):
    def refused(message: str) -> None:
        with pytest.raises(ValueError, match=message):
            SoundFolder(path=str(tmp_path / "s"), **COMMON).check()

    refused(r"^path must be a folder, got")
    (tmp_path / "s" / "bird").mkdir(parents=True)
    refused(r"^path must hold a folder for each class, at least two, but .* holds 1$")
    (tmp_path / "s" / "frog").mkdir()
    refused(r"^path must hold sounds \(.wav, .flac, .ogg, .oga\) in the folder of each class, but .*bird' has none$")
    for label in ("bird", "frog"):
        (tmp_path / "s" / label / "x.wav").touch()
    refused(r"^path must hold sounds, but .*x.wav' is empty$")
    with pytest.raises(ValueError, match=r"^path must be a name or path, got None$"):
        SoundFolder(**COMMON)


def test_a_sound_of_two_classes_is_refused(tmp_path):
    folder = write_sounds(tmp_path / "s", count=3)
    shutil.copy(folder / "falling" / "000.wav", folder / "rising" / "copy.wav")
    with pytest.raises(
        ValueError,
        match=r"^path must hold sounds of one class each, but .*falling/000.wav' and .*/copy.wav' are equal: ",
    ):
        SoundFolder(path=str(folder), **COMMON).examples()
