"""What a comparison recommends, from results that a test makes up."""

from __future__ import annotations

import dataclasses
import io
import itertools
import json

import pytest

from poslab.configuration.command_line import STARTED_AS
from poslab.experiments.report.recommendation import Needs, print_recommendation, recommendation
from poslab.io.terminal import HarmlessConsole
from tests.experiments.comparisons import COPYING, TUNING
from tests.experiments.report.test_write import results, timed, with_values

TYPED = "python -m src.compare comparison=question report_only=true recommend=true length=80"


def said(needs=None, **changes):
    return " ".join(recommendation(results(**changes), needs or Needs(), TYPED))


def test_the_best_is_recommended_with_its_runner_up_and_evidence():
    text = said()
    assert text.startswith(
        "copying: take none (exact match beyond the training length: 61.15, 5 seeds). "
        "The runner-up is slow (41.59): worse by more than the margin of 2: -19.6, 95 % interval "
    )
    assert text.endswith("trained up to length 10 and tested up to 20.")


def test_among_encodings_that_are_not_told_apart_the_best_is_taken_and_a_faster_one_named():
    text = said(means={"none": 41.0, "rotary": 40.5, "slow": 40.8})
    assert text.startswith("copying: take none")
    assert "rotary is inconclusive next to none. rotary trains faster than none." in text


def test_encodings_that_are_equal_are_called_so():
    text = said(means=dict.fromkeys(("none", "rotary", "slow"), 40.0), noise=0.0)
    assert text.startswith("copying: take rotary")
    assert "none, rotary and slow have the same mean (40)" in text
    assert "; rotary is equivalent within the margin and trains faster" in text
    assert "slow is equivalent to none within the margin." in text


def test_nothing_is_taken_where_all_scores_are_zero():
    text = said(means=dict.fromkeys(("none", "rotary", "slow"), 0.0), noise=0.0)
    assert text.startswith("copying: the best exact match beyond the training length is 0, which decides nothing")
    assert "take" not in text


def test_what_is_too_slow_too_large_or_has_not_learned_is_left_out():
    assert "take slow" in said(learned=lambda name: name != "none")
    assert "no encoding is known to be fast and small enough, of none, rotary and slow." in said(Needs(speed=1e6))
    assert "no encoding has learned it" in said(learned=lambda name: False)


def test_an_encoding_without_a_result_is_left_out_with_the_reason():
    assert "Left out: none (not learned)." in said(learned=lambda name: name != "none")
    assert "Left out: slow (all runs diverged)." in said(gate=None, diverged=lambda cell: cell.encoding == "slow")
    of_all = said(gate=None, diverged=lambda cell: True)
    assert "none (all runs diverged), rotary (all runs diverged) and slow (all runs diverged)" in of_all
    found = results()
    for cell, result in found.cells:
        if cell.encoding == "slow":
            del result.scores["exact_match@20"]
    assert "Left out: slow (no positions there)." in " ".join(recommendation(found, Needs(length=20), TYPED))


@pytest.mark.parametrize(("length", "tested"), [(10, 10), (11, 20), (80, 20)])
def test_the_evidence_is_of_the_nearest_length(length, tested):
    assert f"(exact match at length {tested}: " in said(Needs(length=length))


def test_a_length_beyond_the_tests_is_said_to_be_beyond_the_evidence():
    text = said(Needs(length=80))
    assert text.startswith(
        "copying: there is no evidence at length 80, 4 times the longest test. At length 20: take none "
    )
    assert text.endswith(
        "With 80 among the lengths of cases.copying in its file, and test data as long, this tests the same runs "
        "there:\npython -m src.compare comparison=question"
    )
    assert "no evidence" not in said(Needs(length=20))


def test_for_pretrained_models_there_is_a_command_that_makes_the_evidence():
    assert said(Needs(start="pretrained")) == (
        "copying: there is no evidence for pretrained models, since all of these began from scratch. This trains what "
        "is missing, in about 15 hours:\npython -m src.compare comparison=question name=question_pretrained "
        "output=outputs/comparisons/question_pretrained init_from=outputs/RUN"
    )


@pytest.mark.parametrize("choice", [{"init_from": "outputs/a"}, {"model": "pretrained"}])
def test_runs_that_began_from_another_run_or_a_pretrained_model_are_evidence_for_pretrained_models(choice):
    pretrained = {"train": choice}
    assert "take none" in said(Needs(start="pretrained"), **pretrained)
    assert "no evidence for models from scratch" in said(Needs(), **pretrained)


