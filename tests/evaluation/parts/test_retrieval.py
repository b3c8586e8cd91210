"""Scores of retrieval are those of decoding token by token, of models that find everything, and of guessing."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from poslab.data.tokenizers import ByteTokenizer
from poslab.encodings import Learned
from poslab.evaluation.parts.retrieval import retrieval
from poslab.evaluation.retrieval import DEFAULT_TASKS, TASKS, Haystack, Prompt, RetrievalTask, score_answers
from poslab.models import Decoder
from tests.encoding_choices import factory
from tests.greedy import greedy
from tests.stacked import stacked

BYTES = ByteTokenizer()
STORY = "In the morning the old fisherman went down to the harbour, and the gulls followed him along the wall. "


class SuffixMatcher(nn.Module):
    """Predicts what followed the longest run of tokens that it has read before, at its latest position."""

    def forward(self, tokens_BT: Tensor) -> Tensor:
        logits = torch.zeros(*tokens_BT.shape, BYTES.vocab_size)
        for row, tokens in enumerate(tokens_BT.tolist()):
            followed: dict[tuple[int, ...], int] = {}
            for at in range(len(tokens)):
                suffixes = [tuple(tokens[max(0, at + 1 - n) : at + 1]) for n in range(24, 0, -1)]
                known = next((followed[suffix] for suffix in suffixes if suffix in followed), None)
                if known is not None:
                    logits[row, at, known] = 20.0
                if at + 1 < len(tokens):
                    followed.update(dict.fromkeys(suffixes, tokens[at + 1]))
        return logits


class DigitGuesser(nn.Module):
    """Takes any digit, whatever it has read."""

    def forward(self, tokens_BT: Tensor) -> Tensor:
        logits = torch.full((*tokens_BT.shape, BYTES.vocab_size), -1e4)
        generator = torch.Generator().manual_seed(int(tokens_BT.sum()))
        logits[..., ord("0") : ord("9") + 1] = 1e-3 * torch.rand(*tokens_BT.shape, 10, generator=generator)
        return logits


def small_decoder(encoding: str = "rotary", dropout: float = 0.0) -> Decoder:
    torch.manual_seed(0)
    return stacked(Decoder, BYTES.vocab_size, factory(encoding), 32, 2, 4, dropout=dropout).eval()


@pytest.mark.parametrize("name", ["passkey", "copying"])
def test_a_model_that_matches_suffixes_finds_everything(name):
    frame = retrieval(SuffixMatcher(), BYTES, [name], lengths=[250, 301], samples=3, filler=STORY)
    assert (frame["accuracy"] == 100).all()
    assert (frame["token_accuracy"] == 100).all()
    assert (frame["loss"] < 1e-4).all()


def test_a_model_that_matches_suffixes_knows_induction_where_no_token_comes_twice():
    prompts = TASKS["induction"].prompts(Haystack(BYTES), 24, samples=40)
    clear = [prompt for prompt in prompts if len(set(prompt.tokens.tolist())) == 12]
    assert len(clear) > 10
    assert score_answers(SuffixMatcher(), clear)["correct"].all()


def test_a_model_that_guesses_is_at_chance():
    (row,) = retrieval(DigitGuesser(), BYTES, ["passkey"], lengths=[230], depths=[0.5], samples=200).to_dict("records")
    assert row["chance_loss"] == pytest.approx(math.log(90_000) / 5)  # the first digit is not 0
    assert row["loss"] == pytest.approx(math.log(10), rel=1e-3)
    assert row["token_accuracy"] == pytest.approx(10, abs=100 * 4 * math.sqrt(0.09 / 1000))  # of 1,000 digits
    assert row["accuracy"] < 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("json_kv", 122 * math.log(2) / 36),
        ("copying", math.log(26)),
        ("induction", math.log(256)),
    ],
)
def test_the_loss_of_a_guess_is_that_of_the_number_of_answers(name, expected):
    frame = retrieval(small_decoder(), BYTES, [name], lengths=[600], depths=[0.5], samples=2)
    assert frame["chance_loss"].tolist() == pytest.approx([expected])


def prompts_partly_as_the_model_goes_on(model: nn.Module) -> tuple[list[Prompt], list[bool]]:
    """Random tokens with answers of several lengths: what the model goes on with, and the same with one token wrong."""
    generator = np.random.default_rng(5)
    prompts, right = [], []
    for number in range(12):
        count = 1 + number % 4
        tokens = generator.integers(BYTES.vocab_size, size=40 - count).tolist()
        answer = greedy(model, tokens, count)
        if number % 3 == 0:
            wrong = int(generator.integers(count))
            answer[wrong] = (answer[wrong] + 1) % BYTES.vocab_size
        prompts.append(Prompt(np.array(tokens + answer), count, 0.0))
        right.append(number % 3 != 0)
    return prompts, right


@pytest.mark.parametrize("encoding", ["rotary", "alibi", "sinusoidal"])
def test_an_answer_is_right_when_greedy_decoding_gives_it(encoding):
    model = small_decoder(encoding)
    prompts, right = prompts_partly_as_the_model_goes_on(model)
    assert score_answers(model, prompts, tokens_at_once=150)["correct"].tolist() == right


def test_the_loss_of_an_answer_is_that_of_its_tokens_one_by_one():
    model = small_decoder()
    prompts, _ = prompts_partly_as_the_model_goes_on(model)
    scores = score_answers(model, prompts)
    for prompt, (_, row) in zip(prompts, scores.iterrows(), strict=True):
        losses, correct = [], 0
        for at in range(40 - prompt.answer_length, 40):
            with torch.no_grad():
                logits = model(torch.from_numpy(prompt.tokens[None, :at]))[0, -1]
            target = int(prompt.tokens[at])
            losses.append(functional.cross_entropy(logits, torch.tensor(target)).item())
            correct += int(logits.argmax()) == target
        assert row["loss"] == pytest.approx(sum(losses), rel=1e-4)
        assert (row["tokens"], row["tokens_correct"]) == (prompt.answer_length, correct)


def test_a_row_is_the_mean_over_its_prompts_and_their_tokens(monkeypatch):
    """Of subwords the answers differ in length."""
    model = small_decoder()
    prompts, _ = prompts_partly_as_the_model_goes_on(model)

    class Given(RetrievalTask):
        def prompts(self, haystack, length, depth=0.0, samples=10, seed=0):
            return [replace(prompt, log_choices=7.0) for prompt in prompts]

    monkeypatch.setitem(TASKS, "given", Given("given", "", ""))
    (row,) = retrieval(model, BYTES, ["given"], lengths=[40], depths=[0], samples=12).to_dict("records")
    scores = score_answers(model, prompts)
    assert scores["tokens"].nunique() == 4
    assert row["accuracy"] == pytest.approx(100 * 8 / 12)
    assert row["token_accuracy"] == pytest.approx(100 * scores["tokens_correct"].sum() / 30)
    assert row["loss"] == pytest.approx(scores["loss"].sum() / 30)
    assert row["chance_loss"] == pytest.approx(12 * 7 / 30)


def test_neither_the_batch_nor_the_kind_of_model_changes_the_scores():
    wrapped = nn.Sequential(small_decoder())  # not a Decoder, so that all of its logits are made
    arguments = {"tasks": ["passkey", "induction"], "lengths": [150], "samples": 4, "filler": STORY}
    one_by_one = retrieval(small_decoder(), BYTES, tokens_at_once=1, **arguments)
    pd.testing.assert_frame_equal(one_by_one, retrieval(small_decoder(), BYTES, **arguments), rtol=1e-4)
    pd.testing.assert_frame_equal(one_by_one, retrieval(wrapped, BYTES, **arguments), rtol=1e-4)


def test_no_batch_has_more_tokens_than_it_may():
    seen: list[tuple[int, ...]] = []

    class Watched(DigitGuesser):
        def forward(self, tokens_BT: Tensor) -> Tensor:
            seen.append(tuple(tokens_BT.shape))
            return super().forward(tokens_BT)

    retrieval(Watched(), BYTES, ["copying"], lengths=[150, 700], samples=5, tokens_at_once=300)
    assert [shape[0] for shape in seen] == [2, 2, 1, 1, 1, 1, 1, 1]


def test_a_row_does_not_depend_on_the_other_rows():
    model = small_decoder()
    many = retrieval(model, BYTES, ["copying", "passkey"], lengths=[200, 250], depths=[0, 0.5, 1], samples=2)
    alone = retrieval(model, BYTES, ["passkey"], lengths=[250], depths=[0.5], samples=2)
    same = many[(many["task"] == "passkey") & (many["length"] == 250) & (many["depth"] == 0.5)]
    pd.testing.assert_frame_equal(alone, same.reset_index(drop=True))


def test_the_default_tasks_are_measured_at_every_length_that_has_room_and_at_every_depth():
    frame = retrieval(small_decoder(), BYTES, lengths=[1500, 300], depths=[1, 0], samples=1, filler=STORY)
    expected = [
        (name, length, depth)
        for name in DEFAULT_TASKS
        for length in ((300, 1500) if name in ("passkey", "variables", "copying", "induction") else (1500,))
        for depth in ([0, 1] if name in ("passkey", "mqar", "json_kv", "mrcr_2") else [-1])
    ]
    measured = frame["task"], frame["length"], frame["depth"].fillna(-1)
    assert list(zip(*measured, strict=True)) == expected
    assert frame.drop(columns="depth").notna().all().all()


def test_beyond_the_end_of_a_model_figures_are_missing():
    model = stacked(Decoder, BYTES.vocab_size, lambda d_model: Learned(d_model, max_length=200), 32, 1, 4)
    frame = retrieval(model, BYTES, ["passkey"], lengths=[200, 201], depths=[0.5], samples=2)
    within, beyond = frame.to_dict("records")
    assert within["samples"] == 2 and within["loss"] > 0
    assert beyond["samples"] == 0
    assert all(math.isnan(beyond[figure]) for figure in ("accuracy", "token_accuracy", "loss", "chance_loss"))


def test_dropout_is_off_during_a_measurement_and_on_again_after_it():
    model = small_decoder(dropout=0.5).train()
    measured = [retrieval(model, BYTES, ["passkey"], lengths=[150], depths=[0], samples=2) for _ in range(2)]
    pd.testing.assert_frame_equal(*measured)
    assert model.training and model.dropout.training
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tasks": ["pasky"]}, r"^tasks must.*you mean 'passkey'\?$"),
        ({"tasks": ["multi_key"]}, r"^tasks must name niah_multikey_1 instead of multi_key"),
        ({"tasks": ["copying"], "lengths": [300, 3]}, r"^lengths must .*got 3$"),
        ({"tasks": ["json_kv"], "lengths": [20]}, r"^task=json_kv needs a length of at least \d+ tokens .*got 20$"),
    ],
)
def test_a_mistake_is_one_sentence_before_anything_is_measured(arguments, message):
    class Untouched(nn.Module):
        def forward(self, tokens_BT: Tensor) -> Tensor:
            raise AssertionError("the model was asked")

    with pytest.raises(ValueError, match=message):
        retrieval(Untouched(), BYTES, **{"tasks": ["passkey"], "lengths": [300], **arguments})


def test_prompts_of_several_lengths_are_scored_as_each_alone():
    prompts = [Prompt(np.arange(length), 1 + length % 2, 0.0) for length in (9, 5, 9, 4, 5)]
    alone = pd.concat([score_answers(small_decoder(), [prompt]) for prompt in prompts], ignore_index=True)
    pd.testing.assert_frame_equal(score_answers(small_decoder(), prompts), alone, rtol=1e-4)
