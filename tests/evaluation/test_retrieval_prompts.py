"""Prompts of retrieval tasks are exact in length and place, and what they ask for is what a reader finds in them."""

from __future__ import annotations

import math
import re
from functools import cache
from itertools import chain

import numpy as np
import pytest

from poslab.data.retrieval_prompts import TASKS as FORMS
from poslab.data.retrieval_prompts import answer_text
from poslab.data.tokenizers import ByteTokenizer, SubwordTokenizer, Tokenizer
from poslab.evaluation.benchmarks.forms import form_items
from poslab.evaluation.benchmarks.prompts import PoslabTokenizer
from poslab.evaluation.retrieval import RENAMED, REPEATS, TASKS, Haystack, Prompt, log_choices, require_tasks

STORY = "In the morning the old fisherman went down to the harbour, and the gulls followed him along the wall. " * 9
DEPTHS = [0.0, 0.37, 1.0]
EXACT_TASKS = [task.name for task in REPEATS]
HIDDEN = r"The pass key is \d+\. Remember it\."


@cache
def tokenizer(name: str) -> Tokenizer:
    return ByteTokenizer() if name == "bytes" else SubwordTokenizer.train([[STORY]], 400)


def prompts_of(name: str, length: int = 500, depth: float = 0.37, seed: int = 0, **others) -> list[Prompt]:
    haystack = Haystack(others.get("tokenizer", ByteTokenizer()), STORY)
    return TASKS[name].prompts(haystack, length, depth, samples=5, seed=seed)


def texts(prompts: list[Prompt]) -> list[tuple[str, str]]:
    """Each answer, behind the text before it."""
    decode = ByteTokenizer().decode
    return [
        (decode(prompt.tokens[: -prompt.answer_length]), decode(prompt.tokens[-prompt.answer_length :]))
        for prompt in prompts
    ]


@pytest.mark.parametrize("vocabulary", ["bytes", "bpe"])
@pytest.mark.parametrize("name", EXACT_TASKS)
def test_every_prompt_has_exactly_the_length_asked_for(name, vocabulary):
    for length in (300, 301, 777):
        for depth in DEPTHS:
            for prompt in prompts_of(name, length, depth, tokenizer=tokenizer(vocabulary)):
                assert prompt.tokens.shape == (length,)
                assert prompt.tokens.min() >= 0
                assert prompt.tokens.max() < tokenizer(vocabulary).vocab_size
                assert 1 <= prompt.answer_length < length


@pytest.mark.parametrize("name", EXACT_TASKS)
def test_equal_seeds_give_the_same_prompts_and_others_give_others(name):
    def tokens(seed: int) -> list[list[int]]:
        return [prompt.tokens.tolist() for prompt in prompts_of(name, seed=seed)]

    assert tokens(3) == tokens(3)
    both = tokens(3) + tokens(4)
    assert len({tuple(prompt) for prompt in both}) == len(both)


def test_copying_asks_for_the_string_that_its_prompt_begins_with():
    for text, answer in texts(prompts_of("copying")):
        assert answer == text.strip("\n")


def test_induction_repeats_its_first_half_and_asks_for_all_but_the_first_token():
    for length, first in ((100, 0), (101, 1)):
        for prompt in prompts_of("induction", length):
            assert (prompt.tokens[first : first + 50] == prompt.tokens[-50:]).all()
            assert prompt.answer_length == 49


def test_depth_moves_what_is_hidden_and_changes_nothing_else():
    def parts(depth: float) -> list[tuple[str, list[str], str]]:
        return [
            (" ".join(re.sub(HIDDEN, "", text).split()), re.findall(HIDDEN, text), answer)
            for text, answer in texts(prompts_of("passkey", depth=depth))
        ]

    assert parts(0.0) == parts(0.37) == parts(1.0)