def test_cases_for_which_the_same_holds_are_named_together():
    assert said(Needs(start="pretrained"), cases={"one": COPYING, "two": COPYING}).startswith(
        "one and two: there is no"
    )


def test_where_runs_are_missing_their_number_and_time_follow_from_those_that_are_finished():
    every = results(seeds=2, tuning=TUNING)  # a run takes an hour, and three are missing
    cells = {name: json.loads(name) for name in every.finished}
    there = {
        name: every.finished[name]
        for name, cell in cells.items()
        if cell["is_trial"] or (cell["encoding"] == "none") != (cell["seed"] == 1)
    }
    (text,) = recommendation(dataclasses.replace(every, finished=there), Needs(), TYPED)
    assert text == (
        "copying: there is no evidence yet, since no seed of all encodings is finished. This trains what is missing, "
        "in about 3 hours:\npython -m src.compare comparison=question"
    )


def test_one_seed_is_no_evidence_and_more_seeds_are_a_command():
    text = said(seeds=1)
    assert "which one seed cannot tell from luck. The evidence is" in text
    assert text.endswith(
        "This trains what is missing, in about 6 hours:\npython -m src.compare comparison=question seeds=3"
    )


@pytest.mark.parametrize("started_as", ["python -m src.", "poslab "])
def test_a_command_is_printed_in_one_line(monkeypatch, started_as):
    monkeypatch.setenv(STARTED_AS, started_as)
    command = f"{started_as}compare comparison=question {'x' * 100}"
    printed = io.StringIO()
    print_recommendation(HarmlessConsole(printed, width=80), [f"copying: {'a word ' * 20}\n{command}"])
    lines = printed.getvalue().splitlines()
    assert lines[-1] == command
    assert max(map(len, lines[:-1])) <= 80


def test_a_need_is_checked():
    with pytest.raises(ValueError, match="start must be one of scratch, pretrained, got 'scrach'; did you mean"):
        Needs(start="scrach")


def test_where_seeds_split_the_solve_rates_decide_as_in_the_report():
    """Three of eight seeds of `none` solve the task: its mean is far behind, the exact test tells nothing apart."""
    found = results({"none": 95.0, "rotary": 96.0, "slow": 10.0}, noise=0.1, seeds=8)
    for cell, result in found.cells:
        if cell.encoding == "none" and cell.seed > 5:
            result.scores["exact_match@20"] = 5.0
    (text,) = recommendation(found, Needs(), TYPED)
    assert "rotary is" not in text and text.startswith("copying: take rotary")
    assert "Beside it is none" in text and "runner-up" not in text
    assert "inconclusive: solved by 5 of 8 seeds" in text


@pytest.mark.parametrize("state", [{}, {"seeds": 1}, {"learned": lambda name: False}, {"diverged": lambda cell: True}])
def test_every_need_has_an_answer_in_sentences(state):
    found = results(**state)
    lengths, memories, speeds = (None, 10, 15, 4096), (None, 1.0, 500.0), (None, 10.0, 55.0, 1e6)
    for length, memory, speed, start in itertools.product(lengths, memories, speeds, ("scratch", "pretrained")):
        (text,) = recommendation(found, Needs(length, memory, speed, start), TYPED)
        assert text.startswith("copying: ")
        assert not any(wrong in text for wrong in ("nan", "  ", ".."))
        sentence, *commands = text.splitlines()
        assert sentence[-1] == (":" if commands else ".")
        assert all(command.startswith("python -m src.compare comparison=question") for command in commands)
        if start == "pretrained" or speed == 1e6 or memory is not None:  # memory is not known here
            assert "take" not in text


def test_an_encoding_without_a_run_is_named_with_the_command_that_trains_it():
    every = results(seeds=2)
    there = {name: one for name, one in every.finished.items() if json.loads(name)["encoding"] != "slow"}
    (text,) = recommendation(dataclasses.replace(every, finished=there), Needs(), TYPED)
    assert text.startswith("copying: take none")
    assert text.endswith(
        "slow has no finished run. This trains what is missing, in about 2 hours:\n"
        "python -m src.compare comparison=question"
    )


def test_runs_that_failed_for_good_are_not_promised_by_a_command():
    every = results(seeds=2)
    failed = {n: None if json.loads(n)["encoding"] == "slow" else one for n, one in every.finished.items()}
    (text,) = recommendation(dataclasses.replace(every, finished=failed), Needs(), TYPED)
    assert "This trains what is missing" not in text
    assert text.endswith(
        "slow has no finished run. 2 runs failed for good, and the same command does not train them again: see "
        "outputs/comparisons/question/runs/copying/slow/seed_1/train.log."
    )


