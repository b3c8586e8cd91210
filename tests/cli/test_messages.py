"""Mistakes on the command line, with the reviewed messages of messages.txt: `POSLAB_UPDATE=1` writes them again."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file

from poslab.data.tokenizers import SubwordTokenizer
from tests.evaluation.scores.test_measure import ADDITION
from tests.pretrained import tiny as tiny_models
from tests.training.runs import composed, run_of, words
from tests.written_run import write_run

from .running import QUESTION, Ended
from .test_compare import QUESTION as COMPARISON

FILE = Path(__file__).with_name("messages.txt")
MESSAGES = dict(re.findall(r"^\$ (.*)\n(.+(?:\nhint: .+)?)$", FILE.read_text(encoding="utf-8"), re.MULTILINE))
UPDATES = "POSLAB_UPDATE" in os.environ

WHOLE = {"defaults": ["_self_", {"override hydra/job_logging": "none"}, {"override hydra/hydra_logging": "none"}]}
"""Defaults of a whole configuration, such as best.yaml of a sweep."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs, models, questions and files that the commands name."""
    folder = tmp_path_factory.mktemp("messages")
    (folder / "texts").mkdir()
    for number in range(40):
        (folder / "texts" / f"{number}.txt").write_text(words(60, seed=number))
    data = ["dataset=text", f"dataset.files={folder}/texts/*.txt", f"dataset.cache_dir={folder}/cache"]
    write_run(folder / "run", *data, "dataset.sequence_length=16")
    write_run(folder / "learned", *data, "dataset.sequence_length=16", "encoding=learned")
    write_run(folder / "swept" / "trials" / "0000")
    (folder / "swept" / "sweep.yaml").write_text("name: swept\n")
    config = yaml.safe_load((folder / "run" / "config.yaml").read_text())
    (folder / "swept" / "best.yaml").write_text(yaml.safe_dump(WHOLE | config))
    config.pop("attention")
    (folder / "swept" / "cut.yaml").write_text(yaml.safe_dump(WHOLE | config))
    run_of(composed(*ADDITION), folder / "addition")
    tokenizer = SubwordTokenizer.train([[words(300)]], 280)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny_models, "VOCAB_SIZE", tokenizer.vocab_size)
        tiny_models.tiny("llama", torch.float32).save_pretrained(folder / "llama")
    tokenizer.save(folder / "llama")
    contents = {
        "notes.txt": words(3000),
        "dataset.txt": words(100),
        "short.txt": "too short",
        "question.yaml": COMPARISON,
        "unknown_key.yaml": QUESTION.replace("encoding.base", "encoding.bse"),
        "empty_range.yaml": QUESTION.replace("100000", "10"),
        "no_condition.yaml": QUESTION.replace(
            "encoding.fraction: {choices: [0.5, 1.0]}", "encoding: {choices: [rotary, t5]}"
        ),
    }
    for name, content in contents.items():
        (folder / name).write_text(content)
    (folder / "latin.txt").write_bytes("Déjà vu. ".encode("latin-1") * 3000)
    save_file({"weight": torch.zeros(9)}, folder / "foreign.safetensors")
    (folder / "damaged.safetensors").write_bytes((folder / "foreign.safetensors").read_bytes()[:-50])
    return folder


@pytest.fixture(scope="module", autouse=True)
def updated() -> Iterator[None]:
    """Write the messages again at the end, if that is asked for."""
    yield
    if UPDATES:
        FILE.write_text("\n".join(f"$ {line}\n{message}\n" for line, message in MESSAGES.items()), encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("line", MESSAGES, ids=lambda line: line.replace("/", "|"))
def test_a_mistake_is_one_sentence_before_anything_is_written(
    line: str, folder: Path, run_command: Callable[..., Ended]
) -> None:
    before = set(folder.rglob("*"))
    command, *arguments = shlex.split(line)
    ended = run_command(f"src.{command}", *arguments, directory=folder)
    assert ended.status == 2, ended
    assert re.fullmatch(r"error: .+\n(hint: .+\n)?", ended.errors)
    message = without_lists(ended.errors.strip().removeprefix("error: ").replace(str(folder), "FOLDER"))
    if UPDATES:
        MESSAGES[line] = message
    assert message == MESSAGES[line]
    left = {path for path in folder.rglob("*") if not {"cache", ".hydra", ".lock"} & set(path.parts)}
    assert not [path for path in left - before if path.is_file()]


def without_lists(message: str) -> str:
    """Return a message without the choices, and the like, that grow with the repository."""
    message = re.sub(r"it is a key of .*", "it is a key of ...", message)
    return re.sub(r"\d{4}-\d\d-\d\d_[\d-]+", "DATE", message)
