"""Tags of words: entities, their F1, and a run that learns them."""

import json
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

import poslab
from poslab.data.batch import IGNORE
from poslab.data.examples.tags import TAGS
from poslab.data.kinds import ReadingOptions
from poslab.data.tokenizers import ByteTokenizer, SubwordTokenizer
from poslab.tasks.token_tagging import EntityScores, TokenTagging, entities
from poslab.training.checking import check
from tests.training.runs import composed, run_of

KINDS = ("PER", "LOC")
NAMES = ["O", *(f"{prefix}-{kind}" for kind in KINDS for prefix in "BI")]


def by_definition(tags: list[str]) -> set[tuple[int, int, str]]:
    """Every span whose first word begins an entity, whose others continue it, and which the next word does not."""

    def begins(position: int, kind: str) -> bool:
        before = tags[position - 1] if position else "O"
        return tags[position] == f"B-{kind}" or (tags[position] == f"I-{kind}" and before[2:] != kind)

    return {
        (first, last, kind)
        for first in range(len(tags))
        for last in range(first + 1, len(tags) + 1)
        for kind in KINDS
        if begins(first, kind)
        and all(tags[position] == f"I-{kind}" for position in range(first + 1, last))
        and (last == len(tags) or tags[last] != f"I-{kind}")
    }


def sequences(count: int) -> list[list[str]]:
    return [random.Random(seed).choices(NAMES, k=1 + seed % 9) for seed in range(count)]


def test_entities_are_those_of_the_definition():
    for tags in sequences(300):
        assert entities(tags) == by_definition(tags), tags


def test_metrics_are_those_of_all_entities_together():
    counts, right, predicted, actual = EntityScores("precision", "recall", "f1"), 0, 0, 0
    for computed, reference in zip(sequences(200), sequences(400)[200:], strict=True):
        length = min(len(computed), len(reference))
        counts.update(computed[:length], reference[:length])
        result, there = by_definition(computed[:length]), by_definition(reference[:length])
        right, predicted, actual = right + len(result & there), predicted + len(result), actual + len(there)
    precision, recall = right / predicted, right / actual
    assert 0 < right < min(predicted, actual)
    assert counts.compute() == pytest.approx(
        {"precision": 100 * precision, "recall": 100 * recall, "f1": 200 * precision * recall / (precision + recall)}
    )


def test_nothing_predicted_is_0_and_no_error():
    counts = EntityScores("precision", "recall", "f1")
    counts.update(["O"], ["B-PER"])
    assert counts.compute() == {"precision": 0, "recall": 0, "f1": 0}


def test_the_tag_of_a_word_is_the_target_of_its_first_token_alone():
    task = TokenTagging(["B-PER", "O"], ByteTokenizer())
    rows = TAGS.tokenise({"text": ["é ab c", "x"]}, ByteTokenizer(), ReadingOptions())
    batch = task.collate({**rows, "tags": [["O", "B-PER", "O"], ["O"]]}, np.array([True, False]))
    expected = torch.full((2, 9), IGNORE)
    expected[0, [1, 4, 7]] = torch.tensor([1, 0, 1])  # é has two bytes, behind the end of a document
    assert torch.equal(batch.targets, expected)


def tokenizer_like_bert() -> SubwordTokenizer:
    """A tokenizer that leaves out control characters."""
    tokenizer = SubwordTokenizer.train([["to be or not to be"]], 300)
    tokenizer._tokenizer.normalizer = normalizers.BertNormalizer()
    return tokenizer


def tokenizer_across_spaces() -> SubwordTokenizer:
    """A tokenizer of which `to be` is a single token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(["to be"] * 5, trainer)
    return SubwordTokenizer(tokenizer)


@pytest.mark.parametrize(
    ("tokenizer", "text", "word"),
    [
        (tokenizer_like_bert, "\x01", "'\\x01'"),
        (tokenizer_like_bert, "to \x01 be", "'\\x01'"),
        (tokenizer_like_bert, "to be \x02", "'\\x02'"),
        (tokenizer_across_spaces, "to be", "'to'"),
    ],
)
def test_a_word_without_a_token_of_its_own_is_refused(tokenizer, text, word):
    with pytest.raises(ValueError, match=rf"^tokenizer must .*, and {re.escape(word)} has none$"):
        TAGS.tokenise({"text": [text]}, tokenizer(), ReadingOptions())


def sentences(path: Path, count: int = 400) -> Path:
    """A file in which capital letters make a person, and what follows `in` a place."""
    draw = random.Random(0)
    with path.open("w") as file:
        for _ in range(count):
            person = [draw.choice(["Ada", "Bo"]), draw.choice(["Lee", "Kay"])][: draw.randint(1, 2)]
            words = [*person, draw.choice(["was", "is"]), "in", draw.choice(["rome", "oslo"])]
            tags = [*["B-PER", "I-PER"][: len(person)], "O", "O", "B-LOC"]
            file.write(json.dumps({"words": words, "tags": tags}) + "\n")
    return path


TINY = (
    *("model.d_model=32", "model.num_layers=1", "model.num_heads=2", "trainer=cpu", "trainer.precision=32-true"),
    *("dataset=tags_file", "dataset.tokenizer=bytes", "dataset.deduplicate=false"),
)


def tiny(folder: Path, file: Path, *overrides: str) -> dict:
    return composed(*TINY, f"dataset.files={file}", f"dataset.cache_dir={folder / 'cache'}", *overrides)


def test_names_are_learned_measured_and_predicted(tmp_path):
    config = tiny(tmp_path, sentences(tmp_path / "names.jsonl"), "trainer.max_steps=60", "optimizer.lr=1e-2")
    run = run_of(config, tmp_path / "run")
    metrics = run.metrics()
    assert metrics["test/f1"] > 90 and metrics["validation/f1"] > 90
    tag = poslab.serve(run.path)
    assert tag("Ada  Lee was in oslo").text == "B-PER I-PER O O B-LOC"
    with pytest.raises(ValueError, match=r"^beams must be 1"):
        poslab.serve(run.path, beams=2)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "words,tags\na b,O\n", r"tags must.*1 tags for 2 words"),
        ("a.csv", "words,tags\na b,O X\n", r"tags must.*B-PER, but .* has 'X'"),
        ("a.csv", "words,tags\na b,O B-\n", r"tags must.*I- with a type, .* has 'B-'"),
        ("a.csv", "words,tags\n,O\n", r"words must.*empty in .*row 1"),
        ("a.jsonl", '{"words": ["a", null], "tags": ["O", "O"]}', r"words must.*'words' in .* has"),
        ("a.jsonl", '{"words": ["a"], "tags": []}', r"tags must.*in every row"),
        ("a.csv", "words,tags\na,O\nb,O\nc,O\nd,O\n", r"dataset.tags.*such as B-PER"),
    ],
)
def test_a_file_that_is_wrong_is_one_sentence(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        run_of(tiny(tmp_path, tmp_path / name), tmp_path / "run")


def test_a_decoder_has_no_task_on_tags(tmp_path):
    with pytest.raises(ValueError, match=r"^model must .*got decoder$"):
        check(tiny(tmp_path, sentences(tmp_path / "names.jsonl"), "model=decoder"))