def test_runs_that_cannot_begin_are_not_promised_either():
    every = results(seeds=2, tuning=TUNING, cases={"copying": COPYING, "again": {**COPYING, "after": "copying"}})
    failed = {
        name: None if (cell := json.loads(name))["encoding"] == "slow" and not cell["is_trial"] else one
        for name, one in every.finished.items()
        if json.loads(name)["case"] == "copying" or json.loads(name)["encoding"] != "slow"
    }
    (_, text) = recommendation(dataclasses.replace(every, finished=failed), Needs(start="pretrained"), TYPED)
    assert "This trains what is missing" not in text and text.startswith("again: take none")
    assert text.endswith("2 runs cannot begin: those that they begin with diverged or failed.")


@pytest.mark.parametrize("changes", [{}, {"tuning": {**TUNING, "space": {"optimizer.lr": [4e-3, 8e-3]}}}])
def test_a_seed_that_is_missing_has_a_command_that_trains_it(changes):
    """Where the best value is at the end of its range, further trials are finished, which hide no missing run."""
    every = results(**changes)
    absent = {c.identity for c, _ in every.cells if (c.encoding, c.seed) == ("slow", 5)}
    there = {name: one for name, one in every.finished.items() if name not in absent}
    (text,) = recommendation(dataclasses.replace(every, finished=there), Needs(), TYPED)
    assert text.startswith("copying: take none")
    assert text.endswith("This trains what is missing, in about 60 minutes:\npython -m src.compare comparison=question")
    failed = {**every.finished, **dict.fromkeys(absent)}
    (text,) = recommendation(dataclasses.replace(every, finished=failed), Needs(), TYPED)
    assert "1 run failed for good, and the same command does not train them again" in text


def test_a_comparison_that_is_not_finished_is_finished_before_it_gets_more_seeds():
    every = results(seeds=2)
    there = {n: one for n, one in every.finished.items() if json.loads(n)["seed"] == 1}
    (text,) = recommendation(dataclasses.replace(every, finished=there), Needs(), TYPED)
    assert "which one seed cannot tell from luck" in text
    assert text.endswith("in about 3 hours:\npython -m src.compare comparison=question")


def test_the_best_mean_is_not_recommended_where_another_is_better_by_its_solve_rate():
    values = {"none": [79.9] * 8, "rotary": [82.0] * 7 + [10.0], "slow": [1.0] * 8}
    text = " ".join(recommendation(with_values(results(seeds=8), values), Needs(), TYPED))
    assert "take none" not in text
    assert "rotary (73) is better: solved by 7 of 8 seeds (53 to 98 %), none by 0 of 8 seeds" in text


def test_where_no_encoding_has_positions_it_is_not_said_that_none_has_learned():
    found = results()
    for result in found.finished.values():
        del result.scores["exact_match@20"]
    (text,) = recommendation(found, Needs(length=20), TYPED)
    assert text.startswith("copying: no encoding has positions for exact match at length 20, of none, rotary and slow.")


def test_speed_and_memory_are_those_of_the_needed_length_where_it_was_timed():
    """`none` is the best, but at length 20 it is half as fast as others, and `slow` has no positions there."""
    found = timed(results(), lambda name, length: 0.5 if (name, length) == ("none", 20) else 1.0)

    def said(**needs):
        return " ".join(recommendation(found, Needs(**needs), TYPED))

    assert "take none" in said(length=10, speed=900)
    at_20 = said(length=15, speed=1500)
    assert "take rotary" in at_20
    assert "Left out: none (1,000 tokens per second) and slow (its speed is not known)." in at_20
    assert "Speed and memory are those of reading length 20 on a machine." in at_20
    assert "no encoding is known to be fast and small enough" in said(length=20, memory=15)
    assert "take none" in said(length=10, memory=15)
    assert "Speed and memory are those of training at length 10 on a machine." in said(speed=40)


def test_among_equal_encodings_the_one_that_reads_the_length_fastest_is_taken():
    alike = results(dict.fromkeys(("none", "rotary", "slow"), 40.0), noise=0.0)
    found = timed(alike, lambda name, length: 3.0 if name == "none" else 1.0)
    assert "take none" in " ".join(recommendation(found, Needs(length=20), TYPED))
    found = timed(alike, lambda name, length: 3.0 if name == "rotary" else 1.0)
    text = " ".join(recommendation(found, Needs(length=20), TYPED))
    assert "take rotary" in text and "rotary is equivalent within the margin and reads 20 faster" in text
