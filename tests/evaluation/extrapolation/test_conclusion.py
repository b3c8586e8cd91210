"""A report begins with sentences that its figures bear out."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from poslab.evaluation.extrapolation.conclusion import SummaryMetric, conclusion, why_unlearned
from poslab.evaluation.extrapolation.length_figures import ALL
from poslab.evaluation.extrapolation.text import extrapolate
from poslab.evaluation.scores.items import ItemScores
from poslab.tasks.picture_classification import OF_SIDES
from poslab.tasks.task import OF_EXAMPLES, OF_WINDOWS

NOISE = np.random.default_rng(0).normal(0, 0.1, 60)
HOLDS = "(To hold is to be at most 5 % worse than at the training length, with 95 % certainty.)"


def bits(mean: float, spread: float = 0.0, items: int = 60) -> ItemScores:
    """Items that are as hard for every model, and a spread of the model's own, which its mean draws."""
    own = np.random.default_rng(round(1000 * mean)).normal(0, 1, 60)
    values = (mean + NOISE - NOISE[:items].mean() + spread * (own - own.mean()))[:items]
    return ItemScores("bits_per_byte", 0, values, np.ones(items, np.int64), "same")


def right(share: float, items: int = 50) -> ItemScores:
    values = np.where(np.arange(items) < round(share * items), 100.0, 0.0)
    return ItemScores("accuracy", 0, values, np.ones(items, np.int64), "same")


def of_text(**scores: dict[int, ItemScores]) -> SummaryMetric:
    trained = dict.fromkeys(scores, 64)
    return SummaryMetric("{} bits per byte", False, scores, trained, OF_WINDOWS)


def of_task(**scores: dict[int, ItemScores]) -> SummaryMetric:
    return SummaryMetric("an accuracy of {} %", True, scores, dict.fromkeys(scores, 10), OF_EXAMPLES)


def test_one_run_has_its_figures_and_how_far_it_holds():
    first, last, reach = conclusion(of_text(Rotary={64: bits(2.5), 128: bits(2.55), 256: bits(3.1)}))
    assert first.startswith(
        "Rotary has 2.500 bits per byte in windows of 64 tokens, the training length (95 % interval 2"
    )
    assert first.endswith(" over 60 items).")
    assert last.startswith("Rotary has 3.100 bits per byte in windows of 256 tokens (95 % ")
    assert reach == (
        "Rotary holds up to windows of 128 tokens, 2 times the training length, but not in windows of 256 tokens "
        f"(3.100 bits per byte). {HOLDS}"
    )


def test_the_better_of_two_runs_is_named_with_its_gain_and_interval():
    (sentence,) = conclusion(of_text(Alibi={64: bits(2.4, 0.05)}, T5={64: bits(2.5, 0.05)}))
    assert sentence.startswith(
        "In windows of 64 tokens, the training length, Alibi is the best: 2.400 bits per byte, 0.100 (95 % interval 0.0"
    )
    assert sentence.endswith(") less than T5.")


def test_the_best_of_several_is_compared_with_the_next():
    (sentence,) = conclusion(of_text(T5={64: bits(2.5)}, none={64: bits(3.5)}, Alibi={64: bits(2.4)}))
    assert "Alibi is the best of 3: 2.400 bits per byte, 0.100 (" in sentence
    assert sentence.endswith(" less than T5, the next.")


def test_the_best_of_several_beats_all_of_them_or_is_not_called_so():
    """The next one is clearly worse; another, whose mean is worse still, is inconclusive."""
    (sentence,) = conclusion(of_text(T5={64: bits(2.45, 0.02)}, none={64: bits(2.5, 1.0)}, Alibi={64: bits(2.4)}))
    assert "Alibi next to none is inconclusive: 2.400 bits per byte and 2.500 bits per byte" in sentence


def test_runs_whose_interval_holds_0_are_not_told_apart():
    (sentence,) = conclusion(of_text(Alibi={64: bits(2.4, 0.5)}, T5={64: bits(2.41, 0.5)}))
    assert "Alibi next to T5 is inconclusive: 2.400 bits per byte and 2.410 bits per byte, a difference of " in sentence
    assert "0.010 (95 % interval −0." in sentence


def test_the_best_can_change_with_the_length():
    sentences = conclusion(of_text(Alibi={64: bits(2.5), 512: bits(2.5)}, T5={64: bits(2.4), 512: bits(3.5)}))
    assert "T5 is the best" in sentences[0]
    assert sentences[1].startswith("In windows of 512 tokens, Alibi is the best: ")
    assert "Alibi holds up to windows of 512 tokens, 8 times the training length, the longest that" in sentences[2]
    assert "T5 does not hold in windows of 512 tokens (3.500 bits" in sentences[2]


