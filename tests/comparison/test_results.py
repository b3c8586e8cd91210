"""Scores of test items in the results of a comparison."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from poslab.comparison.checks import checks
from poslab.comparison.comparison import Criterion
from poslab.evaluation.item_files import write_measured
from poslab.evaluation.item_scores import ItemScores, MeasuredRun
from poslab.tasks.answering import WrittenAnswers
from poslab.tasks.language_modelling import LanguageModelling
from tests.comparison.test_report import results

ITEMS = 8


def with_items(folder, task, identity=lambda encoding: "same"):
    """Results whose runs have scores of 8 items at the lengths 10 and 20."""
    made = dataclasses.replace(results(learned=lambda name: True, output=str(folder)), tasks={"copying": task})
    for cell, result in made.cells:
        generator = np.random.default_rng([cell.seed, *cell.encoding.encode()])
        scores = {}
        for length in (10, 20):
            sums = generator.uniform(0, 100, ITEMS)
            scores["exact_match", length] = ItemScores(
                "exact_match", length, sums, np.ones(ITEMS, np.int64), identity(cell.encoding)
            )
            result.scores[f"exact_match@{length}"] = float(sums.mean())
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
