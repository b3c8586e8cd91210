"""The tables that a report begins with say which model is better, and how far each stays within 5%."""

import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from poslab.evaluation.by_length import ALL
from poslab.evaluation.command import summary
from poslab.evaluation.evaluation import Evaluation
from poslab.evaluation.extrapolation import SLIDING, extrapolate
from poslab.evaluation.scores.items import ItemScores
from poslab.evaluation.summary import (
    NO_CONTEXT,
    UNLEARNED,
    WITHIN,
    ContextUse,
    SummaryMetric,
    comparison_table,
    longer_context_table,
    why_unlearned,
    within_tolerance,
)
from poslab.io.terminal import HarmlessConsole
from poslab.report.figures import Section, Table

NOISE = np.random.default_rng(0).normal(0, 0.1, 60)


def bits(mean: float, spread: float = 0.0, items: int = 60) -> ItemScores:
    """Items that are as hard for every model, and a spread of the model's own, which its mean draws."""
    of_model = np.random.default_rng(abs(round(1000 * mean))).normal(0, 1, 60)
    values = (mean + NOISE - NOISE[:items].mean() + spread * (of_model - of_model.mean()))[:items]
    return ItemScores("bits_per_byte", 0, values, np.ones(items, np.int64), "same")


def right(share: float, items: int = 50) -> ItemScores:
    values = np.where(np.arange(items) < round(share * items), 100.0, 0.0)
    return ItemScores("accuracy", 0, values, np.ones(items, np.int64), "same")


def of_text(**scores: dict[int, ItemScores]) -> SummaryMetric:
    return SummaryMetric("bits per byte", False, scores, dict.fromkeys(scores, 64))


def of_task(**scores: dict[int, ItemScores]) -> SummaryMetric:
    return SummaryMetric("accuracy", True, scores, dict.fromkeys(scores, 10))


def verdicts(metric: SummaryMetric) -> dict[tuple[str, str], str]:
    """The verdict of each row by its metric and model."""
    frame = comparison_table(metric).frame
    return {(row["metric"], row["model"]): row["verdict"] for row in frame.to_dict("records")}


def test_one_run_has_its_values_and_intervals_and_no_verdict():
    frame = comparison_table(of_text(Rotary={64: bits(2.5), 128: bits(2.55), 256: bits(3.1)})).frame
    assert list(frame["metric"]) == ["bits per byte at 64", "bits per byte at 256"]
    assert list(frame["value"]) == ["2.500", "3.100"]
    assert frame["interval"][0].startswith("2.4") and "verdict" not in frame


def test_the_better_of_two_runs_has_the_gain_with_its_interval():
    frame = comparison_table(of_text(Alibi={64: bits(2.4, 0.05)}, T5={64: bits(2.5, 0.05)})).frame
    assert list(frame["verdict"]) == ["best", "worse"]
    assert frame["difference"][1] == "0.100" and frame["its interval"][1].startswith("0.0")


def test_the_best_beats_all_others_or_is_not_called_so():
    """T5 is clearly worse; none, whose mean is worse still, is inconclusive."""
    metric = of_text(T5={64: bits(2.45, 0.02)}, none={64: bits(2.5, 1.0)}, Alibi={64: bits(2.4)})
    assert list(verdicts(metric).values()) == ["worse", "inconclusive", "inconclusive"]


def test_the_best_can_change_with_the_length():
    result = verdicts(of_text(Alibi={64: bits(2.5), 512: bits(2.5)}, T5={64: bits(2.4), 512: bits(3.5)}))
    assert list(result.values()) == ["worse", "best", "best", "worse"]


def test_runs_that_give_the_same_answers_are_equivalent():
    result = verdicts(of_task(none={10: right(0.5)}, T5={10: right(0.5)}))
    assert result["accuracy at 10", "T5"] == "equivalent"


def test_a_run_whose_encoding_ends_does_not_hide_the_others_beyond():
    longer = {"Alibi": {64: bits(2.5), 512: bits(2.5)}, "T5": {64: bits(2.4), 512: bits(3.5)}}
    result = verdicts(of_text(Learned={64: bits(2.3)}, **longer))
    assert result["bits per byte at 64", "Learned"] == "best" and result["bits per byte at 512", "Alibi"] == "best"
    assert ("bits per byte at 512", "Learned") not in result


def test_a_share_is_better_if_it_is_more_and_is_compared_over_all_lengths():
    scores = {"none": {ALL: right(0.5), 10: right(0.6), 20: right(0.2)}, "T5": {ALL: right(0.9), 10: right(1.0)}}
    frame = comparison_table(of_task(**scores)).frame.set_index(["metric", "model"])
    assert frame.loc[("accuracy", "T5"), "verdict"] == "best"
    assert frame.loc[("accuracy", "none"), "difference"] == "40.0"


