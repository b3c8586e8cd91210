"""Damaged prepared data is found and prepared again, whichever file it is and however it was damaged."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from poslab.data import cache
from poslab.data.datamodule import TextDataModule
from poslab.data.examples.answers_file import AnswersFile
from poslab.data.examples.classification_file import ClassificationFile
from poslab.data.examples.datamodule import ExampleDataModule
from poslab.data.examples.hub_classification import HubClassification
from poslab.data.examples.pairs_file import PairsFile
from poslab.data.hub_text import HubText
from poslab.data.source import Source
from poslab.data.text_files import TextFiles

from .conftest import story

pytestmark = pytest.mark.usefixtures("hub_cache")

WAYS: dict[str, Callable[[bytes], bytes | None]] = {
    "cut to half": lambda content: content[: len(content) // 2],
    "emptied": lambda content: b"",
    "one bit flipped": lambda content: flipped(content, 8 * len(content) // 2 + 3),
    "removed": lambda content: None,
    "replaced": lambda content: os.urandom(len(content) + 1),
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
    data = TextDataModule(source) if isinstance(source, TextFiles | HubText) else ExampleDataModule(source)  # type: ignore[arg-type]
    data.prepare_data()
    data.setup()
    text = data.tokenizer.decode(range(data.vocab_size))
    if isinstance(data, TextDataModule):
        return [text, data.num_tokens, data.bytes_per_token, *(data.tokens(name).tolist() for name in cache.SPLITS)]
    return [text, data.facts, *(data.examples(name).to_list() for name in cache.SPLITS)]


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
    """What is kept; what the library `datasets` leaves beside it is never read again."""
    lists = sorted(cache_dir.rglob(cache.CHECKSUMS))
    return [path.parent / name for path in lists for name in (*json.loads(path.read_bytes()), cache.CHECKSUMS)]


SOURCES = [texts, hub_text, classes, hub_classes, pairs, answers]


@pytest.mark.parametrize("source", SOURCES)
def test_every_damage_to_every_file_is_found(
    tmp_path: Path, source: Callable[[Path], Source], capsys: pytest.CaptureFixture[str]
) -> None:
    content_of(source(tmp_path))
    folders = [path for path in (tmp_path / "cache").iterdir() if (path / cache.CHECKSUMS).is_file()]
    for folder in folders:
        assert cache.is_kept(folder)
        shutil.copytree(folder, tmp_path / "whole")
        for path in files_of(folder):
            for way, damage in WAYS.items():
                capsys.readouterr()
                apply(damage, path)
                assert not cache.is_kept(folder) and not folder.exists(), (path, way)
                assert_named(warnings_of(capsys), path)
                shutil.copytree(tmp_path / "whole", folder)
        shutil.rmtree(tmp_path / "whole")


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
