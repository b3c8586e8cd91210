"""Which cells a comparison wants: a function of the file and of the results so far."""

from __future__ import annotations

import math

import numpy as np
import pytest

from poslab.experiments.cells import CellResult, cell_of
from poslab.experiments.statistics.difference import Scores
from poslab.experiments.statistics.verdict import Word, verdicts
from poslab.experiments.tuned_points import MAX_EXTENSIONS, expected_best, further_points, points_of, value_beyond
from tests.experiments.comparisons import TUNING, plan


def tried(made, value_of):
    """Finish every wanted trial of the tuning, one wave after another; return all results."""
    results = {}
    while True:
        wanted, _ = made.wanted(results)
        new = [cell for cell in wanted if cell.is_trial and cell.identity not in results]
        if not new:
            return results
        for cell in new:
            value = value_of(cell)
            results[cell.identity] = None if value is None else CellResult({"validation/loss": value})


def test_cells_go_round_robin_by_seed():
    wanted, unknown = plan().wanted({})
    assert [(cell.encoding, cell.seed) for cell in wanted] == [
        *[(name, 1) for name in ("none", "rotary", "slow")],
        *[(name, 2) for name in ("none", "rotary", "slow")],
    ]
    assert unknown == 0
    assert not any(cell.is_trial for cell in wanted)


def test_more_seeds_or_encodings_keep_the_cells_that_there_are():
    few = {cell.identity for cell in plan().wanted({})[0]}
    many = {
        cell.identity for cell in plan(seeds=3, encodings=["none", "rotary", "alibi", {"name": "slow"}]).wanted({})[0]
    }
    assert few < many


def test_a_new_definition_or_new_lengths_are_other_cells_and_new_lengths_the_same_run():
    before = plan().cell("copying", "none", 1, {})
    longer = plan()
    longer.lengths["copying"].append(40)
    changed = plan()
    changed.definitions["copying/none"] = "another"
    assert longer.cell("copying", "none", 1, {}).identity != before.identity
    assert longer.cell("copying", "none", 1, {}).directory == before.directory
    assert changed.cell("copying", "none", 1, {}).directory != before.directory


def test_trials_come_before_the_runs_that_they_choose_for():
    made = plan(tuning=TUNING)
    wanted, unknown = made.wanted({})
    assert [(c.encoding, c.point["optimizer.lr"]) for c in wanted[:4]] == [
        ("none", 1e-3),
        ("rotary", 1e-3),
        ("slow", 1e-3),
        ("none", 2e-3),
    ]
    assert (len(wanted), unknown) == (9, 6)
    assert {cell.seed for cell in wanted} == {1000}


def test_the_best_value_on_validation_is_that_of_all_seeds():
    made = plan(tuning=TUNING)
    results = tried(made, lambda cell: abs(math.log2(cell.point["optimizer.lr"] / 2e-3)))
    wanted, unknown = made.wanted(results)
    assert unknown == 0
    assert [cell.point for cell in wanted if not cell.is_trial] == [{"optimizer.lr": 2e-3}] * 6
    assert made.tuned("copying", "none", results).at_the_edge == []


@pytest.mark.parametrize(
    ("best", "rates", "edge"),
    [
        (8e-3, [1e-3, 2e-3, 4e-3, 8e-3, 16e-3], []),
        (1.0, [1e-3, 2e-3, 4e-3, 8e-3, 16e-3], ["optimizer.lr"]),
        (5e-4, [1e-3, 2e-3, 4e-3, 5e-4, 2.5e-4], []),
    ],
)
def test_a_best_value_at_the_end_is_extended_twice_and_then_marked(best, rates, edge):
    made = plan(tuning=TUNING)
    results = tried(made, lambda cell: abs(math.log2(cell.point["optimizer.lr"] / best)))
    tuned = made.tuned("copying", "none", results)
    assert [point["optimizer.lr"] for point, _ in tuned.trials] == pytest.approx(rates)
    assert list(tuned.at_the_edge) == edge


def test_more_is_better_where_the_tuning_says_so():
    made = plan(tuning={**TUNING, "direction": "maximize", "metric": "loss"})
    results = tried(made, lambda cell: -abs(math.log2(cell.point["optimizer.lr"] / 2e-3)))
    assert made.tuned("copying", "none", results).point == {"optimizer.lr": 2e-3}


