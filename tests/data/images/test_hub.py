"""Images in the rows of a data set of `datasets` are those of a folder, and mistakes are one sentence."""

import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from datasets import Image as ImageColumn
from PIL import Image

from poslab.data.patched.files import HubArrays
from poslab.data.patched.images import HubImages, ImageFolder
from poslab.data.run_data import RunData

from . import small
from .small import write_images

pytestmark = pytest.mark.usefixtures("hub_cache")

COMMON: dict[str, Any] = {"side": 8, "sides": [8, 16], "sequence_length": 4}
FEATURES = Features({"image": ImageColumn(), "label": ClassLabel(names=["cat", "dog"])})


def png(seed: int = 0, mode: str = "RGB") -> bytes:
    """The contents of a file of 12 by 8 pixels."""
    shape = (8, 12, 3) if mode == "RGB" else (8, 12)
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def rows(*contents: bytes | str | None, labels: list[int] | None = None) -> Dataset:
    """A data set of these files, contents or paths, of the two classes in turn."""
    files = [{"bytes": x, "path": None} if isinstance(x, bytes) else x and {"path": x} for x in contents]
    columns = {"image": files, "label": labels or [number % 2 for number in range(len(contents))]}
    return Dataset.from_dict(columns, features=FEATURES)


def saved(path: Path, **splits: Dataset) -> dict[str, Any]:
    DatasetDict(splits).save_to_disk(path)
    return {"path": str(path), **COMMON}


def of_a_folder(folder: Path) -> Dataset:
    """The rows of images in one folder for each class, in order of their paths."""
    paths = sorted(map(str, folder.glob("*/*.png")))
    return rows(*paths, labels=[int("dog" in path) for path in paths])


def as_folder(folder: Path) -> dict[str, Any]:
    return {"path": str(folder)}


def as_parquet(folder: Path) -> dict[str, Any]:
    path = str(folder.with_name("rows.parquet"))
    of_a_folder(folder).to_parquet(path)
    return {"path": "parquet", "data_files": path}


def as_parquet_without_types(folder: Path) -> dict[str, Any]:
    """As other libraries write it."""
    import pyarrow.parquet

    pyarrow.parquet.write_table(
        pyarrow.parquet.read_table(as_parquet(folder)["data_files"]).replace_schema_metadata(),
        folder.with_name("plain.parquet"),
    )
    return {"path": "parquet", "data_files": str(folder.with_name("plain.parquet"))}


def as_saved_splits(folder: Path) -> dict[str, Any]:
    return saved(folder.with_name("saved"), train=of_a_folder(folder))


def as_saved_rows(folder: Path) -> dict[str, Any]:
    of_a_folder(folder).save_to_disk(folder.with_name("saved"))
    return {"path": str(folder.with_name("saved"))}


@pytest.mark.parametrize(
    ("saved_as", "mode"),
    [(as_folder, "RGB"), (as_parquet, "L"), (as_parquet, "RGB"), (as_saved_splits, "RGB"), (as_saved_rows, "L")],
)
def test_the_images_of_a_folder_are_the_same_in_every_format(tmp_path: Path, saved_as: Callable, mode: str) -> None:
    folder = write_images(tmp_path / "s", [(8, 8), (12, 8), (40, 30)], mode=mode)
    settings = COMMON | saved_as(folder)
    source = ImageFolder(**settings) if saved_as is as_folder else HubImages(**settings)
    assert source.channels == (3 if mode == "RGB" else 1)
    examples, paths = source.examples()["train"], sorted(folder.glob("*/*.png"))
    assert examples["label"][:] == [path.parent.name for path in paths]
    numbers = list(range(12))
    assert examples["number"][:] == numbers
    for array, path in zip(source.arrays(numbers, 16), paths, strict=True):
        pixels = np.atleast_3d(np.asarray(Image.open(path)))
        assert np.array_equal(array, source.at_side(pixels, 16))


def test_classes_without_names_are_their_numbers_in_a_table_of_another_library(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "s", [(8, 8)])
    source = HubImages(**COMMON | as_parquet_without_types(folder))
    assert source.examples()["train"]["label"][:] == ["0"] * 6 + ["1"] * 6
    assert source.channels == 3


@pytest.mark.slow
def test_a_run_reads_the_published_test_and_prepares_only_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train = rows(*map(png, range(20)))
    arguments = saved(tmp_path / "saved", train=train, test=rows(*map(png, range(20, 24))))
    data = RunData(HubImages(**arguments, test_split="test"))
    data.prepare_data()
    data.setup()
    assert data.splits.facts.num_examples == {"train": 18, "validation": 2, "test": 4}
    assert data.splits.facts.classes == ["cat", "dog"]
    monkeypatch.delattr(HubArrays, "examples")
    again = RunData(HubImages(**arguments, test_split="test"))
    again.prepare_data()
    again.setup()
    assert again.report_lines()[0].startswith("hub_images: 18 train, 2 validation, 4 test")


def test_other_rows_are_prepared_anew(tmp_path: Path) -> None:
    first = HubImages(**saved(tmp_path / "saved", train=rows(*map(png, range(4)))))
    before, same = first.identity, HubImages(path=first.path, **COMMON).identity
    shutil.rmtree(tmp_path / "saved")
    other = HubImages(**saved(tmp_path / "saved", train=rows(*map(png, range(1, 5)))))
    assert before == same != other.identity


def test_rows_without_an_image_or_a_class_are_left_out(tmp_path: Path) -> None:
    table = rows(png(0), None, png(2), png(3), labels=[0, 1, -1, 1])
    source = HubImages(**saved(tmp_path / "saved", train=table))
    train = source.examples()["train"]
    assert (train["label"][:], train["number"][:]) == (["cat", "dog"], [0, 3])
    assert len(list(source.arrays([0, 3], 8))) == 2


