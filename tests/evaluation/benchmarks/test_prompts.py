import json
import shutil
from types import SimpleNamespace

import pytest

from poslab.data.retrieval_prompts import Prompt
from poslab.data.tokenizers import ByteTokenizer
from poslab.evaluation.benchmarks import prompts
from poslab.evaluation.benchmarks.fitting import as_item
from poslab.evaluation.benchmarks.prompts import GROUPS, TASKS, items, only_needles, without_needles

LENGTH = 500


@pytest.fixture(autouse=True)
def made(tmp_path, monkeypatch):
    """The arguments of all generated items; Poslab's cache is empty, and RULER's generators need no package."""
    calls = []

    def ruler_items(task, tokenizer, length, count, seed, **others):
        calls.append((task, length, count, seed, others))
        prompt = Prompt(f"Say {seed}:\nit is {seed}.\nNow", "It is", [str(seed)], (7, 17), [f"it is {seed}."])
        return [as_item(i, prompt, len(tokenizer("x").input_ids), length, "RULER", seed, 8) for i in range(count)]

    monkeypatch.setattr(prompts.ruler, "ruler_items", ruler_items)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return calls


def test_every_task_is_of_one_group():
    assert sorted(TASKS) == sorted({*TASKS}) == sorted(task for group in GROUPS.values() for task in group)


def test_items_are_made_once_for_the_same_arguments(made):
    assert items("vt", ByteTokenizer(), LENGTH, 2) == items("vt", ByteTokenizer(), LENGTH, 2)
    assert len(made) == 1


@pytest.mark.parametrize(
    "others", [{"task": "cwe"}, {"length": 501}, {"count": 3}, {"seed": 7}, {"task": "niah_single_1", "depth": 0.5}]
)
def test_other_arguments_make_other_items(others, made):
    arguments = {"task": "vt", "tokenizer": ByteTokenizer(), "length": LENGTH, "count": 2, "seed": 42}
    items(**arguments)
    items(**arguments | others)
    assert len(made) == 2


def test_items_are_made_again_for_another_text_and_another_tokenizer(made):
    for text in ("One.", "Two.", "One."):
        items("niah_single_2", ByteTokenizer(), LENGTH, 1, text=text)
    assert len(made) == 2

    def of(name):
        tokenizer = lambda text: SimpleNamespace(input_ids=[0])  # noqa: E731 - a function has attributes
        tokenizer.backend_tokenizer = SimpleNamespace(to_str=lambda: name)
        return tokenizer

    for name in ("first", "second", "first"):
        items("vt", of(name), LENGTH, 1)
    assert len(made) == 4


def test_items_of_a_tokenizer_that_cannot_be_written_are_not_kept(made):
    for _ in range(2):
        items("vt", lambda text: SimpleNamespace(input_ids=[0]), LENGTH, 1)
    assert len(made) == 2


def rewrite(folder, items):
    """Write other items as somebody would who knows the form of the cache."""
    shutil.rmtree(folder)
    with prompts.new_folder(folder) as temporary:
        (temporary / "items.json").write_text(json.dumps({"items": items}))


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder, kept: (folder / "items.json").write_bytes(b"\x80\x04."),
        lambda folder, kept: (folder / "items.json").unlink(),
        lambda folder, kept: (folder / "checksums.json").write_text("[]"),
        lambda folder, kept: rewrite(folder, []),
        lambda folder, kept: rewrite(folder, [3]),
        lambda folder, kept: rewrite(folder, [kept[0] | {"more": 1}]),
        lambda folder, kept: rewrite(folder, [kept[0] | {"outputs": "7"}]),
        lambda folder, kept: rewrite(folder, [kept[0] | {"outputs": []}]),
        lambda folder, kept: rewrite(folder, [kept[0] | {"hay": [1]}]),
        lambda folder, kept: rewrite(folder, [kept[0] | {"max_length": 7}]),
    ],
)
def test_a_damaged_or_foreign_file_is_made_again(damage, made, tmp_path, capsys):
    kept = items("vt", ByteTokenizer(), LENGTH, 1)
    (folder,) = (tmp_path / "cache" / "poslab").glob("prompts-vt-*")
    damage(folder, kept)
    assert items("vt", ByteTokenizer(), LENGTH, 1) == kept
    assert len(made) == 2
    assert capsys.readouterr().err.startswith("warning: ")
    assert items("vt", ByteTokenizer(), LENGTH, 1) == kept
    assert len(made) == 2


def test_items_are_made_where_nothing_can_be_kept(made, tmp_path, capsys):
    (tmp_path / "cache").write_text("a file")
    assert len(items("vt", ByteTokenizer(), LENGTH, 1)) == 1
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("hay", "needles", "without", "only"),
    [
        ("a. x 1. b.", ["x 1."], "a. b.", "x 1."),
        ("x 1. a. y 2.", ["x 1.", "y 2."], "a.", "x 1. y 2."),
        ("a\nx 1\nb", ["x 1"], "a\nb", "x 1"),
        ("a. b.", [], "a. b.", "a. b."),
    ],
)
def test_needles_are_taken_with_the_space_around_them(hay, needles, without, only):
    item = {"input": f"Go.\n{hay}\nWhy?", "hay": [4, 4 + len(hay)], "needles": needles}
    assert without_needles(item) == f"Go.\n{without}\nWhy?"
    assert only_needles(item) == f"Go.\n{only}\nWhy?"


@pytest.mark.parametrize(
    ("task", "arguments", "message"),
    [
        ("niah", {}, "task must be one of .*, got 'niah'"),
        ("vt", {"seed": -1}, "seed from 0"),
        ("vt", {"count": 0}, "count must be at least 1"),
        ("niah_single_1", {"depth": 1.5}, "^depth must be from 0 to 1, got 1.5"),
        ("cwe", {"depth": 0.5}, "^depth must be null for task=cwe; it is for niah_single_1, "),
    ],
)
def test_wrong_arguments_are_one_sentence(task, arguments, message):
    with pytest.raises(ValueError, match=message):
        items(task, ByteTokenizer(), **{"length": LENGTH, "count": 1} | arguments)