@pytest.mark.parametrize("value", [None, math.nan])
def test_a_trial_that_failed_or_diverged_is_never_the_best(value):
    made = plan(tuning=TUNING)
    results = tried(made, lambda cell: value if cell.point["optimizer.lr"] > 1.5e-3 else 5.0)
    assert made.tuned("copying", "none", results).point["optimizer.lr"] < 1.5e-3


def test_fewer_trials_than_combinations_are_the_same_places_of_each_space():
    space = {"optimizer.lr": [1e-3, 2e-3, 4e-3], "optimizer.weight_decay": [0.0, 0.1]}
    own = {name: {} for name in ("none", "rotary")} | {"slow": {"encoding.fraction": [0.5, 1.0]}}
    made = plan(tuning={**TUNING, "space": space, "of": own, "trials": 4})
    points = {name: [dict(c.point) for c in made.wanted({})[0] if c.encoding == name] for name in own}
    assert points["none"] == points["rotary"]
    assert [len(p) for p in points.values()] == [4, 4, 4]
    assert all("encoding.fraction" in point for point in points["slow"])
    assert len({str(point) for point in points["none"]}) == 4


def test_a_space_with_fewer_combinations_than_trials_has_values_between_its_own():
    space = {"lr": [1e-3, 2e-3, 4e-3]}
    points = [point["lr"] for point in points_of(space, 6, 0)]
    assert points[:5] == pytest.approx([1e-3, 2e-3, 4e-3, math.sqrt(2) * 1e-3, math.sqrt(8) * 1e-3], rel=1e-5)
    assert 1e-3 < points[5] < 4e-3 and len(set(points)) == 6
    assert points_of({"width": [1, 2, 4]}, 9, 0) == [{"width": width} for width in (1, 2, 4, 3)]
    assert len(points_of({"positions": ["contiguous", "pose"]}, 3, 0)) == 2


def test_a_point_is_trained_with_each_seed_of_the_tuning_and_its_mean_counts():
    made = plan(tuning={**TUNING, "seeds": 2})
    losses = {1000: {1e-3: 1.0, 2e-3: 3.0, 4e-3: 9.0}, 1001: {1e-3: 6.0, 2e-3: 3.0, 4e-3: 9.0}}
    results = tried(made, lambda cell: losses[cell.seed][cell.point["optimizer.lr"]])
    tuned = made.tuned("copying", "none", results)
    assert tuned.point == {"optimizer.lr": 2e-3}
    assert [value for _, value in tuned.trials] == [3.5, 3.0, 9.0]


def test_an_extension_gives_all_encodings_as_many_further_trials():
    """One whose best value is at an end goes on beyond it, others between their best value and its neighbours."""
    made = plan(tuning=TUNING)
    best = {"none": 1.0, "rotary": 2e-3, "slow": 2.1e-3}
    results = tried(made, lambda cell: abs(math.log2(cell.point["optimizer.lr"] / best[cell.encoding])))
    rates = {name: [p["optimizer.lr"] for p, _ in made.tuned("copying", name, results).trials][3:] for name in best}
    assert rates["none"] == pytest.approx([8e-3, 16e-3])
    assert rates["rotary"] == pytest.approx([math.sqrt(8) * 1e-3, math.sqrt(2) * 1e-3], rel=1e-5)
    assert rates["slow"] == rates["rotary"]


def test_no_encoding_is_extended_where_another_has_no_further_points():
    own = {"slow": {"encoding.fraction": [0.5, 1.0]}, "none": {"positions": ["contiguous", "randomized"]}}
    made = plan(tuning={**TUNING, "space": {}, "of": {**own, "rotary": own["slow"]}})
    results = tried(made, lambda cell: cell.point.get("encoding.fraction", 1.0))
    assert {len(made.tuned("copying", name, results).trials) for name in ("none", "rotary", "slow")} == {2}


def tuned_by_luck(tuning, names, rng):
    """The values of all trials of each encoding, where each point has a quality of its own, which is luck."""
    points, tried = {name: points_of(tuning.space_of(name), tuning.trials_of(name), 0) for name in names}, {}
    for _ in range(1 + MAX_EXTENSIONS):
        new = {name: [(point, float(rng.normal())) for point in of_name] for name, of_name in points.items()}
        tried = {name: [*tried.get(name, []), *new[name]] for name in names}
        points = further_points(tried, tuning)
    return {name: [value for _, value in trials] for name, trials in tried.items()}