def test_what_holds_for_several_runs_is_said_once():
    sentences = conclusion(of_text(**{name: {64: bits(2.5), 512: bits(2.5)} for name in ("Alibi", "T5")}))
    assert sentences[-1].startswith("Alibi and T5 hold up to windows of 512 tokens, 8 times the training length, the l")


def test_runs_that_give_the_same_answers_are_alike():
    (sentence,) = conclusion(of_task(none={10: right(0.5)}, T5={10: right(0.5)}))
    assert sentence.endswith("none and T5 are alike: an accuracy of 50.0 %, and no item differs.")


def test_a_run_whose_encoding_ends_does_not_hide_the_others_beyond():
    reaching = {"Alibi": {64: bits(2.5), 512: bits(2.5)}, "T5": {64: bits(2.4), 512: bits(3.5)}}
    sentences = conclusion(of_text(Learned={64: bits(2.3)}, **reaching))
    assert "Learned is the best of 3" in sentences[0] and "Learned" not in sentences[2]
    assert sentences[1].startswith("In windows of 512 tokens, Alibi is the best: 2.500 bits per byte, 1.000 (")


def test_a_share_is_better_if_it_is_more_and_is_told_over_all_lengths():
    scores = {"none": {ALL: right(0.5), 10: right(0.6), 20: right(0.2)}, "T5": {ALL: right(0.9), 10: right(1.0)}}
    first, trained, reach = conclusion(of_task(**scores))
    assert first.startswith("Over all lengths, T5 is the best: an accuracy of 90.0 %, 40.0 points (95 % interval ")
    assert first.endswith(") more than none.")
    assert trained.startswith(
        "At length 10, the training length, T5 is the best: an accuracy of 100.0 %, 40.0 points ("
    )
    assert reach == f"none does not hold at length 20 (an accuracy of 20.0 %). {HOLDS}"


def test_lengths_of_pictures_are_sides_throughout():
    scores = {
        "none": {28: right(0.9, 900), 56: right(0.9, 900), 112: right(0, 900)},
        "T5": {28: right(1, 900), 56: right(0.2, 900)},
    }
    text = " ".join(conclusion(SummaryMetric("an accuracy of {} %", True, scores, dict.fromkeys(scores, 28), OF_SIDES)))
    assert "At a side of 28 pixels, the training side, T5 is the best: " in text
    assert "none holds up to a side of 56 pixels, 2 times the training side, but not at a side of 112 pix" in text
    assert "T5 does not hold at a side of 56 pixels (an accuracy of 20.0 %)" in text
    assert text.endswith(" % worse than at the training side, with 95 % certainty.)") and "length" not in text


def test_a_task_that_is_never_right_does_not_hold():
    assert "none is never right at the training length" in conclusion(of_task(none={10: right(0), 20: right(0)}))[-1]


def test_without_a_length_beyond_training_nothing_is_said_of_it():
    assert len(conclusion(of_text(Rotary={64: bits(2.5)}))) == 1
    assert len(conclusion(of_text(Rotary={128: bits(2.5), 256: bits(2.5)}))) == 2


def test_too_few_items_have_no_interval_and_say_so():
    (alone,) = conclusion(of_text(Rotary={64: bits(2.5, items=3)}))
    assert alone.endswith(", the training length (no interval: 3 items are too few).")
    (single,) = conclusion(of_text(Rotary={64: bits(2.5, items=1)}))
    assert single.endswith("(no interval: 1 item is too few).")
    (two,) = conclusion(of_text(Alibi={64: bits(2.4, items=3)}, T5={64: bits(2.5, items=3)}))
    assert two.endswith(
        "Alibi next to T5 is inconclusive: 2.400 bits per byte and 2.500 bits per byte, a difference of 0.100 "
        "(no interval: too few items)."
    )


def test_items_too_few_to_tell_how_far_a_run_holds_say_so():
    few = conclusion(of_task(none={10: right(4 / 6, items=6), 20: right(0.5, items=6)}))[-1]
    assert few == (
        "none is not known to hold beyond the training length: 6 items are too few to tell (at length 20: an accuracy "
        f"of 50.0 %, 95 % interval 18.8 to 81.2). {HOLDS}"
    )
    fewer = conclusion(of_text(T5={64: bits(2.5, items=3), 128: bits(3.5, items=3)}))[-1]
    assert "beyond the training length: 3 items are too few to tell (in windows of 128 tokens: 3.5" in fewer