def test_subwords_of_an_answer_stand_in_the_text_as_they_do_in_the_answer():
    for prompt in prompts_of("passkey", tokenizer=tokenizer("bpe")):
        answer = prompt.tokens[-prompt.answer_length :]
        whole = tokenizer("bpe").decode(answer)
        words = [tokenizer("bpe").encode(f" {word}").tolist() for word in whole.split()]
        if not whole.startswith(" "):  # the space is a token of its own, and went to the question
            words[0] = tokenizer("bpe").encode(whole.split()[0]).tolist()
        assert answer.tolist() == list(chain.from_iterable(words))
        text = prompt.tokens[: -prompt.answer_length].tolist()
        for word in words:
            assert any(text[i : i + len(word)] == word for i in range(len(text)))


@pytest.mark.parametrize("name", FORMS)
def test_a_prompt_of_a_benchmark_is_its_item_with_the_answer_behind_it(name):
    made = form_items(
        name, PoslabTokenizer(ByteTokenizer()), 2500, 5, seed=0, depth=0.5 if TASKS[name].has_depth else None
    )
    for prompt, item in zip(prompts_of(name, 2500, 0.5), made, strict=True):
        if not name.startswith("babilong"):  # whose hay is the story
            whole = f"{item['input']} {item['gen_prefix']}{answer_text(name, item['outputs'])}"
            assert ByteTokenizer().decode(prompt.tokens) == whole
        assert len(prompt.tokens) <= 2500
        answer = ByteTokenizer().decode(prompt.tokens[-prompt.answer_length :])
        assert f" {answer}" == answer_text(name, item["outputs"])


def test_the_text_of_the_caller_is_the_hay_of_a_benchmark_that_takes_one():
    for text, _ in texts(prompts_of("babilong_qa1", 2500)):
        assert "the gulls followed him along the wall." in text
    for text, _ in texts(prompts_of("passkey", depth=1.0)):
        assert "fisherman" not in text


@pytest.mark.needs("lm_eval", "wonderwords", "nltk")
@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in TASKS if name.startswith(("niah", "vt"))])
def test_an_answer_of_ruler_is_in_the_order_of_its_prompt(name, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for text, answer in texts(prompts_of(name, 3000)):
        values = answer.replace(",", "").split()
        assert all(value in text for value in values)
        if name in ("niah_multivalue", "vt"):
            hay = text.rpartition("hidden in")[2]
            assert [hay.index(value) for value in values] == sorted(hay.index(value) for value in values)


@pytest.mark.parametrize(
    ("output", "count"),
    [
        ("kitchen", 6),
        ("TUM", 14 * 5 * 14 - 1),
        ("1234567", 9 * 10**6),
        ("ABCDE", 26**5),
        ("6b8ce0de-25ff-4efb-ad93-3bd2ac3b7ba4", 2**122),
    ],
)
def test_the_choices_of_a_guess_are_the_answers_of_the_form(output, count):
    assert log_choices(output) == pytest.approx(math.log(count))


def test_an_earlier_name_is_one_sentence_with_the_present_one():
    for earlier, present in RENAMED.items():
        with pytest.raises(ValueError, match=f"^tasks must name {present} instead of {earlier}"):
            require_tasks([earlier])


def test_token_ids_are_a_filler_too_without_their_ends_of_documents():
    documents = ByteTokenizer().encode_documents([STORY, STORY])
    assert Haystack(ByteTokenizer(), documents).text == 2 * STORY


def test_random_sequences_are_of_tokens_that_the_filler_has():
    haystack = Haystack(ByteTokenizer(), "abcab")
    for prompt in TASKS["induction"].prompts(haystack, 60):
        assert set(prompt.tokens.tolist()) == set(b"abc")
    prompts = TASKS["induction"].prompts(Haystack(ByteTokenizer()), 900)
    tokens = np.concatenate([prompt.tokens for prompt in prompts])
    assert set(tokens.tolist()) == set(range(256))


@pytest.mark.parametrize("name", EXACT_TASKS)
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
