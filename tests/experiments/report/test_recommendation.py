"""What a comparison recommends, from results that a test makes up."""

from __future__ import annotations

import dataclasses
import io
import itertools

import pandas as pd
import pytest

from poslab.configuration.command_line import STARTED_AS
from poslab.experiments.report.recommendation import Needs, Recommendation, print_recommendation, recommendation
from poslab.io.terminal import HarmlessConsole
from tests.experiments.comparisons import results
from tests.experiments.report.test_write import timed, with_values, without_score

TYPED = "python -m src.compare comparison=question report_only=true recommend=true length=80"
COMMAND = "python -m src.compare comparison=question"


def of(found, **needs):
    """The recommendation of the only case."""
    (one,) = recommendation(found, Needs(**needs), TYPED)
    return one


def verdicts_of(one):
    return dict(zip(one.table["encoding"], one.table["verdict"], strict=True))


def test_the_best_is_taken_and_others_have_a_verdict_next_to_it():
    one = of(results())
    assert (one.case, one.take, one.command) == ("copying", "none", None)
    assert list(one.table["encoding"]) == ["none", "slow", "rotary"]
    assert list(one.table["tokens_per_second"]) == [54.0, 54.0, 56.0]
    assert verdicts_of(one) == {"none": "best mean", "slow": "worse", "rotary": "worse"}


def test_the_best_is_taken_among_inconclusive_ones():
    assert of(results(means={"none": 41.0, "rotary": 40.5, "slow": 40.8})).take == "none"


def test_the_fastest_of_equivalent_encodings_is_taken():
    found = results(dict.fromkeys(("none", "rotary", "slow"), 40.0), noise=0.0)
    assert of(found).take == "rotary"
    for name in ("none", "rotary"):
        faster = timed(found, lambda encoding, length, name=name: 3.0 if encoding == name else 1.0)
        assert of(faster, length=20).take == name


def test_nothing_is_taken_where_all_scores_are_zero():
    one = of(results(dict.fromkeys(("none", "rotary", "slow"), 0.0), noise=0.0))
    assert one.take is None and set(verdicts_of(one).values()) == {"all scores are 0"}


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
    one = of(results(), length=length)
    assert f"exact_match@{tested}," in one.reason
    assert ("no evidence at length 80" in one.reason) == (length == 80)


def test_for_pretrained_models_there_is_a_command_that_makes_the_evidence():
    one = of(results(), start="pretrained")
    assert one.take is None
    assert one.command.startswith(COMMAND) and one.command.endswith("init_from=outputs/RUN")


def test_runs_of_pretrained_models_are_evidence_for_these_alone():
    found = results()
    found = dataclasses.replace(found, rows=[dataclasses.replace(run, is_pretrained=True) for run in found.rows])
    assert of(found, start="pretrained").take == "none"
    assert (of(found).take, of(found).command) == (None, None)


def test_one_seed_is_no_evidence_and_more_seeds_are_a_command():
    one = of(results(seeds=1))
    assert (one.take, one.command) == (None, f"{COMMAND} 'seeds=[1,2,3]'")


def test_runs_that_are_missing_have_a_command():
    every = results(seeds=2)
    there = [run for run in every.rows if run.encoding != "slow"]
    one = of(dataclasses.replace(every, rows=there))
    assert (one.take, one.command, verdicts_of(one)["slow"]) == ("none", COMMAND, "no finished run")
    apart = [run for run in every.rows if (run.encoding == "none") != (run.seed == 1)]
    one = of(dataclasses.replace(every, rows=apart))
    assert (one.take, one.command) == (None, COMMAND)


def test_a_comparison_that_is_not_finished_is_finished_before_it_gets_more_seeds():
    every = results(seeds=2)
    assert of(dataclasses.replace(every, rows=[run for run in every.rows if run.seed == 1])).command == COMMAND


def test_the_best_mean_is_not_taken_where_another_is_better_by_its_solve_rate():
    values = {"none": [79.9] * 8, "rotary": [82.0] * 7 + [10.0], "slow": [1.0] * 8}
    one = of(with_values(results(seeds=8), values))
    assert one.take is None and verdicts_of(one)["rotary"] == "better"


def test_where_no_encoding_has_positions_nothing_is_taken():
    one = of(without_score(results(), ["none", "rotary", "slow"]), length=20)
    assert one.take is None and set(verdicts_of(one).values()) == {"no result at these lengths"}


def test_speed_and_memory_are_of_the_needed_length_where_it_was_timed():
    """`none` is the best, but at length 20 it is half as fast as others, and `slow` has no positions there."""
    found = timed(results(), lambda name, length: 0.5 if (name, length) == ("none", 20) else 1.0)
    assert of(found, length=10, speed=900).take == "none"
    at_20 = of(found, length=15, speed=1500)
    assert at_20.take == "rotary"
    assert (verdicts_of(at_20)["none"], verdicts_of(at_20)["slow"]) == ("too slow", "speed unknown")
    assert of(found, length=20, memory=15).take is None
    assert of(found, length=10, memory=15).take == "none"


@pytest.mark.parametrize("started_as", ["python -m src.", "poslab "])
def test_a_command_is_printed_in_one_line(monkeypatch, started_as):
    monkeypatch.setenv(STARTED_AS, started_as)
    command = f"{started_as}compare comparison=question {'x' * 100}"
    printed = io.StringIO()
    one = Recommendation("copying", None, "a word " * 20, pd.DataFrame(), command)
    print_recommendation(HarmlessConsole(printed, width=80), iter([one]))
    lines = printed.getvalue().splitlines()
    assert lines[-1] == f"hint: {command}"
    assert max(map(len, lines[:-1])) <= 80


def test_a_need_is_checked():
    with pytest.raises(ValueError, match="start must be one of"):
        Needs(start="scrach")


@pytest.mark.parametrize("state", [{}, {"seeds": 1}, {"learned": lambda name: False}, {"diverged": lambda run: True}])
def test_every_need_has_a_table_that_can_be_printed(state):
    found, console = results(**state), HarmlessConsole(io.StringIO(), width=80)
    lengths, memories, speeds = (None, 10, 4096), (None, 500.0), (None, 55.0, 1e6)
    for length, memory, speed, start in itertools.product(lengths, memories, speeds, ("scratch", "pretrained")):
        one = of(found, length=length, memory=memory, speed=speed, start=start)
        print_recommendation(console, iter([one]))
        if start == "pretrained" or speed == 1e6 or memory is not None:  # memory is not known here
            assert one.take is None
