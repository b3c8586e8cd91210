"""Damaged prepared data is found and prepared again, whichever file it is and however it was damaged."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, load_from_disk

from poslab.data import cache
from poslab.data.examples.answers import AnswersFile
from poslab.data.examples.classification import ClassificationFile, HubClassification
from poslab.data.examples.pairs import PairsFile
from poslab.data.examples.tags import TagsFile
from poslab.data.hub_text import HubText
from poslab.data.source import SPLITS, Source
from poslab.data.text_files import TextFiles
from poslab.data.tokenizers import ByteTokenizer

from .conftest import seal, story

pytestmark = pytest.mark.usefixtures("hub_cache")

WAYS: dict[str, Callable[[bytes], bytes | None]] = {
    "cut to half": lambda content: content[: len(content) // 2],
    "emptied": lambda content: b"",
    "one bit flipped": lambda content: flipped(content, 8 * len(content) // 2 + 3),
    "removed": lambda content: None,
    "replaced": lambda content: bytes(len(content) + 1),
}


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def texts(tmp_path: Path) -> TextFiles:
    for seed in range(20):
        (tmp_path / f"{seed:02}.txt").write_text(story(seed, paragraphs=5))
    return TextFiles(files=str(tmp_path / "*.txt"), sequence_length=8, length_multiples=[1], **common(tmp_path))


def hub_text(tmp_path: Path) -> HubText:
    lines(tmp_path, [{"text": story(seed, paragraphs=5)} for seed in range(20)])
    arguments = {"path": "json", "data_files": str(tmp_path / "x.jsonl"), "sequence_length": 8, "length_multiples": [1]}
    return HubText(**arguments, **common(tmp_path))


def classes(tmp_path: Path) -> ClassificationFile:
    lines(tmp_path, [{"text": f"number {number}", "label": "odd" if number % 2 else "even"} for number in range(20)])
    return ClassificationFile(files=str(tmp_path / "x.jsonl"), **common(tmp_path))


def hub_classes(tmp_path: Path) -> HubClassification:
    lines(tmp_path, [{"text": f"number {number}", "label": "odd" if number % 2 else "even"} for number in range(20)])
    return HubClassification(path="json", data_files=str(tmp_path / "x.jsonl"), **common(tmp_path))


def pairs(tmp_path: Path) -> PairsFile:
    lines(tmp_path, [{"source": f"number {number}", "target": f"{number}"} for number in range(20)])
    return PairsFile(files=str(tmp_path / "x.jsonl"), **common(tmp_path))


def answers(tmp_path: Path) -> AnswersFile:
    rows = [{"question": f"which {n}?", "context": f"it is {n} here", "answer": str(n)} for n in range(20)]
    lines(tmp_path, rows)
    return AnswersFile(files=str(tmp_path / "x.jsonl"), **common(tmp_path))


def lines(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    if not (tmp_path / "x.jsonl").exists():  # one that is written anew is another to the library
        (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def common(tmp_path: Path) -> dict[str, Any]:
    more = {"validation_fraction": 0.2, "test_fraction": 0.2}
    return {"cache_dir": str(tmp_path / "cache"), "tokenizer": "bpe", "vocab_size": 300, **more}


def content_of(source: Source) -> list[Any]:
    """Everything that a run reads of prepared data."""
    splits: Any = source.open()
    text = splits.tokenizer.decode(range(splits.tokenizer.vocab_size))
    if isinstance(source, TextFiles | HubText):
        return [text, splits.num_tokens, splits.bytes_per_token, *(splits.tokens(n).tolist() for n in SPLITS)]
    return [text, splits.facts, *(splits.examples(name).to_list() for name in SPLITS)]


def apply(damage: Callable[[bytes], bytes | None], path: Path) -> None:
    damaged = damage(path.read_bytes())
    path.unlink() if damaged is None else path.write_bytes(damaged)


def warnings_of(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in capsys.readouterr().err.splitlines() if "warning" in line]


def assert_named(warnings: list[str], path: Path) -> None:
    """There is one line; damaged checksums may be those of another file of the folder."""
    (line,) = warnings
    named = line.removeprefix("warning: ").removesuffix(" is not as it was written: the data is prepared again")
    assert (path.name == cache.CHECKSUMS and Path(named).is_relative_to(path.parent)) or named == str(path)


def files_of(cache_dir: Path) -> list[Path]:
    """The files that are kept; those that the library `datasets` leaves beside them are never read again."""
    lists = sorted(cache_dir.rglob(cache.CHECKSUMS))
    return [path.parent / name for path in lists for name in (*json.loads(path.read_bytes()), cache.CHECKSUMS)]


SOURCES = [texts, hub_text, classes, hub_classes, pairs, answers]


@pytest.mark.parametrize("source", SOURCES)
def test_every_damage_to_every_file_is_found(
    tmp_path: Path, source: Callable[[Path], Source], capsys: pytest.CaptureFixture[str]
) -> None:
    content_of(source(tmp_path))
    folders = [path for path in (tmp_path / "cache").iterdir() if (path / cache.CHECKSUMS).is_file()]
    assert folders
    for folder in folders:
        assert cache.verify_or_discard(folder) and files_of(folder)
        shutil.copytree(folder, tmp_path / "whole")
        for path in files_of(folder):
            for way, damage in WAYS.items():
                capsys.readouterr()
                apply(damage, path)
                assert not cache.verify_or_discard(folder) and not folder.exists(), (path, way)
                assert_named(warnings_of(capsys), path)
                shutil.copytree(tmp_path / "whole", folder)
        shutil.rmtree(tmp_path / "whole")


def say(**facts: Any) -> Callable[[Path], None]:
    """Changes what `facts.json` says."""

    def change(folder: Path) -> None:
        path = folder / "facts.json"
        path.write_text(json.dumps(json.loads(path.read_bytes()) | facts))
        seal(folder)

    return change


def replace(name: str, make: Callable[[Path], object], sealed: bool = True) -> Callable[[Path], None]:
    """Puts another thing in the place of a file."""

    def change(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)
        if sealed:
            seal(folder)

    return change


def write(name: str, content: str) -> Callable[[Path], None]:
    return replace(name, lambda path: path.write_text(content), sealed=False)


def be_a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("no folder")


def link_to(target: str) -> Callable[[Path], object]:
    return lambda path: path.symlink_to(target)


COUNTS = dict.fromkeys(SPLITS, 10)

HOSTILE: dict[str, Callable[[Path], None]] = {
    "tokens that are objects": say(dtype="O"),
    "tokens that are signed": say(dtype="int16"),
    "tokens of another size": say(dtype="uint8"),
    "tokens that are fractions": say(dtype="float16"),
    "a dtype that is none": say(dtype=["u2"]),
    "a number of tokens that is text": say(num_tokens="x"),
    "a number of tokens that is not the file's": say(num_tokens=COUNTS),
    "a split that is none": say(num_bytes={"../x": 3}),
    "a share that is none": say(overlap={"test": float("inf")}),
    "a fact too many": say(more=1),
    "facts that are none": replace("facts.json", lambda path: path.write_text("[" * 100_000)),
    "tokens past the vocabulary": replace("test.bin", lambda path: path.write_bytes(b"\xff" * 2000)),
    "no tokens at all": replace("test.bin", lambda path: None),
    "a tokenizer of another vocabulary": replace("tokenizer.json", lambda path: path.write_text('{"poslab": "bytes"}')),
    "a tokenizer that is none": replace("tokenizer.json", lambda path: path.write_text("{}")),
    "a link to a file of the machine": replace("test.bin", link_to("/etc/passwd")),
    "a link to a device": replace("test.bin", link_to("/dev/zero"), sealed=False),
    "a pipe": replace("facts.json", os.mkfifo, sealed=False),
    "a file in the folder's place": be_a_file,
    "a folder in a file's place": replace("facts.json", os.mkdir, sealed=False),
    "checksums that are a pipe": replace(cache.CHECKSUMS, os.mkfifo, sealed=False),
    "checksums that are a link": replace(cache.CHECKSUMS, link_to("/dev/zero"), sealed=False),
    "checksums nested without end": write(cache.CHECKSUMS, "[" * 100_000),
    "checksums of a device": write(cache.CHECKSUMS, '{"/dev/zero": [0, "x"]}'),
    "checksums of what lies outside": write(cache.CHECKSUMS, '{"../x.txt": [0, "x"]}'),
    "checksums that are none": write(cache.CHECKSUMS, '{"test.bin": 3}'),
    "checksums that obey nobody": write(cache.CHECKSUMS, json.dumps({"\x1b]0;PWN\x07\n\x1b[31mred": [1, "x"]})),
}


def lead_elsewhere(folder: Path) -> None:
    """Has the library read its rows from another place."""
    state = json.loads((folder / "test" / "state.json").read_bytes())
    (folder / "test" / "state.json").write_text(json.dumps(state | {"_data_files": [{"filename": "/dev/zero"}]}))
    seal(folder)


def lessen_the_vocabulary(folder: Path) -> None:
    ByteTokenizer().save(folder)
    seal(folder)


OF_EXAMPLES = [
    say(num_examples=COUNTS),
    say(classes=[3]),
    say(several_classes=1),
    say(near_duplicates={"test": ["x"]}),
    say(more=1),
    lead_elsewhere,
    lessen_the_vocabulary,
    replace("facts.json", os.mkfifo, sealed=False),
]


def tags(tmp_path: Path) -> TagsFile:
    lines(tmp_path, [{"words": [f"w{n}", "was", "here"], "tags": ["B-PER", "O", "O"]} for n in range(20)])
    return TagsFile(files=str(tmp_path / "x.jsonl"), **common(tmp_path))


def rewrite(column: str, value: Callable[[Any], Any]) -> Callable[[Path], None]:
    """Changes a column of the prepared test, in the form that the library reads."""

    def change(folder: Path) -> None:
        examples = load_from_disk(str(folder / "test"))
        rows = [row | {column: value(row[column])} for row in examples.to_list()]
        features = None if column == "firsts" else examples.features  # a number may become a text
        Dataset.from_list(rows, features=features).save_to_disk(str(folder / "changed"))
        shutil.rmtree(folder / "test")
        (folder / "changed").rename(folder / "test")
        seal(folder)

    return change


PLACES_AND_LABELS = [
    (tags, "firsts", lambda firsts: [10**6, *firsts[1:]]),
    (tags, "firsts", lambda firsts: [-1, *firsts[1:]]),
    (tags, "firsts", lambda firsts: firsts[1:]),
    (tags, "firsts", lambda firsts: [None, *firsts[1:]]),
    (tags, "firsts", lambda firsts: None),
    (tags, "firsts", lambda firsts: ["x" for _ in firsts]),
    (tags, "tags", lambda tags: ["B-NONE", *tags[1:]]),
    (answers, "span", lambda span: [0, 10**6]),
    (answers, "span", lambda span: [0]),
    (answers, "first", lambda first: -1),
    (answers, "places", lambda places: places[1:]),
    (classes, "label", lambda label: "neither"),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    "source, change",
    [
        *(pytest.param(texts, change, id=way) for way, change in HOSTILE.items()),
        *((classes, change) for change in OF_EXAMPLES),
        *((source, rewrite(*of)) for source, *of in PLACES_AND_LABELS),
    ],
)
def test_prepared_data_of_a_stranger_is_prepared_again(
    tmp_path: Path,
    source: Callable[[Path], Source],
    change: Callable[[Path], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole = content_of(source(tmp_path))
    (folder,) = (tmp_path / "cache").glob(f"{source(tmp_path).title}-*")
    kept = sorted(os.listdir(tmp_path / "cache"))
    rows = [name for name in kept if name.startswith("rows-")]  # of its file, in the form of `datasets`, with a lock
    assert kept == sorted([folder.name] if source is texts else [folder.name, "locks", *rows])
    assert len(rows) == (source is not texts)
    capsys.readouterr()
    change(folder)
    assert content_of(source(tmp_path)) == whole
    lines = capsys.readouterr().err.splitlines()
    (warning,) = lines if source is texts else [line for line in lines if "warning" in line]  # others show progress
    assert warning.startswith("warning: ") and warning.endswith(": the data is prepared again")
    assert warning.isprintable() or "\N{REPLACEMENT CHARACTER}" in warning
    assert sorted(os.listdir(tmp_path / "cache")) == kept
    assert content_of(source(tmp_path)) == whole
    assert not warnings_of(capsys)


@pytest.mark.slow
@pytest.mark.parametrize("source, ways", [(source, 5 if source in (texts, hub_text) else 1) for source in SOURCES])
def test_what_was_damaged_is_prepared_again_as_it_was(
    tmp_path: Path, source: Callable[[Path], Source], ways: int, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = content_of(source(tmp_path))
    capsys.readouterr()
    assert content_of(source(tmp_path)) == whole
    assert not warnings_of(capsys)
    (prepared,) = (tmp_path / "cache").glob(f"{source(tmp_path).title}-*")
    for number, path in enumerate(files_of(tmp_path / "cache")):
        for way in range(number, number + ways):
            apply(list(WAYS.values())[way % len(WAYS)], path)
            if not path.is_relative_to(prepared):  # the rows of the hub, which are read to prepare anew
                shutil.rmtree(prepared)
            assert content_of(source(tmp_path)) == whole, path
            assert_named(warnings_of(capsys), path)
