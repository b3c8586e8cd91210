"""Scores of test items in the results of a comparison."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from poslab.evaluation.scores.item_files import read_measured, write_measured
from poslab.evaluation.scores.items import ItemScores, MeasuredRun
from poslab.experiments import items as comparison_items
from poslab.experiments.criteria import Criterion
from poslab.experiments.report.checks import checks
from poslab.experiments.report.tables import fewer_items, overview
from poslab.tasks.answering import WrittenAnswers
from poslab.tasks.language_modelling import LanguageModelling
from tests.experiments.report.test_write import results

ITEMS = 8
BEYOND = Criterion("exact_match@beyond", "maximize", 2)


def with_items(folder, task, identity=lambda encoding: "same", reaches=lambda encoding: ITEMS):
    """Results whose runs have scores of 8 items at the lengths 10 and 20, or of the first of them."""
    made = dataclasses.replace(results(learned=lambda name: True, output=str(folder)), tasks={"copying": task})
    for cell, result in made.cells:
        generator = np.random.default_rng([cell.seed, *cell.encoding.encode()])
        scores = {}
        for length in (10, 20):
            counts = (np.arange(ITEMS) < reaches(cell.encoding)).astype(np.int64)
            items = ItemScores(
                "exact_match", length, generator.uniform(0, 100, ITEMS) * counts, counts, identity(cell.encoding)
            )
            scores["exact_match", length] = items
            result.scores[f"exact_match@{length}"] = items.value
        made.place(cell).mkdir(parents=True)
        write_measured(MeasuredRun(cell.encoding, "test", scores, {}), made.place(cell) / "scores.npz")
    return made


@pytest.mark.parametrize(("task", "count"), [(WrittenAnswers, 2 * ITEMS), (LanguageModelling, ITEMS)])
def test_items_of_each_length_are_items_of_their_own_but_texts_are_the_same_at_all(tmp_path, task, count):
    made = with_items(tmp_path, task)
    scores = made.scores("copying", Criterion("exact_match", "maximize"))
    assert scores["none"].items.shape == (5, count)
    expected = made.values("copying", Criterion("exact_match", "maximize"), "none")
    assert scores["none"].values.tolist() == pytest.approx([expected[seed] for seed in (1, 2, 3, 4, 5)])


def test_a_report_reads_the_items_of_a_run_once(tmp_path, monkeypatch):
    made, read = with_items(tmp_path, WrittenAnswers), []
    monkeypatch.setattr(comparison_items, "read_measured", lambda path: (read.append(path), read_measured(path))[1])
    for part in (overview, checks, lambda found: found.scores("copying", Criterion("exact_match@20", "maximize"))):
        part(made)
    assert sorted(read) == sorted(made.place(cell) / "scores.npz" for cell, _ in made.cells)


def test_runs_that_were_tested_on_other_items_are_refused(tmp_path):
    made = with_items(tmp_path, WrittenAnswers, identity=lambda encoding: encoding)
    with pytest.raises(ValueError, match="scores must be of the same items"):
        made.scores("copying", Criterion("exact_match@20", "maximize"))


@pytest.mark.parametrize("change", [lambda file: file.unlink(), lambda file: file.write_bytes(b"PK")])
def test_without_the_items_of_a_run_intervals_are_over_seeds_alone_and_the_checks_say_so(tmp_path, change):
    made = with_items(tmp_path, WrittenAnswers)
    whole = checks(made).frame.set_index("check").loc["scores of test items are known"]
    assert (whole["holds"], whole["found"]) == (True, "15 of 15 runs")
    change(made.place(made.cells[0][0]) / "scores.npz")
    lost = dataclasses.replace(made)
    assert lost.scores("copying", Criterion("exact_match", "maximize"))["rotary"].items is None
    found = checks(lost).frame.set_index("check").loc["scores of test items are known"]
    assert not found["holds"] and found["found"].startswith("14 of 15 runs; the others are on disks that this machine")


@pytest.mark.parametrize("factor", [1.5, np.nan])
def test_items_whose_means_are_not_those_of_the_results_are_not_read(tmp_path, factor):
    """They are of other weights, or somebody has changed them: differences would contradict the table of means."""
    made = with_items(tmp_path, WrittenAnswers)
    path = made.place(made.cells[0][0]) / "scores.npz"
    there = read_measured(path)
    changed = {key: dataclasses.replace(one, sums=one.sums * factor) for key, one in there.scores.items()}
    write_measured(dataclasses.replace(there, scores=changed), path)
    assert made.scores("copying", BEYOND)["rotary"].items is None
    assert np.isfinite(made.scores("copying", BEYOND)["none"].values).all()
    assert not checks(made).frame.set_index("check").loc["scores of test items are known"]["holds"]


def test_runs_that_exist_are_compared_whatever_their_seeds(tmp_path):
    """Here rotary has the seeds 1 and 2, slow 2, 3 and 4, and none 4 and 5."""
    made = with_items(tmp_path, WrittenAnswers)
    seeds = {"rotary": (1, 2), "slow": (2, 3, 4), "none": (4, 5)}
    finished = {cell.identity: result for cell, result in made.cells if cell.seed in seeds[cell.encoding]}
    places = {cell.identity: made.place(cell) for cell, _ in made.cells}
    found = dataclasses.replace(made, finished=finished, places=places)
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
    in_progress = dataclasses.replace(made, finished=finished)
    assert in_progress.scores("copying", criterion) == {}


def test_means_are_those_of_the_runs_and_say_where_an_encoding_has_fewer_items(tmp_path):
    """One number has one meaning: the tables show the means of results.csv; only differences are of shared items."""
    made = with_items(tmp_path, WrittenAnswers, reaches=lambda encoding: 5 if encoding == "slow" else ITEMS)
    frame = made.frame()
    rows = frame[frame["metric"] == "exact_match@beyond"].groupby("encoding")["value"].mean()
    cells = overview(made).set_index("encoding")["exact_match@beyond"]
    assert {name: float(cell.split()[0].rstrip("*")) for name, cell in cells.items()} == pytest.approx(
        dict(rows), rel=1e-3
    )
    assert [name for name, cell in cells.items() if "*" in cell] == ["slow"]
    assert made.scores("copying", BEYOND)["none"].items.shape == (5, 5)
    assert fewer_items(made, "copying").startswith(
        "* exact_match@beyond is a mean over 8 test items, that of slow over 5"
    )


def test_nothing_is_said_of_items_where_all_encodings_have_all(tmp_path):
    made = with_items(tmp_path, WrittenAnswers)
    assert fewer_items(made, "copying") == ""
    assert not any("*" in cell for cell in overview(made)["exact_match@beyond"])


def test_a_case_of_runs_without_steps_has_not_trained():
    found = results()
    assert found.has_trained("copying")
    for _, result in found.cells:
        result.metrics["steps"] = 0
    assert not found.has_trained("copying")
