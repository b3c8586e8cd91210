"""Every mistake is one sentence that begins with the name of its key."""

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
    "change, message",
    [
        ({"sequence_length": 0}, "sequence_length must be a positive integer, got 0"),
        ({"sequence_length": 2.5}, "sequence_length must be an integer, got 2.5"),
        ({"batch_size": -1}, "batch_size must be a positive integer, got -1"),
        ({"batch_size": True}, "batch_size must be an integer, got true"),
        ({"tokenizer": None}, "tokenizer must be text, got null"),
        ({"vocab_size": 256}, "vocab_size must be an integer of at least 257, got 256"),
        ({"validation_fraction": 0}, "validation_fraction must be a number in (0, 1), got 0"),
        ({"test_fraction": "half"}, "test_fraction must be a number, got 'half'"),
        (
            {"validation_fraction": 0.5, "test_fraction": 0.5},
            "test_fraction and validation_fraction must leave text for training, got 0.5 + 0.5",
        ),
        ({"length_multiples": [1, 0]}, "length_multiples must be a list, each item a positive integer, got [1, 0]"),
        ({"length_multiples": [2]}, "length_multiples must hold 1, the training length, got [2]"),
        ({"num_workers": -1}, "num_workers must be an integer of at least 0, got -1"),
        ({"cache_dir": ""}, "cache_dir must be a name or path, got ''"),
        ({"seed": None}, "seed must be an integer, got null"),
    ],
)
def test_a_wrong_value_is_refused_at_once(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        PythonDocs(**change)
    assert str(error.value) == message


@pytest.mark.parametrize(
    "change, message",
    [
        ({"length_multiples": 8}, "dataset.length_multiples must be a list, each item an integer, got 8"),
        ({"length_multiples": "1"}, "dataset.length_multiples must be a list, each item an integer, got '1'"),
        ({"deduplicate": "yes"}, "dataset.deduplicate must be true or false, got 'yes'"),
        ({"document_boundaries": 1}, "dataset.document_boundaries must be true or false, got 1"),
        ({"overfit": None}, "dataset.overfit must be true or false, got null"),
        ({"streaming": "no"}, "dataset.streaming must be true or false, got 'no'"),
        ({"batch_size": 0}, "dataset.batch_size must be a positive integer, got 0"),
        ({"path": None}, "dataset.path must be a name or path, got None"),
        ({"test_split": 3}, "dataset.test_split must be text or null, got 3"),
    ],
)
def test_a_wrong_value_in_a_configuration_is_refused_with_its_full_key(change: dict[str, Any], message: str) -> None:
    node = {"_target_": "poslab.data.hub_text.HubText", "path": "x/y", **change}
    with pytest.raises(ValueError) as error:
        build({"dataset": node}, "dataset", DataSource)
    assert str(error.value) == message


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
        (None, "files must be a path, a glob or a list of them, got None"),
        ([], "files must be a path, a glob or a list of them, got []"),
        ("{}/note.txt", "files names '{}/note.txt', which does not exist; did you mean '{}/notes.txt'?"),
        ("{}/*.md", "files names '{}/*.md', which matches no file"),
        ("{}/gone/nothing.txt", "files names '{}/gone/nothing.txt', which does not exist"),
        ("{}", "files must name files, and '{}' is a folder: write '{}/*'"),
        (["{}/notes.txt", "{}/empty.txt"], "files must hold text, but '{}/empty.txt' is empty"),
        (
            "{}/small.txt",
            "files hold 9 bytes of text, fewer than the 257 tokens of a window"
            " (sequence_length 256 and one to predict)",
        ),
    ],
)
def test_a_mistake_in_files_is_found_by_a_check_that_reads_nothing(folder: Path, files: Any, message: str) -> None:
    if isinstance(files, str):
        files = files.replace("{}", str(folder))
    elif files:
        files = [name.replace("{}", str(folder)) for name in files]
    with pytest.raises(ValueError) as error:
        TextFiles(files=files, cache_dir=str(folder / "cache")).check()
    assert str(error.value) == message.replace("{}", str(folder))


def test_a_text_too_short_to_hold_a_window_out_is_found_by_the_check(folder: Path) -> None:
    (folder / "short.txt").write_text("word " * 600)
    with pytest.raises(ValueError, match=r"^validation_fraction.*files is 150 bytes"):
        TextFiles(files=str(folder / "short.txt"), cache_dir=str(folder / "cache")).check()


def test_a_split_that_ends_up_too_short_is_refused(text: dict[str, Any]) -> None:
    # Long enough in bytes, too short in tokens.
    more = {"tokenizer": "bpe", "sequence_length": 2000, "length_multiples": [1], "vocab_size": 2000}
    corpus = TextFiles(**text | more)
    corpus.check()
    with pytest.raises(ValueError, match=r"^sequence_length.*validation holds only"):
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
    with pytest.raises(ValueError) as error:
        PythonDocs(tokenizer=tokenizer, cache_dir=str(folder)).check()
    expected = f"tokenizer must be bytes, bpe or the path of a tokenizer.json, got {tokenizer!r}{hint}"
    assert str(error.value) == expected


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
        ({"path": None}, "path must be a name or path, got None"),
        ({"path": "json"}, "data_files must name the files that path=json reads, got None"),
        (
            {"path": "json", "data_files": {"train": ["gone.json"]}},
            "data_files names 'gone.json', which does not exist",
        ),
        ({"path": "x/y", "column": ""}, "column must be a name or path, got ''"),
        ({"path": "x/y", "test_split": 3}, "test_split must be text or null, got 3"),
        (
            {"path": "json", "data_files": 3},
            "data_files must be text or a list, each item text or values by name or null, got 3",
        ),
        (
            {"path": "x/y", "streaming": True, "deduplicate": True},
            "deduplicate must be false with streaming, which never has the whole text at hand, got true",
        ),
    ],
)
def test_a_wrong_value_for_the_hub_is_refused_at_once(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        HubText(**change).check()
    assert str(error.value) == message
