"""What a comparison recommends, from results that a test makes up."""

from __future__ import annotations

import dataclasses
import io
import itertools

import pytest

from poslab.experiments.report.write import Needs, print_recommendations, recommendations
from poslab.io.terminal import HarmlessConsole
from tests.experiments.comparisons import results
from tests.experiments.report.test_write import timed, without_score


def of(found, **needs):
    """The recommendation of the only case."""
    (recommended,) = recommendations(found, Needs(**needs))
    return recommended


def verdicts_of(recommended):
    return dict(zip(recommended.table["encoding"], recommended.table["verdict"], strict=True))


def test_the_best_is_taken_and_others_have_a_verdict_next_to_it():
    recommended = of(results())
    assert (recommended.case, recommended.take) == ("copying", "none")
    assert list(recommended.table["encoding"]) == ["none", "slow", "rotary"]
    assert list(recommended.table["tokens_per_second"]) == [54.0, 54.0, 56.0]
    assert verdicts_of(recommended) == {"none": "best mean", "slow": "worse", "rotary": "worse"}


def test_the_best_is_taken_among_inconclusive_ones():
    assert of(results(means={"none": 41.0, "rotary": 40.5, "slow": 40.8})).take == "none"


def test_the_fastest_of_equivalent_encodings_is_taken():
    found = results(dict.fromkeys(("none", "rotary", "slow"), 40.0), noise=0.0)
    assert of(found).take == "rotary"
    for name in ("none", "rotary"):
        faster = timed(found, lambda encoding, length, name=name: 3.0 if encoding == name else 1.0)
        assert of(faster, length=20).take == name


def test_nothing_is_taken_where_all_scores_are_zero():
    recommended = of(results(dict.fromkeys(("none", "rotary", "slow"), 0.0), noise=0.0))
    assert recommended.take is None and set(verdicts_of(recommended).values()) == {"all scores are 0"}


def test_what_is_too_slow_or_has_not_learned_is_not_taken():
    assert of(results(learned=lambda name: name != "none")).take == "slow"
    assert of(results(learned=lambda name: False)).take is None
    slow = of(results(), speed=1e6)
    assert slow.take is None and set(verdicts_of(slow).values()) == {"too slow"}
    assert set(verdicts_of(of(results(), memory=1.0)).values()) == {"memory unknown"}


def test_an_encoding_without_a_result_has_the_reason():
    assert verdicts_of(of(without_score(results(), ["slow"]), length=20))["slow"] == "no result at these lengths"
    lost = results(gate=None, diverged=lambda run: run.encoding == "slow")
    assert verdicts_of(of(lost))["slow"] == "diverged"


@pytest.mark.parametrize(("length", "tested"), [(10, 10), (11, 20), (80, 20)])
def test_the_evidence_is_of_the_nearest_length(length, tested):
    recommended = of(results(), length=length)
    assert f"exact_match@{tested}," in recommended.evidence


def test_one_seed_is_no_evidence():
    assert of(results(seeds=1)).take is None


def test_runs_that_are_missing_are_named():
    every = results(seeds=2)
    there = [run for run in every.rows if run.encoding != "slow"]
    recommended = of(dataclasses.replace(every, rows=there))
    assert (recommended.take, verdicts_of(recommended)["slow"]) == ("none", "no finished run")
    apart = [run for run in every.rows if (run.encoding == "none") != (run.seed == 1)]
    assert list(recommendations(dataclasses.replace(every, rows=apart), Needs())) == []


def test_where_no_encoding_has_positions_nothing_is_taken():
    recommended = of(without_score(results(), ["none", "rotary", "slow"]), length=20)
    assert recommended.take is None and set(verdicts_of(recommended).values()) == {"no result at these lengths"}


def test_speed_and_memory_are_of_the_needed_length_where_it_was_timed():
    """`none` is the best, but at length 20 it is half as fast as others, and `slow` has no positions there."""
    found = timed(results(), lambda name, length: 0.5 if (name, length) == ("none", 20) else 1.0)
    assert of(found, length=10, speed=900).take == "none"
    at_20 = of(found, length=15, speed=1500)
    assert at_20.take == "rotary"
    assert (verdicts_of(at_20)["none"], verdicts_of(at_20)["slow"]) == ("too slow", "speed unknown")
    assert of(found, length=20, memory=15).take is None
    assert of(found, length=10, memory=15).take == "none"


@pytest.mark.parametrize("state", [{}, {"seeds": 1}, {"learned": lambda name: False}, {"diverged": lambda run: True}])
def test_every_need_has_a_table_that_can_be_printed(state):
    found, console = results(**state), HarmlessConsole(io.StringIO(), width=80)
    lengths, memories, speeds = (None, 10, 4096), (None, 500.0), (None, 55.0, 1e6)
    for length, memory, speed in itertools.product(lengths, memories, speeds):
        needs = Needs(length=length, memory=memory, speed=speed)
        print_recommendations(console, found, needs)
        if speed == 1e6 or memory is not None:  # memory is not known here
            assert of(found, length=length, memory=memory, speed=speed).take is None