def test_an_image_with_two_classes_keeps_the_first_in_a_data_set_that_is_not_the_users(tmp_path: Path) -> None:
    arguments = saved(tmp_path / "saved", train=rows(png(0), png(1), png(2), png(0)), test=rows(png(1), png(0)))
    assert HubImages(**arguments).examples()["train"]["label"][:] == ["cat", "dog", "cat", "dog"]
    kept = HubImages(**arguments, validation_fraction=0.3, test_fraction=0.3).split_examples()
    assert sum(map(len, kept.values())) == 3


def test_labels_that_look_alike_are_refused(tmp_path: Path) -> None:
    plain = Features({"image": ImageColumn(), "label": Value("string")})
    files = [{"bytes": png(number), "path": None} for number in range(6)]
    table = Dataset.from_dict({"image": files, "label": 3 * ["\u00e9", "e\u0301"]}, features=plain)
    with pytest.raises(ValueError, match=r"^label must .* look alike"):
        HubImages(**saved(tmp_path / "saved", train=table)).prepare()


def test_images_of_one_document_are_in_one_split(tmp_path: Path) -> None:
    table = rows(*map(png, range(20))).add_column("camera", [number // 4 for number in range(20)])
    splits = HubImages(**saved(tmp_path / "saved", train=table), document="camera").split_examples()
    of_split = [set(split["document"]) for split in splits.values()]
    assert sum(map(len, of_split)) == len(set.union(*of_split)) == 5


def test_columns_that_are_not_there_or_hold_something_else_are_named(tmp_path: Path) -> None:
    table = rows(png(0), png(1)).add_column("text", ["a", "b"]).add_column("score", [0.5, 1.0])
    arguments = saved(tmp_path / "saved", train=table)
    for others, message in [
        ({"image": "img"}, r"^image must .*got 'img'"),
        ({"label": "class"}, r"^label must .*got 'class'$"),
        ({"image": "text"}, r"^image must contain images, and"),
        ({"label": "score"}, r"^label must contain classes, and"),
        ({"train_split": "training"}, r"^train_split must be one"),
    ]:
        with pytest.raises(ValueError, match=message):
            HubImages(**arguments | others).examples()


def test_rows_without_any_class_are_refused(tmp_path: Path) -> None:
    source = HubImages(**saved(tmp_path / "saved", train=rows(png(0), png(1), labels=[-1, -1])))
    with pytest.raises(ValueError, match=r"^train_split must have classes,"):
        source.examples()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"not an image", "it is not PNG, .*$"),
        (b"", "it is not PNG"),
        (png()[:60], ""),
        (small.png(10_000, 10_000, b""), "it has 10,000 x 10,000 pixels$"),
    ],
    ids=["text", "nothing", "cut", "bomb"],
)
def test_a_damaged_image_is_one_sentence_that_names_its_row(tmp_path: Path, content: bytes, reason: str) -> None:
    source = HubImages(**saved(tmp_path / "saved", train=rows(png(0), content)))
    assert len(source.examples()["train"]) == 2
    message = rf"^image must .*row 1 of 'train' .*: {reason}"
    with pytest.raises(ValueError, match=message):
        list(source.arrays([0, 1], 8))


def written(path: Path, *files: dict[str, Any], parts: str = "binary") -> HubImages:
    """Images of these files in a table of another library, all of one class."""
    plain = Features({"image": {"bytes": Value(parts), "path": Value("string")}, "label": Value("string")})
    Dataset.from_dict({"image": files, "label": ["cat"] * len(files)}, features=plain).to_parquet(path)
    return HubImages(path="parquet", data_files=str(path), **COMMON)


def test_files_that_are_gone_or_are_no_files_or_are_huge_are_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(2**30 + 1)  # takes no room on the disk
    for path, reason in (
        ("gone.png", "there is no such file"),
        ("pipe.png", "it is not a regular file"),
        ("\0", "there is no such file"),
        ("huge.png", "it has 1,073,741,825 bytes"),
    ):
        source = written(tmp_path / "x.parquet", {"bytes": None, "path": str(tmp_path / path)})
        with pytest.raises(ValueError, match=rf"^image must .*row 0 of 'train' .*: .*{reason}"):
            source.examples()


def test_a_row_with_neither_contents_nor_a_path_is_left_out(tmp_path: Path) -> None:
    source = written(tmp_path / "x.parquet", {"bytes": None, "path": None}, {"bytes": png(), "path": None})
    assert source.examples()["train"]["number"][:] == [1]


def test_parts_of_files_that_are_numbers_are_refused(tmp_path: Path) -> None:
    source = written(tmp_path / "x.parquet", {"bytes": 5, "path": "x"}, parts="int64")
    with pytest.raises(ValueError, match=r"^image must contain images, and"):
        source.examples()


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("dataset_dict.json", "{}", "names no.*of its rows$"),
        ("dataset_dict.json", '{"splits": ["other"]}', "state.json"),
        ("train/state.json", '{"_data_files": [{}]}', "names no.*of its rows$"),
        ("train/state.json", "[", "is damaged:.*is not JSON$"),
    ],
)
def test_a_damaged_folder_of_save_to_disk_is_refused(tmp_path: Path, name: str, content: str, reason: str) -> None:
    arguments = saved(tmp_path / "saved", train=rows(png(0), png(1)))
    (tmp_path / "saved" / name).write_text(content)
    with pytest.raises(ValueError, match=rf"^path must .*save_to_disk.*{reason}"):
        HubImages(**arguments).examples()
