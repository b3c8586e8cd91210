"""Losses by window length are those of plain loops, and intervals are those of a bootstrap over documents."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional

from poslab.encodings import Alibi, Learned
from poslab.evaluation.extrapolation import NON_OVERLAPPING, SLIDING, extrapolate, extrapolation_figures
from poslab.evaluation.scores import tokens as token_scores
from poslab.evaluation.scores.intervals import ratio_interval
from poslab.evaluation.scores.tokens import TextWindows, score_tokens
from poslab.models import Decoder
from poslab.tasks import token_prediction
from tests.encoding_choices import VOCAB_SIZE, small_decoder
from tests.stacked import stacked

END = 7
TOKENS = np.random.default_rng(0).integers(VOCAB_SIZE, size=61)


def loss_after(model: nn.Module, prefix: np.ndarray, target: int) -> float:
    """Nats of a token after others, from the last logits alone."""
    with torch.no_grad():
        logits = model(torch.from_numpy(prefix)[None].long())[0, -1]
    return functional.cross_entropy(logits, torch.tensor(int(target))).item()


@pytest.mark.parametrize("name", ["rotary", "alibi"])
def test_sliding_by_one_equals_a_loop_that_feeds_every_prefix(name):
    model, length = small_decoder(name), 9
    scores = score_tokens(model, TOKENS, TextWindows(len(TOKENS), length, 1))
    expected = [loss_after(model, TOKENS[max(0, i - length) : i], TOKENS[i]) for i in range(1, len(TOKENS))]
    np.testing.assert_allclose(scores.loss, expected, atol=1e-5)
    assert scores.context.tolist() == [min(i, length) for i in range(1, len(TOKENS))]


def test_windows_that_do_not_overlap_equal_a_plain_loop():
    model, length = small_decoder("rotary"), 8
    by_length, *_ = extrapolate(model, TOKENS, [length], 4, END, bytes_per_token=1.0)
    losses, correct = [], []
    for start in range(0, len(TOKENS) - 1, length):
        window = torch.from_numpy(TOKENS[start : start + length + 1]).long()
        with torch.no_grad():
            logits = model(window[None, :-1])[0]
        losses += functional.cross_entropy(logits, window[1:], reduction="none").tolist()
        correct += (logits.argmax(-1) == window[1:]).tolist()
    (row,) = by_length[by_length["protocol"] == NON_OVERLAPPING].to_dict("records")
    assert row["tokens"] == len(TOKENS) - 1
    assert row["loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert row["accuracy"] == pytest.approx(100 * np.mean(correct))
    assert row["perplexity"] == pytest.approx(math.exp(np.mean(losses)), rel=1e-5)
    assert row["bits_per_byte"] == pytest.approx(np.mean(losses) / math.log(2), rel=1e-5)


def test_documents_that_are_kept_apart_are_read_alone():
    model = small_decoder("rotary")
    scores = score_tokens(model, TOKENS, TextWindows(len(TOKENS), 60, 60), boundary=END)
    start = 0
    for position in range(1, len(TOKENS)):
        if TOKENS[position - 1] == END:
            start = position
            assert math.isnan(scores.loss[position - 1])
        else:
            assert scores.loss[position - 1] == pytest.approx(
                loss_after(model, TOKENS[start:position], TOKENS[position]), abs=1e-4
            )


def test_logits_that_are_made_in_pieces_change_nothing(monkeypatch):
    model, windows = small_decoder("t5"), TextWindows(len(TOKENS), 16, 5)
    whole = score_tokens(model, TOKENS, windows)
    monkeypatch.setattr(token_prediction, "LOGITS_AT_ONCE", 3 * VOCAB_SIZE)
    monkeypatch.setattr(token_scores, "TOKENS_AT_ONCE", 40)
    pieces = score_tokens(model, TOKENS, windows)
    np.testing.assert_allclose(pieces.loss, whole.loss, atol=1e-5)
    assert pieces.correct.tolist() == whole.correct.tolist()


@pytest.mark.parametrize("stride", [8, 4, 5, 16])
@pytest.mark.parametrize("boundary", [None, END])
@pytest.mark.parametrize("name", ["rotary", "learned", "t5", "sinusoidal", "cope"])
def test_windows_that_are_not_read_again_have_the_scores_of_reading_them_again(name, boundary, stride):
    model = small_decoder(name).double()
    known = score_tokens(model, TOKENS, TextWindows(len(TOKENS), 16, 16), boundary)
    windows = TextWindows(len(TOKENS), 16, stride)
    alone = score_tokens(model, TOKENS, windows, boundary)
    reused = score_tokens(model, TOKENS, windows, boundary, known=known)
    np.testing.assert_allclose(reused.loss, alone.loss, rtol=1e-6)
    assert reused.correct.tolist() == alone.correct.tolist()
    assert reused.context.tolist() == alone.context.tolist()


def test_of_windows_that_slide_by_half_every_second_one_is_read_and_half_of_its_logits_are_made():
    model, read = small_decoder("rotary"), []
    model.embedding.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0].numel()))
    model.output.register_forward_pre_hook(lambda _, inputs: read.append(-len(inputs[0])))
    tokens = np.random.default_rng(1).integers(VOCAB_SIZE, size=81)
    known = score_tokens(model, tokens, TextWindows(81, 16, 16))
    assert read == [80, -80]
    read.clear()
    score_tokens(model, tokens, TextWindows(81, 16, 8), known=known)  # begin at 0, 8, ..., 64
    assert read == [4 * 16, -4 * 8]


def test_a_model_that_is_not_ours_is_read_the_same():
    model, windows = small_decoder("rotary"), TextWindows(len(TOKENS), 16, 16)
    result, reference = (score_tokens(item, TOKENS, windows) for item in (model, nn.Sequential(model)))
    np.testing.assert_allclose(reference.loss, result.loss, atol=1e-5)


def test_a_model_in_training_is_evaluated_without_dropout_and_trains_on():
    model = stacked(Decoder, VOCAB_SIZE, Alibi, d_model=16, num_layers=1, num_heads=2, dropout=0.5).train()
    model.embedding.eval()  # as a part that is frozen
    windows = TextWindows(len(TOKENS), 16, 16)
    first, second = score_tokens(model, TOKENS, windows), score_tokens(model, TOKENS, windows)
    assert first.loss.tolist() == second.loss.tolist()
    assert all(part.training == (part is not model.embedding) for part in model.modules())


def test_the_context_of_a_token_begins_with_its_document():
    tokens = np.array([1, 2, END, 3, 4, 5, END, 6], dtype=np.uint16)
    scores = score_tokens(small_decoder("rotary"), tokens, TextWindows(len(tokens), 7, 7), boundary=END)
    assert scores.context.tolist() == [1, 2, 0, 1, 2, 3, 0]


def test_a_loss_that_is_no_number_is_told_and_not_left_out():
    class Breaks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, tokens_BT: Tensor) -> Tensor:
            logits_BTV = torch.zeros(*tokens_BT.shape, VOCAB_SIZE)
            logits_BTV[:, 8:] = torch.nan
            return logits_BTV

    by_length, by_position, _ = extrapolate(Breaks(), TOKENS, [8, 16], 8, END, 1.0)
    finite = by_length.set_index(["length", "protocol"])["loss"].map(math.isfinite)
    assert finite[8].all() and not finite[16].any()
    assert len(extrapolation_figures({"model": by_length}, {"model": by_position}, {"model": 8})) == 3


def test_the_interval_is_drawn_by_the_seed():
    tokens = np.random.default_rng(1).integers(VOCAB_SIZE, size=600)  # with documents enough
    arguments = (small_decoder("alibi"), tokens, [16], 8, END, 1.0)
    assert set(extrapolate(*arguments)[0]["pieces"]) == {1 + (tokens[:-2] == END).sum()}
    item, same, other = (extrapolate(*arguments, seed=seed)[0]["loss_low"].tolist() for seed in (1, 1, 2))
    assert item == same != other


def test_where_an_encoding_ends_figures_are_missing():
    model = stacked(Decoder, VOCAB_SIZE, partial(Learned, max_length=16), d_model=16, num_layers=1, num_heads=2)
    by_length, by_position, _ = extrapolate(model, TOKENS, [8, 16, 32], 16, END, bytes_per_token=1.0)
    assert by_length.groupby("length")["loss"].count().to_dict() == {8: 2, 16: 2, 32: 0}
    assert set(by_position["length"]) == {8, 16}


def test_the_losses_by_place_average_to_the_whole():
    by_length, by_position, _ = extrapolate(small_decoder("alibi"), TOKENS, [8, 20], 8, END, bytes_per_token=1.0)
    for (protocol, length), rows in by_position.groupby(["protocol", "length"]):
        (whole,) = by_length[(by_length["protocol"] == protocol) & (by_length["length"] == length)].to_dict("records")
        assert rows["tokens"].sum() == whole["tokens"]
        assert np.average(rows["loss"], weights=rows["tokens"]) == pytest.approx(whole["loss"])
        assert rows["context_from"].iloc[0] == 1 and rows["context_to"].iloc[-1] == length
        assert (rows["context_from"].to_numpy()[1:] == rows["context_to"].to_numpy()[:-1] + 1).all()


def test_early_tokens_saw_less_than_half_a_training_window_and_the_tail_more_than_one():
    model, length, training_length = small_decoder("rotary"), 20, 8
    by_length, *_ = extrapolate(model, TOKENS, [length], training_length, END, bytes_per_token=1.0)
    scores = score_tokens(model, TOKENS, TextWindows(len(TOKENS), length, length))
    early = [loss for loss, seen in zip(scores.loss, scores.context, strict=True) if seen < 4]
    tail = [loss for loss, seen in zip(scores.loss, scores.context, strict=True) if seen > 8]
    (row,) = by_length[by_length["protocol"] == NON_OVERLAPPING].to_dict("records")
    assert (row["early_loss"], row["tail_loss"]) == (pytest.approx(np.mean(early)), pytest.approx(np.mean(tail)))


@pytest.mark.parametrize("lengths", [[0], [61], [4, 100]])
def test_a_length_that_the_text_does_not_fill_is_refused(lengths):
    with pytest.raises(ValueError, match=r"lengths must"):
        extrapolate(small_decoder("none"), TOKENS, lengths, 8, END, bytes_per_token=1.0)


@pytest.mark.slow
def test_the_interval_over_ten_skewed_documents_covers_what_it_promises():
    """Percentiles hold the true ratio 87 times in 100 here."""
    generator, held = np.random.default_rng(0), 0
    for seed in range(400):
        tokens = np.array([1024] * 9 + [700])
        low, high = ratio_interval(tokens * (1 + generator.standard_gamma(1.5, 10)), tokens, resamples=400, seed=seed)
        held += low <= 2.5 <= high
    assert 0.92 <= held / 400 <= 0.98


def test_the_interval_is_that_of_the_pivots_of_a_plain_loop():
    sums, counts = np.array([3.0, 9.0, 4.0, 20.0, 6.0, 7.0]), np.array([2, 4, 3, 7, 3, 1])

    def ratio_and_error(chosen):
        ratio = sum(sums[d] for d in chosen) / sum(counts[d] for d in chosen)
        spread = sum((sums[d] - ratio * counts[d]) ** 2 for d in chosen) * 6 / 5
        return ratio, math.sqrt(spread) / sum(counts[d] for d in chosen)

    ratio, error = ratio_and_error(range(6))
    generator, pivots = np.random.default_rng(7), []
    for _ in range(1001):
        of_drawn, its_error = ratio_and_error(generator.integers(6, size=6))
        pivots.append((of_drawn - ratio) / its_error)
    pivots.sort()
    expected = (ratio - pivots[975] * error, ratio - pivots[25] * error)
    assert ratio_interval(sums, counts, resamples=1001, seed=7) == pytest.approx(expected)


def test_four_documents_have_no_interval():
    assert all(map(math.isnan, ratio_interval(np.array([3.0, 4.0, 2.0, 5.0, 0.0]), np.array([5, 5, 5, 5, 0]))))


def test_documents_that_are_alike_leave_no_doubt():
    assert ratio_interval(np.full(8, 6.0), np.full(8, 3)) == (2, 2)


@pytest.mark.parametrize(("alike", "other"), [(0.0, 5.0), (0.1, 5.0), (0.1, np.nextafter(0.1, 1))])
def test_documents_of_which_all_but_one_are_alike_have_the_interval_of_student(alike, other):
    """A third of the resamples does not have the other one, and no spread beyond rounding."""
    sums = np.array([alike] * 7 + [other])
    expected = stats.ttest_1samp(sums, 0).confidence_interval()
    assert ratio_interval(sums, np.ones(8)) == pytest.approx((expected.low, expected.high))


def test_the_figures_name_every_model_and_protocol():
    frames = {name: extrapolate(small_decoder(name), TOKENS, [8, 32], 8, END, 1.0) for name in ("rotary", "alibi")}
    by_length, by_position = ({name: pair[position] for name, pair in frames.items()} for position in (0, 1))
    bits, context, table = extrapolation_figures(by_length, by_position, dict.fromkeys(by_length, 8))
    assert [panel.get_title() for panel in bits.figure.axes] == [f"{p} windows" for p in (NON_OVERLAPPING, SLIDING)]
    assert [panel.get_title() for panel in context.figure.axes] == ["Rotary (RoPE)", "ALiBi"]
    assert set(table.frame["model"]) == {"rotary", "alibi"}


def figures_of_text(num_tokens: int, **columns):
    """The figures of a small model on a random text, with columns of the table by length replaced."""
    tokens = np.random.default_rng(1).integers(VOCAB_SIZE, size=num_tokens)
    by_length, by_position, _ = extrapolate(small_decoder("alibi"), tokens, [16, 32], 16, END, 1.0)
    return extrapolation_figures({"alibi": by_length.assign(**columns)}, {"alibi": by_position}, {"alibi": 16})


def test_values_that_are_close_do_not_fill_the_axis():
    for values, least, most in (([2.0, 2.0005, 2.001, 2.0], 0.05, 0.06), ([2.0, 2.5, 3.0, 2.0], 1.0, 1.3)):
        bits, *_ = figures_of_text(40, bits_per_byte=values)
        low, high = bits.figure.axes[0].get_ylim()
        assert low < 2.0 < max(values) < high and least - 1e-9 <= high - low <= most