def test_an_encoding_with_more_ends_has_no_more_chances():
    """With more trials it would find better points by luck, and be called better for that."""
    of = {"slow": {"encoding.fraction": [0.5, 1.0], "optimizer.weight_decay": [0.01, 0.1]}}
    tuning = plan(tuning={**TUNING, "of": of, "trials": 6}).comparison.tuning_of("copying")
    rng = np.random.default_rng(0)
    ahead, ahead_of_fewer, words = [], [], []
    for _ in range(400):
        values = tuned_by_luck(tuning, ("rotary", "slow"), rng)
        assert len(values["rotary"]) == len(values["slow"]) > 6
        best = {name: min(of_name) for name, of_name in values.items()}
        ahead.append(best["slow"] - best["rotary"])
        ahead_of_fewer.append(best["slow"] - min(values["rotary"][:6]))
        runs = {name: Scores(value + rng.normal(0, 0.5, 5), seeds=range(5)) for name, value in best.items()}
        words.append(verdicts(runs, "rotary", "minimize")["slow"].word)
    error = np.std(ahead) / math.sqrt(len(ahead))
    assert abs(np.mean(ahead)) < 3 * error < -np.mean(ahead_of_fewer)
    better, worse = words.count(Word.BETTER), words.count(Word.WORSE)
    assert abs(better - worse) < 3 * math.sqrt(better + worse)


@pytest.mark.parametrize(("direction", "values"), [("minimize", [4.0, 1.0, 2.0]), ("maximize", [-4.0, -1.0, -2.0])])
def test_the_expected_best_of_draws_is_that_of_all_samples(direction, values):
    pairs = [(a, b) for a in values for b in values]
    best = min if direction == "minimize" else max
    assert expected_best(values, 1, direction) == pytest.approx(sum(values) / 3)
    assert expected_best(values, 2, direction) == pytest.approx(sum(map(best, pairs)) / 9)
    lost = math.inf if direction == "minimize" else -math.inf
    assert expected_best([*values, lost], 3, direction) == expected_best([*values, values[0]], 3, direction)


def test_integers_are_extended_to_integers():
    made = plan(tuning={**TUNING, "space": {"encoding.max_distance": [16, 32]}})
    results = tried(made, lambda cell: -cell.point["encoding.max_distance"])
    points = [point["encoding.max_distance"] for point, _ in made.tuned("copying", "none", results).trials]
    assert points == [16, 32, 64, 128]
    assert all(type(point) is int for point in points)


def test_one_trial_has_no_ends():
    made = plan(tuning={**TUNING, "trials": 1})
    tuned = made.tuned("copying", "none", tried(made, lambda cell: 1.0))
    assert (len(tuned.trials), tuned.at_the_edge) == (1, [])


@pytest.mark.parametrize(("value", "found"), [(None, False), (math.nan, False), (1.0, True)])
def test_a_tuning_without_a_value_has_found_nothing(value, found):
    made = plan(tuning=TUNING)
    results = tried(made, lambda cell: value if cell.point["optimizer.lr"] < 1.5e-3 else None)
    assert made.tuned("copying", "none", results).has_value == found


def test_without_a_tuning_nothing_is_missing():
    assert plan().tuned("copying", "none", {}).has_value


def test_words_have_no_ends():
    made = plan(tuning={**TUNING, "space": {"positions": ["contiguous", "randomized"]}})
    tuned = made.tuned("copying", "none", results := tried(made, lambda cell: 1.0))
    assert (len(tuned.trials), tuned.at_the_edge, len(results)) == (2, [], 6)


TRANSFER = {
    "reversing": {"train": {"dataset": "reverse"}, "after": "copying"},
    "copying": {"train": {"dataset": "copy"}},
    "copying_again": {"train": {"dataset": "copy"}, "after": "reversing", "after_encoding": "rotary"},
}


def test_a_run_waits_for_the_one_that_it_begins_with():
    made, results, rounds = plan(cases=TRANSFER, seeds=1), {}, []
    while cells := [cell for cell in made.wanted(results)[0] if cell.identity not in results]:
        rounds.append({cell.case: {c.after for c in cells if c.case == cell.case} for cell in cells})
        results |= {cell.identity: CellResult() for cell in cells}
    first, second, third = rounds
    assert first == {"copying": {None}}
    copying = [cell for cell in made.wanted(results)[0] if cell.case == "copying"]
    assert second == {"reversing": {cell.directory.as_posix() for cell in copying}}
    assert third.keys() == {"copying_again"} and len(third["copying_again"]) == 1
    wanted, unknown = made.wanted(results)
    assert (len(wanted), unknown) == (9, 0)
    assert len({cell.directory for cell in wanted}) == 9
    assert all(cell_of(cell.as_plain_data()) == cell for cell in wanted)


