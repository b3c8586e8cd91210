"""Sounds in the rows of a data set of `datasets` are those of a folder, and mistakes are one sentence."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from datasets import Audio, ClassLabel, Dataset, Features, Value

from poslab.data.patched.sounds import HubSounds, SoundFolder, SoundSource
from poslab.data.run_data import RunData

from .small import tone, write_sounds

pytestmark = pytest.mark.usefixtures("hub_cache")

COMMON: dict[str, Any] = {"seconds": 0.2, "length_multiples": [2], "sequence_length": 5}
FILES = Features({"bytes": Value("binary"), "path": Value("string")})


def rows(*contents: bytes, labels: list[int] | None = None) -> Dataset:
    """A data set of these files, of two classes in turn; `datasets` itself would need torchcodec to make one."""
    columns = {
        "audio": [{"bytes": content, "path": None} for content in contents],
        "label": labels or [number % 2 for number in range(len(contents))],
    }
    features = Features({"audio": dict(FILES), "label": ClassLabel(names=["falling", "rising"])})
    return Dataset.from_dict(columns, features=features).cast_column("audio", Audio(sampling_rate=16_000))


def of_a_folder(folder: Path) -> Dataset:
    paths = sorted(folder.glob("*/*.wav"))
    return rows(*(path.read_bytes() for path in paths), labels=[int(path.parent.name == "rising") for path in paths])


def flac(rate: int) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, tone(0.5, 440, rate), rate, format="FLAC")
    return file.getvalue()


@pytest.mark.parametrize("format", ["parquet", "saved", "folder"])
def test_the_sounds_of_a_folder_are_the_same_in_every_format(tmp_path: Path, format: str) -> None:
    folder = write_sounds(tmp_path / "s", count=3)
    if format == "parquet":
        of_a_folder(folder).to_parquet(tmp_path / "x.parquet")
        source: SoundSource = HubSounds(path="parquet", data_files=str(tmp_path / "x.parquet"), **COMMON)
    elif format == "folder":
        source = SoundFolder(path=str(folder), **COMMON)
    else:
        of_a_folder(folder).save_to_disk(tmp_path / "saved")
        source = HubSounds(path=str(tmp_path / "saved"), **COMMON)
    source.check()
    examples, paths = source.examples()["train"], sorted(folder.glob("*/*.wav"))
    assert examples["label"][:] == [path.parent.name for path in paths] and examples["number"][:] == list(range(6))
    for array, path in zip(source.arrays(range(6), 20), paths, strict=True):
        assert np.array_equal(array, source.spectrogram(soundfile.read(path, dtype="float32")[0]))


def test_another_rate_and_format_is_brought_to_16_khz(tmp_path: Path) -> None:
    rows(flac(22_050), flac(16_000)).save_to_disk(tmp_path / "saved")
    one, other = HubSounds(path=str(tmp_path / "saved"), **COMMON).arrays([0, 1], 20)
    assert one.shape == other.shape == (48, 80, 1)


def test_a_class_may_stand_within_another_column(tmp_path: Path) -> None:
    table = rows(flac(16_000), flac(22_050)).add_column("said", [{"by": "x"}, {"by": "y"}])
    table.save_to_disk(tmp_path / "saved")
    source = HubSounds(path=str(tmp_path / "saved"), label="said.by", **COMMON)
    assert source.examples()["train"]["label"][:] == ["x", "y"]
    assert len(list(source.arrays([0, 1], 20))) == 2


@pytest.mark.slow
def test_a_run_crops_the_sounds_of_each_split(tmp_path: Path) -> None:
    of_a_folder(write_sounds(tmp_path / "s")).save_to_disk(tmp_path / "saved")
    data = RunData(HubSounds(path=str(tmp_path / "saved"), **COMMON))
    data.prepare_data()
    data.setup()
    assert data.splits.facts.classes == ["falling", "rising"] and sum(data.splits.facts.num_examples.values()) == 48
    assert data.lengths_of("test") == [20, 40]


def test_a_damaged_sound_and_a_column_of_none_are_one_sentence(tmp_path: Path) -> None:
    rows(flac(16_000), b"not a sound").save_to_disk(tmp_path / "saved")
    source = HubSounds(path=str(tmp_path / "saved"), **COMMON)
    message = r"^audio must .*row 1"
    with pytest.raises(ValueError, match=message):
        list(source.arrays([0, 1], 20))
    source = HubSounds(path=str(tmp_path / "saved"), audio="label", label="audio", **COMMON)
    with pytest.raises(ValueError, match=r"^audio must contain sounds, and"):
        source.examples()


def wav(values: np.ndarray, subtype: str = "FLOAT") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, values, 16_000, format="WAV", subtype=subtype)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (flac(16_000)[:18] + b"\x0a\xc4\x42\xff" + b"\xff" * 4 + flac(16_000)[26:], "it has 1,558,265 seconds$"),
        (wav(np.full(8000, np.nan)), "it has.*numbers up to 1,000$"),
        (wav(np.zeros((100, 300)), "PCM_16"), "it has 300 channels$"),
    ],
    ids=["a header that claims 18 days", "no numbers", "300 channels"],
)
def test_a_hostile_sound_is_one_sentence_that_names_its_row(tmp_path: Path, content: bytes, reason: str) -> None:
    rows(flac(16_000), content).save_to_disk(tmp_path / "saved")
    source = HubSounds(path=str(tmp_path / "saved"), **COMMON)
    with pytest.raises(ValueError, match=f"^audio must .*row 1 of 'train' .*: {reason}"):
        list(source.arrays([0, 1], 20))


def test_sounds_that_are_all_empty_are_one_sentence(tmp_path: Path) -> None:
    rows(*(wav(np.zeros(number)) for number in range(20))).save_to_disk(tmp_path / "saved")
    data = RunData(HubSounds(path=str(tmp_path / "saved"), **COMMON))
    with pytest.raises(ValueError, match=r"^dataset=hub_sounds must have"):
        data.prepare_data()


def test_a_folder_of_files_is_for_another_choice_where_the_library_cannot_read_it(tmp_path: Path) -> None:
    folder = write_sounds(tmp_path / "s", count=2)
    with pytest.raises(ValueError, match=r"^path cannot be read: .*torchcodec"):
        HubSounds(path=str(folder), **COMMON).examples()
