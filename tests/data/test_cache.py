"""Text is prepared once, and safely by several processes at once."""

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from poslab.data import cache
from poslab.data.python_docs import PythonDocs
from poslab.data.run_data import RunData
from poslab.data.text_files import TextFiles
from poslab.data.tokenizers import Tokenizer


def test_a_second_start_tokenises_nothing(text: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    TextFiles(**text).prepare()
    monkeypatch.delattr(Tokenizer, "encode_documents")
    RunData(TextFiles(**text | {"seed": 5, "batch_size": 6})).setup()
    Path(text["files"][0]).write_text("other text " * 100)
    with pytest.raises(AttributeError, match="encode_documents"):
        RunData(TextFiles(**text)).setup()


@pytest.mark.parametrize(
    "change",
    [
        {"tokenizer": "bpe", "vocab_size": 300},
        {"tokenizer": "bpe", "vocab_size": 310},
        {"deduplicate": True},
        {"test_fraction": 0.1},
        {"validation_fraction": 0.1},
    ],
)
def test_what_decides_the_tokens_is_part_of_the_key(
    text: dict[str, Any], change: dict[str, Any], tmp_path: Path
) -> None:
    TextFiles(**text).prepare()
    TextFiles(**change, **text).prepare()
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_whole_documents_are_not_prepared_again_for_other_lengths(text: dict[str, Any], tmp_path: Path) -> None:
    TextFiles(**text).prepare()
    TextFiles(**text | {"sequence_length": 64}).prepare()
    assert len(list((tmp_path / "cache").iterdir())) == 1


@pytest.mark.slow
def test_a_cached_start_does_not_import_datasets(tmp_path: Path) -> None:
    PythonDocs(cache_dir=str(tmp_path)).prepare()
    program = (
        "import sys; from poslab.data.python_docs import PythonDocs;"
        f"PythonDocs(cache_dir={str(tmp_path)!r}).prepare();"
        "print('datasets' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]


@pytest.mark.slow
def test_processes_that_prepare_at_once_end_with_one_whole_folder(tmp_path: Path, stories: list[Path]) -> None:
    program = (
        "import datasets, sys; from poslab.data.cache import read_facts;"
        "from poslab.data.preparation import TextFacts; from poslab.data.text_files import TextFiles;"
        "print(flush=True); sys.stdin.readline();"
        f"corpus = TextFiles(files={str(stories[0].parent / '*.txt')!r}, cache_dir={str(tmp_path / 'cache')!r},"
        " sequence_length=32, length_multiples=[1]);"
        "print(read_facts(corpus.prepare(), TextFacts))"
    )
    command = [sys.executable, "-c", program]
    pipe = subprocess.PIPE
    processes = [subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(2)]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert outputs[0][0] == outputs[1][0] != ""
    (folder,) = (tmp_path / "cache").iterdir()
    assert sorted(path.name for path in folder.iterdir()) == [
        "checksums.json", "facts.json", "test.bin", "tokenizer.json", "train.bin", "validation.bin",
    ]  # fmt: skip


def test_the_second_of_two_preparations_leaves_the_first_in_place(tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "text-1"
    with cache.new_folder(folder) as slow:
        (slow / "who").write_text("slow")
        with cache.new_folder(folder) as fast:
            (fast / "who").write_text("fast")
    assert (folder / "who").read_text() == "fast"
    assert list(folder.parent.iterdir()) == [folder]


def test_a_preparation_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyError), cache.new_folder(tmp_path / "cache" / "text-1"):
        raise KeyError
    assert list((tmp_path / "cache").iterdir()) == []


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from poslab.data.cache import new_folder;"
        f"writing = new_folder(Path({str(tmp_path)!r}) / f'text-{{sys.argv[1] * 20}}');"
        "print(writing.__enter__().name, flush=True); sys.stdin.readline()"
    )
    commands = [[sys.executable, "-c", program, number] for number in "12"]
    pipe = subprocess.PIPE
    processes = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for command in commands]
    left, written = [process.stdout.readline().strip() for process in processes if process.stdout]
    processes[0].kill()
    processes[0].wait()
    with cache.new_folder(tmp_path / f"text-{'3' * 20}") as temporary:
        folders = {written, temporary.name}
        assert {path.name for path in tmp_path.iterdir()} == {*folders, *(f"{name}.lock" for name in folders)}, left
    processes[1].kill()
    for process in processes:
        process.communicate()


def test_a_folder_of_somebody_else_is_kept(tmp_path: Path) -> None:
    (tmp_path / "mine.tmp").mkdir()
    (tmp_path / f"text-{'0' * 20}").mkdir()
    with cache.new_folder(tmp_path / f"text-{'1' * 20}"):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"mine.tmp", *(f"text-{number * 20}" for number in "01")}


def test_a_folder_whose_files_cannot_be_listed_is_not_taken_for_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with cache.new_folder(tmp_path / "kept") as folder:
        (folder / "rows").write_text("one")
    assert cache.verify_or_discard(tmp_path / "kept")

    def fail(path: Path, pattern: str) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as disk:
        disk.setattr(Path, "rglob", fail)
        assert not cache.verify_or_discard(tmp_path / "kept")
    assert "kept is not as it was" in capsys.readouterr().err
    assert not (tmp_path / "kept").exists()


def test_a_full_disk_is_told_as_the_fault_of_the_cache(tmp_path: Path) -> None:
    refused = pytest.raises(ValueError, match=r"^cache_dir.*No space left")
    with refused, cache.new_folder(tmp_path / "text-1"):
        raise OSError(28, "No space left on device")


def test_a_loader_process_is_sent_the_path_of_tokens_and_not_the_tokens(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(bytes(range(200)) * 1000)
    tokens = cache.TokenFile(tmp_path / "x.bin", "uint8")
    assert len(tokens) == 200_000
    assert tokens.ids[201] == 1
    assert len(pickle.dumps(tokens)) < 1000
    assert pickle.loads(pickle.dumps(tokens)).ids[201] == 1