def test_trials_begin_with_the_tuned_run_of_the_first_seed():
    made = plan(cases=TRANSFER, tuning=TUNING)
    results = tried(made, lambda cell: cell.point["optimizer.lr"])
    assert {cell.after for cell in made.wanted(results)[0] if cell.is_trial} == {None}
    best = [cell for cell in made.wanted(results)[0] if not cell.is_trial and cell.seed == 1]
    assert {cell.case for cell in best} == {"copying"}
    results |= {cell.identity: CellResult() for cell in best}
    trials = [cell for cell in made.wanted(results)[0] if cell.is_trial and cell.case == "reversing"]
    assert {cell.after for cell in trials} == {cell.directory.as_posix() for cell in best}


def blocked(made, results):
    return {(cell.case, cell.encoding, cell.seed) for cell in made.blocked(results)}


@pytest.mark.parametrize("lost", [None, CellResult(diverged="the loss is nan")])
def test_a_run_is_not_wanted_after_one_that_failed_or_diverged_until_that_has_succeeded(lost):
    made = plan(cases=TRANSFER)
    copying = [cell for cell in made.wanted({})[0] if cell.case == "copying"]
    results = {cell.identity: lost if cell.label == "copying: rotary, seed 2" else CellResult() for cell in copying}
    reversing = [cell for cell in made.wanted(results)[0] if cell.case == "reversing"]
    assert {(cell.encoding, cell.seed) for cell in reversing} == {
        ("none", 1), ("rotary", 1), ("slow", 1), ("none", 2), ("slow", 2)
    }  # fmt: skip
    results |= {cell.identity: CellResult() for cell in reversing}
    wanted, unknown = made.wanted(results)
    after_it = {("reversing", "rotary", 2), *(("copying_again", name, 2) for name in ("none", "rotary", "slow"))}
    assert (len(wanted), unknown, blocked(made, results)) == (18 - 4, 0, after_it)
    results[next(cell for cell in copying if cell.label == "copying: rotary, seed 2").identity] = CellResult()
    assert not blocked(made, results) and "reversing: rotary, seed 2" in [c.label for c in made.wanted(results)[0]]


def test_all_runs_are_blocked_where_the_tuning_cannot_begin():
    made = plan(cases=TRANSFER, tuning=TUNING)
    results = tried(made, lambda cell: cell.point["optimizer.lr"])
    copying = [cell for cell in made.wanted(results)[0] if not cell.is_trial]
    results |= {cell.identity: None if cell.label == "copying: rotary, seed 1" else CellResult() for cell in copying}
    assert blocked(made, results) >= {("reversing", "rotary", seed) for seed in (1, 2)}
    results = {**results, **tried_more(made, results)}
    assert not [c for c in made.wanted(results)[0] if c.case == "reversing" and c.encoding == "rotary"]
    assert made.wanted(results)[1] == 0


def tried_more(made, results):
    """Finish all that is wanted, wave after wave; return all results."""
    while new := [cell for cell in made.wanted(results)[0] if cell.identity not in results]:
        results = results | {cell.identity: CellResult({"validation/loss": 1.0}) for cell in new}
    return results


@pytest.mark.parametrize(("values", "beyond"), [([1, 5], None), ([1.0, 5.0], 0.2), ([32, 64], 16), ([-1, 1], -3)])
def test_no_zero_is_tried_below_positive_integers(values, beyond):
    trials = [({"key": value}, float(value)) for value in values]
    assert value_beyond(values[0], "key", values, trials) == beyond


@pytest.mark.parametrize(("tried", "beyond"), [([30.0, 1000.0], 9.0), ([100.0, 1000.0], 30.0), ([1000.0, 30.0], 1e4)])
def test_a_tuning_goes_beyond_an_end_by_a_step_of_the_range(tried, beyond):
    trials = [({"key": value}, -1.0 if value == tried[0] else 1.0) for value in tried]
    assert value_beyond(tried[0], "key", [30.0, 100.0, 1000.0, 10000.0], trials) == beyond