def test_a_certain_failure_beyond_an_uncertain_length_is_named():
    own = {10: right(0.9, 900), 20: right(0.9, 900), 30: right(0.85, 900), 40: right(0.1, 900)}
    assert conclusion(of_task(T5=own))[-1] == (
        f"T5 holds up to length 20, 2 times the training length, but not at length 40 (an accuracy of 10.0 %). {HOLDS}"
    )
    assert (
        "T5 holds up to length 20, 2 times the training length, beyond which 900 items are too few to tell (at"
        in (conclusion(of_task(T5={length: own[length] for length in (10, 20, 30)}))[-1])
    )


def test_losses_on_the_same_documents_are_paired(rng):
    """Documents differ far more than the losses at two lengths do."""
    spread = rng.normal(0, 0.8, 60)
    near, far = (ItemScores("b", n, 2.5 + k + spread, np.ones(60, np.int64), "same") for n, k in ((64, 0), (128, 0.06)))
    assert "T5 holds up to windows of 128 tokens" in conclusion(of_text(T5={64: near, 128: far}))[-1]


def test_a_run_that_has_diverged_is_named_and_the_others_compared():
    broken = bits(2.5)
    broken.sums[0] = np.nan
    sentences = conclusion(of_text(Alibi={64: bits(2.4)}, T5={64: broken}))
    assert sentences[0] == "T5 has diverged: what it predicts is not a number."
    assert sentences[1].startswith("Alibi has 2.400")
    assert conclusion(of_text(T5={64: broken})) == sentences[:1]


PERIOD, TOKENS = 20, 8


class LooksBack(nn.Module):
    """Expects the token that stood some places before, once it has seen it; before that, any token."""

    def __init__(self, places: int | None) -> None:
        super().__init__()
        self.places, self.weight = places, nn.Parameter(torch.ones(1))

    def forward(self, tokens_BT: Tensor) -> Tensor:
        logits_BTV = torch.zeros(*tokens_BT.shape, TOKENS)
        if self.places is not None:
            seen = tokens_BT[:, : max(0, tokens_BT.shape[1] - self.places + 1)]
            logits_BTV[:, self.places - 1 :] = 4 * functional.one_hot(seen, TOKENS).float()
        return logits_BTV


@pytest.mark.parametrize(("places", "said"), [(None, "has not learned"), (1, "no context beyond 8"), (PERIOD, None)])
def test_a_model_that_predicts_no_better_far_into_a_window_says_nothing_of_longer_ones(rng, places, said):
    steps = rng.integers(TOKENS, size=PERIOD)
    text = np.where(rng.random(9000) < 0.9, np.tile(steps, 450), rng.integers(TOKENS, size=9000))
    if places == 1:
        text = np.repeat(text, 3)[:9000]  # so that the token before helps
    unigram = -np.log(np.bincount(text, minlength=TOKENS) / len(text))
    found = extrapolate(LooksBack(places), text, [64, 256], 64, TOKENS, 1.0, unigram=unigram)
    reason = why_unlearned(found.items, 64)
    assert reason is None if said is None else said in (reason or "")
    assert why_unlearned(found.items, 32) is None  # nothing is known of its training length


@pytest.mark.parametrize(("places", "said"), [(None, "has not learned"), (1, "no context beyond 8"), (PERIOD, None)])
def test_a_text_too_short_for_intervals_shows_it_by_its_values(rng, places, said):
    text = np.tile(rng.integers(TOKENS, size=PERIOD), 150)
    text = np.repeat(text, 3)[:3000] if places == 1 else text
    unigram = -np.log((np.bincount(text, minlength=TOKENS) + 1) / (len(text) + TOKENS))
    found = extrapolate(LooksBack(places), text, [64], 64, TOKENS, 1.0, unigram=unigram)
    reason = why_unlearned(found.items, 64)
    assert reason is None if said is None else said in (reason or "")


def test_of_a_model_that_has_not_learned_nobody_says_that_it_holds():
    scores = {name: {64: bits(4.7), 128: bits(4.7)} for name in ("rotary", "alibi")}
    headline = SummaryMetric(
        "{} bits per byte", False, scores, dict.fromkeys(scores, 64), OF_WINDOWS, 0, {"rotary": "has not learned"}
    )
    said = conclusion(headline)
    assert said[0] == "rotary has not learned."
    assert said[-1].startswith("alibi holds up to windows of 128 tokens")
