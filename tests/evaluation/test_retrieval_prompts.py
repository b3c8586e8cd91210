"""Prompts of retrieval tasks are exact in length and place, and what they ask for is what a reader finds in them."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from itertools import chain

import numpy as np
import pytest

from poslab.data.tokenizers import ByteTokenizer, SubwordTokenizer, Tokenizer
from poslab.evaluation.retrieval import TASKS, Haystack, Prompt, make_prompts

STORY = "In the morning the old fisherman went down to the harbour, and the gulls followed him along the wall. " * 9
DEPTHS = [0.0, 0.37, 1.0]
WITH_DEPTH = [name for name, task in TASKS.items() if task.has_depth]


@cache
def tokenizer(name: str) -> Tokenizer:
    return ByteTokenizer() if name == "bytes" else SubwordTokenizer.train([[STORY]], 400)


def prompts_of(name: str, length: int = 500, depth: float = 0.37, seed: int = 0, **others) -> list[Prompt]:
    haystack = Haystack(others.get("tokenizer", ByteTokenizer()), STORY)
    return make_prompts(TASKS[name], haystack, length, depth, samples=5, seed=seed)


def texts(prompts: list[Prompt]) -> list[tuple[str, str]]:
    """Each answer, behind the text before it."""
    decode = ByteTokenizer().decode
    return [
        (decode(prompt.tokens[: -prompt.answer_length]), decode(prompt.tokens[-prompt.answer_length :]))
        for prompt in prompts
    ]


@pytest.mark.parametrize("vocabulary", ["bytes", "bpe"])
@pytest.mark.parametrize("name", TASKS)
def test_every_prompt_has_exactly_the_length_asked_for(name, vocabulary):
    for length in (300, 301, 777):
        for depth in DEPTHS:
            for prompt in prompts_of(name, length, depth, tokenizer=tokenizer(vocabulary)):
                assert prompt.tokens.shape == (length,)
                assert prompt.tokens.min() >= 0
                assert prompt.tokens.max() < tokenizer(vocabulary).vocab_size
                assert 1 <= prompt.answer_length < length


@pytest.mark.parametrize("name", TASKS)
def test_equal_seeds_give_the_same_prompts_and_others_give_others(name):
    def tokens(seed: int) -> list[list[int]]:
        return [prompt.tokens.tolist() for prompt in prompts_of(name, seed=seed)]

    assert tokens(3) == tokens(3)
    both = tokens(3) + tokens(4)
    assert len({tuple(prompt) for prompt in both}) == len(both)


def number_of(text: str) -> str:
    (key,) = re.findall(r"What is the number of (\w+)\?", text)
    (number,) = re.findall(rf"\nThe number of {key} is (\d+)\.\n", text)
    return number


def numbers_of(text: str) -> str:
    (key,) = re.findall(r"numbers of (\w+), in order\?", text)
    return " ".join(re.findall(rf"\nA number of {key} is (\d+)\.\n", text))


def variables_of(text: str) -> str:
    (value,) = re.findall(r"Which variables are (\d+), in order\?", text)
    values: dict[str, str] = {}
    for name, source in re.findall(r"\nLet (\w+) = (\w+)\.\n", text):
        values[name] = values.get(source, source)
    return " ".join(name for name, known in values.items() if known == value)


READERS: dict[str, Callable[[str], str]] = {
    "passkey": lambda text: re.findall(r"\nThe pass key is (\d+)\. Remember it\.\n", text)[0],
    "needle": number_of,
    "multi_key": number_of,
    "multi_value": numbers_of,
    "variable_tracking": variables_of,
    "copying": lambda text: text.strip("\n"),
    "induction": lambda text: text,
}


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("name", [name for name in TASKS if name != "induction"])
def test_a_reader_of_the_prompt_finds_the_answer(name, depth):
    for text, answer in texts(prompts_of(name, depth=depth)):
        assert READERS[name](text) == answer


def test_induction_repeats_its_first_half_and_asks_for_all_but_the_first_token():
    for length, first in ((100, 0), (101, 1)):
        for prompt in prompts_of("induction", length):
            assert (prompt.tokens[first : first + 50] == prompt.tokens[-50:]).all()
            assert prompt.answer_length == 49


HIDDEN = {
    "passkey": r"\nThe pass key is \d+\. Remember it\.\n",
    "needle": r"\nThe number of \w+ is \d+\.\n",
    "multi_key": r"\nThe number of \w+ is \d+\.\n",
    "multi_value": r"\nA number of \w+ is \d+\.\n",
    "variable_tracking": r"\nLet \w+ = \w+\.\n",
}


def asked_for(name: str, text: str, answer: str) -> list[str]:
    """The hidden sentences about the thing that is asked for."""
    lines = re.findall(HIDDEN[name], text)
    return [line for line in lines if any(f" {word}" in line.partition("=")[0] for word in answer.split())]


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("name", WITH_DEPTH)
def test_depth_is_the_share_of_the_filler_before_the_needle(name, depth):
    """Of several, the first; others that are not asked for may stand before it. A token is a byte here."""
    for text, answer in texts(prompts_of(name, depth=depth)):
        before_question = text[: text.rindex("\nWh")]
        first = asked_for(name, text, answer)[0]
        before, _, after = before_question.partition(first)
        filler_before, filler_after = (re.sub(HIDDEN[name], "", part) for part in (before, after))
        assert len(filler_before) == round(depth * (len(filler_before) + len(filler_after)))


@pytest.mark.parametrize("name", WITH_DEPTH)
def test_at_the_ends_the_needle_is_first_and_last(name):
    for text, _ in texts(prompts_of(name, depth=0.0)):
        assert text.startswith("\n")
        assert asked_for(name, text, READERS[name](text))[0] == re.search(HIDDEN[name], text).group()
    for text, _ in texts(prompts_of(name, depth=1.0)):
        needles = asked_for(name, text, READERS[name](text))
        assert text[: text.rindex("\nWh")].endswith("".join(needles))


@pytest.mark.parametrize("name", WITH_DEPTH)
def test_depth_moves_what_is_hidden_and_changes_nothing_else(name):
    def parts(depth: float) -> list[tuple[str, list[str], str]]:
        return [
            (re.sub(HIDDEN[name], "", text), sorted(re.findall(HIDDEN[name], text)), answer)
            for text, answer in texts(prompts_of(name, depth=depth))
        ]

    assert parts(0.0) == parts(0.37) == parts(1.0)


@pytest.mark.parametrize("name", WITH_DEPTH)
def test_subwords_of_an_answer_stand_in_the_text_as_they_do_in_the_answer(name):
    for prompt in prompts_of(name, tokenizer=tokenizer("bpe")):
        answer = prompt.tokens[-prompt.answer_length :]
        whole = tokenizer("bpe").decode(answer)
        words = [tokenizer("bpe").encode(f" {word}").tolist() for word in whole.split()]
        if not whole.startswith(" "):  # the space is a token of its own, and went to the question
            words[0] = tokenizer("bpe").encode(whole.split()[0]).tolist()
        assert answer.tolist() == list(chain.from_iterable(words))
        text = prompt.tokens[: -prompt.answer_length].tolist()
        for word in words:
            assert any(text[i : i + len(word)] == word for i in range(len(text)))


def test_needles_lie_in_the_text_of_the_caller_and_passkeys_never_do():
    for text, _ in texts(prompts_of("needle", depth=1.0)):
        assert text[: text.index("\n")] in STORY * 2
    for text, _ in texts(prompts_of("passkey", depth=1.0)):
        assert "fisherman" not in text


def test_token_ids_are_a_filler_too_without_their_ends_of_documents():
    documents = ByteTokenizer().encode_documents([STORY, STORY])
    assert Haystack(ByteTokenizer(), documents).text.tolist() == list(2 * STORY.encode())


def test_random_sequences_are_of_tokens_that_the_filler_has():
    haystack = Haystack(ByteTokenizer(), "abcab")
    for prompt in make_prompts(TASKS["induction"], haystack, 60, 0.0):
        assert set(prompt.tokens.tolist()) == set(b"abc")
    prompts = make_prompts(TASKS["induction"], Haystack(ByteTokenizer()), 900, 0)
    tokens = np.concatenate([prompt.tokens for prompt in prompts])
    assert set(tokens.tolist()) == set(range(256))


@pytest.mark.parametrize("name", TASKS)
def test_the_length_that_an_error_names_is_enough_and_one_less_is_not(name):
    with pytest.raises(ValueError, match=r"^lengths must .*got 1$") as error:
        prompts_of(name, length=1)
    needed = int(re.findall(r"\d+", str(error.value))[0])
    for depth in DEPTHS:
        assert len(prompts_of(name, length=needed, depth=depth)) == 5
    with pytest.raises(ValueError, match=f"at least {needed} tokens"):
        prompts_of(name, length=needed - 1)


@pytest.mark.parametrize("filler", [np.array([256]), ""], ids=["ends alone", "nothing"])
def test_a_filler_without_a_token_is_an_error(filler):
    with pytest.raises(ValueError, match=r"^filler must"):
        Haystack(ByteTokenizer(), filler)