def test_too_few_items_have_no_interval_and_decide_nothing():
    frame = comparison_table(of_text(Alibi={64: bits(2.4, items=3)}, T5={64: bits(2.5, items=3)})).frame
    assert list(frame["verdict"]) == ["inconclusive", "too few items"]
    assert frame["interval"].isna().all() and frame["difference"][1] == "0.100"


def test_a_run_that_has_diverged_is_named_and_the_others_compared():
    broken = bits(2.5)
    broken.sums[0] = np.nan
    metric = of_text(Alibi={64: bits(2.4), 128: bits(2.4)}, T5={64: broken, 128: bits(2.5)})
    assert verdicts(metric)["bits per byte at 64", "T5"] == "diverged"
    assert within_tolerance(metric) == {"Alibi": "128 (2x), all tested", "T5": "diverged"}


@pytest.mark.parametrize(
    ("beyond", "verdict"),
    [
        ({128: 2.55, 256: 3.1}, "128 (2x)"),
        ({128: 2.5, 512: 2.5}, "512 (8x), all tested"),
        ({128: 3.5}, "64 (1x)"),
    ],
)
def test_a_model_stays_within_five_percent_up_to_a_length(beyond: dict[int, float], verdict: str):
    scores = {64: bits(2.5)} | {length: bits(mean) for length, mean in beyond.items()}
    assert within_tolerance(of_text(T5=scores)) == {"T5": verdict}


def test_without_a_trained_and_a_longer_length_there_is_no_verdict():
    assert within_tolerance(of_text(T5={64: bits(2.5)}, Alibi={128: bits(2.5), 256: bits(2.5)})) == {}


def test_a_task_that_is_never_right_has_nothing_to_lose():
    assert within_tolerance(of_task(none={10: right(0), 20: right(0)})) == {"none": "never right"}


def test_too_few_items_beyond_a_length_are_no_loss():
    few = {10: right(4 / 6, items=6), 20: right(0.5, items=6)}
    assert within_tolerance(of_task(none=few)) == {"none": "10 (1x), then too few items"}
    fewer = {64: bits(2.5, items=3), 128: bits(3.5, items=3)}
    assert within_tolerance(of_text(none=fewer)) == {"none": "64 (1x), then too few items"}


def test_a_long_verdict_wraps_and_the_name_of_a_run_is_whole():
    cells = {"model": "rotary", **dict.fromkeys(("16 (0.5x)", "32 (1x)", "64 (2x)", "128 (4x)"), "100.0")}
    frame = pd.DataFrame([{"metric": "accuracy", **cells, WITHIN: "32 (1x), then too few items"}])
    screen = io.StringIO()
    for lines in summary(Evaluation(lead=Section("Conclusion", "", [Table("overview", "", "", frame)]))):
        HarmlessConsole(screen, width=80).print(lines)
    assert "rotary" in screen.getvalue()


def test_long_names_of_runs_are_whole_and_leave_room_for_their_numbers():
    names = [f"rotary base={base}e5 (2026-12-01_09-00-00_multirun/{base}_python_docs_rotary)" for base in (1, 2)]
    lengths = [str(256 << power) for power in range(7)]
    frame = pd.DataFrame([{"metric": "loss", "model": name, **dict.fromkeys(lengths, "1.234")} for name in names])
    screen = io.StringIO()
    for line in summary(Evaluation(lead=Section("Conclusion", "", [Table("overview", "", "", frame)]))):
        HarmlessConsole(screen, width=80).print(line)
    text = screen.getvalue()
    assert all(name in text for name in names) and "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert sum(line.split()[1:] == ["1.234"] * 7 for line in text.splitlines()) == 2


def test_losses_on_the_same_documents_are_paired(rng):
    """Documents differ far more than the losses at two lengths do."""
    spread = rng.normal(0, 0.8, 60)
    near, far = (ItemScores("b", n, 2.5 + k + spread, np.ones(60, np.int64), "same") for n, k in ((64, 0), (128, 0.06)))
    assert within_tolerance(of_text(T5={64: near, 128: far})) == {"T5": "128 (2x), all tested"}


def test_a_model_that_has_not_learned_has_that_verdict():
    scores = {name: {64: bits(4.7), 128: bits(4.7)} for name in ("rotary", "alibi")}
    metric = SummaryMetric("bits per byte", False, scores, dict.fromkeys(scores, 64), 0, {"rotary": UNLEARNED})
    assert within_tolerance(metric) == {"rotary": UNLEARNED, "alibi": "128 (2x), all tested"}


PERIOD, TOKENS = 20, 8


