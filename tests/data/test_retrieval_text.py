"""Prose with prompts of retrieval: as many bytes of prompts as asked for, in training only, and not those of a test."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from poslab.data import retrieval_prompts
from poslab.data.retrieval_prompts import TASKS, document
from poslab.data.retrieval_text import RetrievalText
from poslab.data.tokenizers import ByteTokenizer
from poslab.evaluation.benchmarks.prompts import items

from .conftest import story
from .test_packages import package, wheel

QUESTION = {
    "passkey": "What is the pass key?",
    "mqar": "The number of ",
    "variables": "Which variables have the value ",
}


def source(tmp_path: Path, **arguments) -> RetrievalText:
    files = {f"{number}.txt": story(number).encode() for number in range(40)}
    archive = wheel(tmp_path / "tiny-1.0-py3-none-any.whl", files)
    given = {"packages": [package(archive, ["*.txt"])], "cache_dir": str(tmp_path), "test_fraction": 0.1}
    return RetrievalText(**given | arguments)


def is_prompt(text: str) -> bool:
    return not text.startswith("story")


@pytest.mark.parametrize("share", [0.2, 0.6])
def test_prompts_are_this_share_of_the_training_bytes_and_none_of_the_held_out_ones(share, tmp_path):
    splits = {name: list(part["text"]) for name, part in source(tmp_path, share=share).documents().items()}
    prompts = [text for text in splits["train"] if is_prompt(text)]
    assert sum(map(len, prompts)) / sum(map(len, splits["train"])) == pytest.approx(share, abs=0.01)
    assert splits["validation"] + splits["test"]
    assert not any(map(is_prompt, splits["validation"] + splits["test"]))


def test_tasks_are_equally_frequent_and_their_lengths_are_spread(tmp_path):
    texts = [text for text in source(tmp_path, share=0.8).documents()["train"]["text"] if is_prompt(text)]
    counts = [sum(QUESTION[task] in text for text in texts) for task in QUESTION]
    assert sum(counts) == len(texts)
    assert min(counts) > 0.8 * len(texts) / 3
    assert max(map(len, texts)) <= 800
    assert sum(len(text) < 400 for text in texts) > len(texts) / 10


def test_no_prompt_of_a_benchmark_is_in_the_training_text(tmp_path):
    texts = {text for text in source(tmp_path, share=0.8).documents()["train"]["text"] if is_prompt(text)}
    for task in QUESTION:
        for item in items(task, ByteTokenizer(), 900, 20):
            assert not any(item["input"] in text for text in texts)


def test_short_and_easy_prompts_come_with_little_prose(tmp_path):
    easy = {"min_prompt_bytes": 60, "max_prompt_bytes": 90, "num_pairs": 2, "num_hops": 1, "max_prose_characters": 100}
    texts = list(source(tmp_path, share=0.9, **easy).documents()["train"]["text"])
    prompts = [text for text in texts if is_prompt(text)]
    assert sum(map(len, texts)) - sum(map(len, prompts)) == 100
    assert {text.count("VAR ") for text in prompts if "VAR" in text} == {6}  # two chains of a number and one hop
    assert {text.count("The number of") for text in prompts if "number of" in text} == {4}
    assert {len(text) for text in prompts if "pass key" in text} <= set(range(60, 91))


@pytest.mark.parametrize("task", TASKS)
def test_a_training_prompt_ends_with_its_answer(task):
    text = document(task, random.Random(3), 500)
    assert re.search(
        r"(\d{4}|[A-Z]{3}|[0-9a-f]{12}|in the \w+|(above|after|along|behind|beneath|between) the \w+)\.$", text
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tasks": []}, "^tasks must not be empty"),
        ({"tasks": ["passkei"]}, "^tasks must be one of passkey, .*you mean 'passkey'"),
        ({"share": 1.0}, "^share must"),
        ({"max_prompt_bytes": 100}, "^max_prompt_bytes must be at least min_prompt_bytes=200, got 100"),
        ({"num_pairs": 0}, "^num_pairs must"),
    ],
)
def test_a_mistake_is_one_sentence(arguments, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        source(tmp_path, **arguments)


def test_text_is_prepared_again_after_an_edit_of_its_generators(tmp_path, monkeypatch):
    before = source(tmp_path).prepared_folder()
    assert source(tmp_path).prepared_folder() == before
    edited = tmp_path / "edited.py"
    edited.write_text(Path(retrieval_prompts.__file__).read_text() + "\n")
    monkeypatch.setattr(retrieval_prompts, "__file__", str(edited))
    assert source(tmp_path).prepared_folder() != before
