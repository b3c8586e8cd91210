"""Scores of test items in the results of a comparison."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from poslab.evaluation.scores.items import ItemScores, MeasuredRun
from poslab.experiments.criteria import Criterion
from poslab.experiments.report.checks import checks
from poslab.experiments.report.tables import notes, overview
from tests.experiments.comparisons import results

ITEMS = 8
BEYOND = Criterion("exact_match@beyond", "maximize", 2)


def with_items(aggregate_lengths=True, identity=lambda encoding: "same", reaches=lambda encoding: ITEMS):
    """Results whose runs have scores of 8 items at the lengths 10 and 20, or of the first of them; and their items."""
    made, items = results(), {}
    for run in made.rows:
        generator = np.random.default_rng([run.seed, *run.encoding.encode()])
        scores = {}
        for length in (10, 20):
            counts = (np.arange(ITEMS) < reaches(run.encoding)).astype(np.int64)
            sums = generator.uniform(0, 100, ITEMS) * counts
            scores["exact_match", length] = ItemScores("exact_match", length, sums, counts, identity(run.encoding))
            run.scores[f"exact_match@{length}"] = scores["exact_match", length].value
        items[run.key] = MeasuredRun(run.encoding, "test", scores, {})
    rows = [dataclasses.replace(run, aggregate_lengths=aggregate_lengths) for run in made.rows]
    return dataclasses.replace(made, rows=rows, items=lambda run: items.get(run.key)), items


@pytest.mark.parametrize(("aggregates", "count"), [(True, 2 * ITEMS), (False, ITEMS)])
def test_items_of_each_length_are_items_of_their_own_but_texts_are_the_same_at_all(aggregates, count):
    made, _ = with_items(aggregates)
    scores = made.scores("copying", Criterion("exact_match", "maximize"))
    assert scores["none"].items.shape == (5, count)
    expected = made.values("copying", Criterion("exact_match", "maximize"), "none")
    assert scores["none"].values.tolist() == pytest.approx([expected[seed] for seed in (1, 2, 3, 4, 5)])


def test_a_report_reads_the_items_of_a_run_once():
    made, items = with_items()
    read = []
    made = dataclasses.replace(made, items=lambda run: (read.append(run.key), items[run.key])[1])
    for part in (overview, checks, lambda found: found.scores("copying", Criterion("exact_match@20", "maximize"))):
        part(made)
    assert sorted(read) == sorted(items)


def test_runs_that_were_tested_on_other_items_are_refused():
    made, _ = with_items(identity=lambda encoding: encoding)
    with pytest.raises(ValueError, match="same items"):
        made.scores("copying", Criterion("exact_match@20", "maximize"))


def test_without_the_items_of_a_run_intervals_are_over_seeds_alone_and_the_checks_say_so():
    made, items = with_items()
    whole = checks(made).frame.set_index("check").loc["item scores known"]
    assert (whole["holds"], whole["found"]) == (True, "15 of 15 runs")
    del items[made.finished[0].key]
    lost = dataclasses.replace(made)
    assert lost.scores("copying", Criterion("exact_match", "maximize"))["rotary"].items is None
    found = checks(lost).frame.set_index("check").loc["item scores known"]
    assert (found["holds"], found["found"]) == (False, "14 of 15 runs")


@pytest.mark.parametrize("factor", [1.5, np.nan])
def test_items_whose_means_are_not_those_of_the_results_are_not_read(factor):
    """They are of other weights, or somebody has changed them: differences would contradict the table of means."""
    made, items = with_items()
    key = made.finished[0].key
    changed = {name: dataclasses.replace(one, sums=one.sums * factor) for name, one in items[key].scores.items()}
    items[key] = dataclasses.replace(items[key], scores=changed)
    assert made.scores("copying", BEYOND)["rotary"].items is None
    assert np.isfinite(made.scores("copying", BEYOND)["none"].values).all()
    assert not checks(made).frame.set_index("check").loc["item scores known"]["holds"]


def test_runs_that_exist_are_compared_whatever_their_seeds():
    """Here rotary has the seeds 1 and 2, slow 2, 3 and 4, and none 4 and 5."""
    made, _ = with_items()
    seeds = {"rotary": (1, 2), "slow": (2, 3, 4), "none": (4, 5)}
    rows = [run for run in made.rows if run.seed in seeds[run.encoding]]
    found = dataclasses.replace(made, rows=rows, exist_already=True)
    criterion = Criterion("exact_match", "maximize")
    scores = found.scores("copying", criterion)
    assert {name: one.items.shape for name, one in scores.items()} == {
        "rotary": (2, 2 * ITEMS),
        "slow": (3, 2 * ITEMS),
        "none": (2, 2 * ITEMS),
    }
    for verdict in found.verdicts("copying", criterion, "rotary").values():
        assert (verdict.difference.paired, verdict.difference.pairs) == (False, 2)
        assert verdict.difference.estimate is not None
    in_progress = dataclasses.replace(made, rows=rows)
    assert in_progress.scores("copying", criterion) == {}


def test_means_are_those_of_the_runs_and_say_where_an_encoding_has_fewer_items():
    """One number has one meaning: the tables show the means of results.csv; only differences are of shared items."""
    made, _ = with_items(reaches=lambda encoding: 5 if encoding == "slow" else ITEMS)
    frame = made.frame()
    rows = frame[frame["metric"] == "exact_match@beyond"].groupby("encoding")["value"].mean()
    cells = overview(made).set_index("encoding")["exact_match@beyond"]
    assert {name: float(cell.split()[0].rstrip("*")) for name, cell in cells.items()} == pytest.approx(
        dict(rows), rel=1e-3
    )
    assert [name for name, cell in cells.items() if "*" in cell] == ["slow"]
    assert made.scores("copying", BEYOND)["none"].items.shape == (5, 5)
    (note,) = notes(made, "copying")
    assert "exact_match@beyond: slow 5 of 8" in note


def test_nothing_is_said_of_items_where_all_encodings_have_all():
    made, _ = with_items()
    assert not list(notes(made, "copying"))
    assert not any("*" in cell for cell in overview(made)["exact_match@beyond"])


def test_a_case_of_runs_without_steps_has_not_trained():
    found = results()
    assert found.has_trained("copying")
    for run in found.finished:
        run.metrics["steps"] = 0
    assert not found.has_trained("copying")
