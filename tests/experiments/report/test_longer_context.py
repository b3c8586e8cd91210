"""What a comparison says of windows longer than those of training, and of orders by different metrics."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping

import numpy as np
import pytest

from poslab.evaluation.scores.items import ItemScores, MeasuredRun
from poslab.experiments.criteria import Criterion
from poslab.experiments.report.by_length import longer_context
from poslab.experiments.report.tables import best_table, order_by_metric
from poslab.experiments.report.write import write
from poslab.experiments.results import Results
from poslab.io.terminal import HarmlessConsole
from tests.experiments.comparisons import COPYING, results

ITEMS, SEEDS, LENGTHS = 12, 4, (128, 256, 1024)
METRICS = {
    "sliding_bits_per_byte@2x": {"direction": "minimize", "margin": 0.02},
    "context_gain@8x": {"direction": "maximize", "margin": 0.02},
}
LOSSES = {"rotary": (1.86, 2.2, 4.0), "none": (1.9, 1.88, 1.85), "slow": (1.87, 1.87, 1.871)}
GAINS = {"rotary": (-0.5, -3.0), "none": (0.03, 0.06), "slow": (0.0, 0.0)}


def of_text(gains: Mapping[str, tuple[float, float]] | None = GAINS, seeds: int = SEEDS, **changes) -> Results:
    """Results on a text with these losses at 128, 256 and 1,024, and gains at the last two; noise is that of seeds."""
    made = results(seeds=seeds, metrics=METRICS, gate=None, **changes)
    rows, items = [], {}
    for run in made.rows:
        generator = np.random.default_rng([run.seed, *run.encoding.encode()])
        luck, difficulty = generator.normal(0, 0.001), np.random.default_rng(0).normal(0, 0.2, ITEMS)
        scores = {}
        for length, loss in zip(LENGTHS, LOSSES[run.encoding], strict=True):
            sums, counts = 100 * (loss + luck + difficulty - difficulty.mean()), np.full(ITEMS, 100)
            scores["sliding_bits_per_byte", length] = ItemScores("sliding_bits_per_byte", length, sums, counts, "same")
        for length, gain in zip(LENGTHS[1:], () if gains is None else gains[run.encoding], strict=gains is not None):
            counts = np.where(np.arange(ITEMS) < 9, 100, 0)
            sums = counts * (gain + (gain != 0) * generator.normal(0, 0.001, ITEMS))
            scores["context_gain", length] = ItemScores("context_gain", length, sums, counts, "same")
        tags = {f"{metric}@{length}": of_metric.value for (metric, length), of_metric in scores.items()}
        changed = {"lengths": LENGTHS, "training_length": 128, "scores": tags, "aggregate_lengths": False}
        rows.append(dataclasses.replace(run, open_ended=("bits_per_byte",), **changed))
        items[run.key] = MeasuredRun(run.encoding, "test", scores, {})
    return dataclasses.replace(made, rows=rows, items=lambda run: items[run.key])


def frame_of(made: Results):
    table = longer_context(made, "copying")
    assert table is not None
    return table.frame.set_index("encoding")


def test_each_encoding_is_next_to_its_own_window_and_to_that_of_the_baseline():
    frame = frame_of(of_text())
    assert list(frame.index) == ["rotary at 128", "slow", "none", "rotary"]  # by the loss at 256, which decides
    assert dict(frame["longer context"]) == {
        "rotary at 128": "control",
        "slow": "does not degrade",
        "none": "uses longer context",
        "rotary": "degrades",
    }
    assert list(frame.loc["none"][["128", "256", "1,024"]]) == ["1.900", "1.880 ▲", "1.850 ▲"]
    assert frame["1,024"]["rotary"].endswith("▼") and frame["1,024"]["slow"].endswith("=")
    assert list(frame.loc["rotary at 128"][["128", "256", "1,024"]]) == [frame["128"]["rotary"]] * 3
    assert frame["gain at 1,024"]["slow"] == "0.000 ± 0.000"
    assert frame["verdict"]["rotary"] == "worse"


def test_the_gain_decides_as_any_metric():
    made = of_text()
    criterion = Criterion("context_gain@8x", "maximize", 0.02)
    scores = made.scores("copying", criterion)
    assert scores["none"].items.shape == (SEEDS, 9)  # the items with such targets
    assert made.mean("copying", criterion, "none") == pytest.approx(0.06, abs=0.002)
    words = {name: str(verdict.word) for name, verdict in made.verdicts("copying", criterion, "slow").items()}
    assert words == {"rotary": "worse", "none": "better"}


def test_results_without_gains_fall_back_on_all_targets_and_say_so():
    made = of_text(gains=None)
    frame = frame_of(made)
    assert frame["gain at 1,024"]["none"].startswith("0.050 ±")
    assert frame["longer context"]["none"] == "uses longer context"
    assert "no context_gain" in longer_context(made, "copying").caption
    assert "no context_gain" not in longer_context(of_text(), "copying").caption


def test_one_seed_shows_losses_and_concludes_nothing():
    frame = frame_of(of_text(seeds=1))
    assert set(frame["longer context"]) == {"control", "inconclusive"}
    assert frame["gain at 1,024"]["none"] == "0.060" or frame["gain at 1,024"]["none"].startswith("0.0")
    assert "nan" not in frame.to_string()


def test_a_task_without_sliding_windows_has_no_such_table():
    assert longer_context(results(), "copying") is None
    assert longer_context(results(diverged=lambda run: run.encoding == "none"), "copying") is None


def test_a_report_shows_it_and_the_terminal_in_80_columns(tmp_path):
    screen = io.StringIO()
    write(of_text(output=str(tmp_path)), HarmlessConsole(screen, width=80), "python -m src.compare")
    lines = screen.getvalue().splitlines()
    (row,) = [line.split() for line in lines if line.split()[:3] == ["none", "1.900", "1.880"]]
    assert row[-3:-1] == ["0.060", "±"]
    assert max(map(len, lines)) <= 80 + len(str(tmp_path))
    assert (tmp_path / "figures" / "longer_context_copying.csv").exists()


def two_metrics(means: Mapping[str, float]) -> Results:
    """The text, and copying in which an encoding has this mean."""
    text, copying = of_text(), results(means, seeds=SEEDS, cases={"copying": COPYING}, gate=None)
    metrics = {"exact_match@20": {"direction": "maximize"}}
    cases = {"text": COPYING, "copies": {**COPYING, "metrics": metrics}}
    made = results(seeds=SEEDS, cases=cases, metrics=METRICS, gate=None)
    rows = [dataclasses.replace(run, case="text") for run in text.rows]
    rows += [dataclasses.replace(run, case="copies") for run in copying.rows]
    return dataclasses.replace(made, rows=rows)


def test_orders_by_loss_and_by_retrieval_are_side_by_side_with_kendalls_tau():
    table = order_by_metric(two_metrics({"slow": 10.0, "none": 50.0, "rotary": 90.0}))
    assert table is not None
    frame = table.frame.set_index("encoding")
    loss, retrieval = frame.columns
    assert list(frame.index) == ["slow", "none", "rotary", "Kendall's tau"]  # by the loss at 256
    assert list(frame[loss]) == ["1", "2", "3", "–"]
    assert list(frame[retrieval]) == ["3", "2", "1", "−1.00"]
    same = order_by_metric(two_metrics({"slow": 90.0, "none": 50.0, "rotary": 10.0})).frame
    assert same.iloc[-1, -1] == "1.00"


def test_a_task_that_no_encoding_has_learned_has_no_order_and_no_best_mean():
    made = two_metrics({"slow": 10.0, "none": 50.0, "rotary": 90.0})
    cases = {**made.comparison.cases}
    cases["copies"] = {**cases["copies"], "gate": {"metric": "exact_match@20", "at_least": 99}}
    made = dataclasses.replace(made, comparison=dataclasses.replace(made.comparison, cases=cases))
    assert order_by_metric(made) is None
    row = best_table(made).set_index("case").loc["copies"]
    assert np.isnan(row["mean"]) and set(row["did not learn the task"].split(", ")) == {"slow", "none", "rotary"}


def test_cases_with_the_same_metric_have_no_order_by_metric():
    assert order_by_metric(results(cases={"copying": COPYING, "again": COPYING})) is None
    assert order_by_metric(results()) is None