class LooksBack(nn.Module):
    """Expects the token some positions before, once it has seen it; before that, any token."""

    def __init__(self, positions: int | None) -> None:
        super().__init__()
        self.places, self.weight = positions, nn.Parameter(torch.ones(1))

    def forward(self, tokens_BT: Tensor) -> Tensor:
        logits_BTV = torch.zeros(*tokens_BT.shape, TOKENS)
        if self.places is not None:
            seen = tokens_BT[:, : max(0, tokens_BT.shape[1] - self.places + 1)]
            logits_BTV[:, self.places - 1 :] = 4 * functional.one_hot(seen, TOKENS).float()
        return logits_BTV


@pytest.mark.parametrize(("positions", "verdict"), [(None, UNLEARNED), (1, NO_CONTEXT), (PERIOD, None)])
def test_a_model_that_predicts_no_better_far_into_a_window_says_nothing_of_longer_ones(rng, positions, verdict):
    steps = rng.integers(TOKENS, size=PERIOD)
    text = np.where(rng.random(9000) < 0.9, np.tile(steps, 450), rng.integers(TOKENS, size=9000))
    if positions == 1:
        text = np.repeat(text, 3)[:9000]  # so that the token before helps
    unigram = -np.log(np.bincount(text, minlength=TOKENS) / len(text))
    result = extrapolate(LooksBack(positions), text, [64, 256], 64, TOKENS, 1.0, unigram=unigram)
    assert why_unlearned(result.items, 64) == verdict
    assert why_unlearned(result.items, 32) is None  # nothing is known of its training length


@pytest.mark.parametrize(("positions", "verdict"), [(None, UNLEARNED), (1, NO_CONTEXT), (PERIOD, None)])
def test_a_text_too_short_for_intervals_shows_it_by_its_values(rng, positions, verdict):
    text = np.tile(rng.integers(TOKENS, size=PERIOD), 150)
    text = np.repeat(text, 3)[:3000] if positions == 1 else text
    unigram = -np.log((np.bincount(text, minlength=TOKENS) + 1) / (len(text) + TOKENS))
    result = extrapolate(LooksBack(positions), text, [64], 64, TOKENS, 1.0, unigram=unigram)
    assert why_unlearned(result.items, 64) == verdict


def sliding(losses: dict[int, float], gain: ItemScores | None) -> dict[tuple[str, int], ItemScores]:
    """Items as of `extrapolate`, with a gain at the longest length."""
    items = {(SLIDING, length): replace(bits(loss), length=length) for length, loss in losses.items()}
    return items | ({} if gain is None else {("context_gain", max(losses)): gain})


@pytest.mark.parametrize(
    ("loss", "gain", "verdict"),
    [
        (2.45, bits(0.08, 0.05), ContextUse.USES),
        (2.505, bits(0.0, 0.05), ContextUse.KEEPS),
        (2.6, bits(-0.1, 0.05), ContextUse.DEGRADES),
        (2.505, None, ContextUse.KEEPS),
        (None, bits(0.0, 0.05), "diverged"),
    ],
)
def test_longer_windows_are_next_to_the_own_window(loss, gain, verdict):
    items = sliding({64: 2.5, 512: loss or 2.5}, gain)
    if not loss:
        items[SLIDING, 512] = replace(items[SLIDING, 512], sums=np.full(60, np.nan))
    table = longer_context_table(of_text(Rotary={}), {"Rotary": items})
    (row,) = table.frame.to_dict("records")
    assert (row["context"], row["own window"], row["verdict"]) == ("512", "2.500", verdict)
    assert (row["gain of context"] == "short documents") == (gain is None)


def test_a_model_that_learned_nothing_has_that_verdict_on_longer_windows():
    metric = replace(of_text(Rotary={}), unlearned={"Rotary": UNLEARNED})
    table = longer_context_table(metric, {"Rotary": sliding({64: 2.5, 512: 2.5}, None)})
    assert list(table.frame["verdict"]) == [UNLEARNED]


def test_what_has_no_own_window_has_no_row():
    assert longer_context_table(of_text(Rotary={}), {"Rotary": sliding({128: 2.5, 512: 2.6}, None)}) is None


def test_longer_windows_of_several_models_fit_80_columns():
    items = {f"Rotary {number}": sliding({64: 2.5, 16384: 2.6}, bits(-0.274, 0.05)) for number in range(2)}
    table = longer_context_table(of_text(**{name: {} for name in items}), items)
    screen = io.StringIO()
    console = HarmlessConsole(screen, width=80)
    for line in summary(Evaluation(lead=Section("Conclusion", "", [table]))):
        console.print(line)
    text = screen.getvalue()
    assert "longer context: Rotary 1" in text and "inconclusive" not in text
    rows = [line for line in text.splitlines() if "16,384" in line]
    assert len(rows) == 2 and all(row.rstrip().endswith("degrades") for row in rows)
