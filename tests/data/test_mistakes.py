"""Every mistake is one sentence that begins with the name of its key."""

import re
from pathlib import Path
from typing import Any

import pytest

from poslab.configuration.build import build
from poslab.data.hub_text import HubText
from poslab.data.python_docs import PythonDocs
from poslab.data.run_data import RunData
from poslab.data.source import DataSource
from poslab.data.text_files import TextFiles


@pytest.mark.parametrize(
    "change, got",
    [
        ({"sequence_length": 0}, "0"),
        ({"sequence_length": 2.5}, "2.5"),
        ({"batch_size": -1}, "-1"),
        ({"batch_size": True}, "true"),
        ({"tokenizer": None}, "null"),
        ({"vocab_size": 256}, "256"),
        ({"validation_fraction": 0}, "0"),
        ({"test_fraction": "half"}, "'half'"),
        ({"test_fraction": 0.5, "validation_fraction": 0.5}, "0.5 + 0.5"),
        ({"length_multiples": [1, 0]}, "[1, 0]"),
        ({"length_multiples": [2]}, "[2]"),
        ({"num_workers": -1}, "-1"),
        ({"cache_dir": ""}, "''"),
        ({"seed": None}, "null"),
    ],
)
def test_a_wrong_value_is_refused_at_once(change: dict[str, Any], got: str) -> None:
    with pytest.raises(ValueError, match=rf"^{' and '.join(change)} must .*, got {re.escape(got)}$"):
        PythonDocs(**change)


@pytest.mark.parametrize(
    "key, value, got",
    [
        ("length_multiples", 8, "8"),
        ("length_multiples", "1", "'1'"),
        ("deduplicate", "yes", "'yes'"),
        ("document_boundaries", 1, "1"),
        ("overfit", None, "null"),
        ("streaming", "no", "'no'"),
        ("batch_size", 0, "0"),
        ("path", None, "None"),
        ("test_split", 3, "3"),
    ],
)
def test_a_wrong_value_in_a_configuration_is_refused_with_its_full_key(key: str, value: Any, got: str) -> None:
    node = {"_target_": "poslab.data.hub_text.HubText", "path": "x/y", key: value}
    with pytest.raises(ValueError, match=rf"^dataset\.{key} must be .*, got {got}$"):
        build({"dataset": node}, "dataset", DataSource)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "notes.txt").write_text("A note that is long enough. " * 1000)
    (tmp_path / "empty.txt").touch()
    (tmp_path / "small.txt").write_text("too small")
    (tmp_path / "latin.txt").write_bytes("Déjà vu. ".encode("latin-1") * 5000)
    return tmp_path


@pytest.mark.parametrize(
    "files, message",
    [
        (None, "files must be .*, got null"),
        ([], r"files must be .*, got \[\]"),
        ("{}/note.txt", "files names '{}/note.txt', .*/notes.txt'.*"),
        ("{}/*.md", r"files names '{}/\*.md', .*no file"),
        ("{}/gone/nothing.txt", "files names '{}/gone/nothing.txt', which .*"),
        ("{}", r"files must name files, .*'{}/\*'"),
        (["{}/notes.txt", "{}/empty.txt"], "files must .*'{}/empty.txt' is empty"),
    ],
)
def test_a_mistake_in_files_is_found_by_a_check_that_reads_nothing(folder: Path, files: Any, message: str) -> None:
    if isinstance(files, str):
        files = files.replace("{}", str(folder))
    elif files:
        files = [name.replace("{}", str(folder)) for name in files]
    with pytest.raises(ValueError, match=f"^{message.replace('{}', re.escape(str(folder)))}$"):
        TextFiles(files=files, cache_dir=str(folder / "cache")).check()


@pytest.mark.parametrize("words", [2, 600])
def test_a_text_too_short_to_hold_a_window_out_is_refused(folder: Path, words: int) -> None:
    (folder / "short.txt").write_text("word " * words)
    data = RunData(TextFiles(files=str(folder / "short.txt"), cache_dir=str(folder / "cache")))
    with pytest.raises(ValueError, match=r"^sequence_length of 256 .* has only"):
        data.setup()


def test_a_split_that_ends_up_too_short_is_refused(text: dict[str, Any]) -> None:
    # Long enough in bytes, too short in tokens.
    more = {"tokenizer": "bpe", "sequence_length": 2000, "length_multiples": [1], "vocab_size": 2000}
    corpus = TextFiles(**text | more)
    corpus.check()
    with pytest.raises(ValueError, match=r"^sequence_length.*validation has only"):
        RunData(corpus).setup()
    to_test = RunData(corpus)
    to_test.setup("test")
    assert 0 < len(to_test.splits.tokens("validation")) < 2001


def test_bytes_that_are_no_text_are_refused_with_their_file(folder: Path) -> None:
    corpus = TextFiles(files=str(folder / "latin.txt"), cache_dir=str(folder / "cache"))
    with pytest.raises(ValueError, match=r"^files must.*not at byte 1$"):
        corpus.prepare()


@pytest.mark.parametrize(
    "tokenizer, hint", [("byte", "; did you mean 'bytes'?"), ("{}/note.json", "; did you mean '{}/notes.json'?")]
)
def test_a_missing_tokenizer_is_found_by_the_check(folder: Path, tokenizer: str, hint: str) -> None:
    (folder / "notes.json").touch()
    tokenizer, hint = (text.replace("{}", str(folder)) for text in (tokenizer, hint))
    with pytest.raises(ValueError, match=f"^tokenizer must be .*, got {re.escape(repr(tokenizer) + hint)}$"):
        PythonDocs(tokenizer=tokenizer, cache_dir=str(folder)).check()


def test_a_cache_that_is_no_directory_is_found_by_the_check(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"^cache_dir.*'.*notes.txt/cache'$"):
        PythonDocs(cache_dir=str(folder / "notes.txt" / "cache")).check()


@pytest.mark.parametrize("path", ["9" * 900, f"{'9' * 900}/x", "~no-such-user/x"])
@pytest.mark.parametrize("key", ["tokenizer", "cache_dir", "files"])
def test_a_path_that_the_system_cannot_name_is_refused(folder: Path, text: dict[str, Any], key: str, path: str) -> None:
    with pytest.raises(ValueError, match=f"^{key} (must be|names) .*{path}"):
        TextFiles(**text | {"cache_dir": str(folder / "cache"), key: path}).check()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"path": None}, "path must be .*, got None"),
        ({"path": "json"}, "data_files must .*path=json.* None"),
        ({"path": "json", "data_files": {"train": ["gone.json"]}}, "data_files names 'gone.json', .*"),
        ({"path": "x/y", "column": ""}, "column must be .*, got ''"),
        ({"path": "x/y", "test_split": 3}, "test_split must be .*, got 3"),
        ({"path": "json", "data_files": 3}, "data_files must be .*, got 3"),
        ({"path": "x/y", "streaming": True, "deduplicate": True}, "deduplicate must .*streaming, .*, got true"),
    ],
)
def test_a_wrong_value_for_the_hub_is_refused_at_once(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        HubText(**change).check()
