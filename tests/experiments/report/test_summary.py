"""The section over all cases."""

from __future__ import annotations

import numpy as np
import pytest

from poslab.experiments.report import figures
from poslab.experiments.report.conclusions import conclusions, reservations
from poslab.experiments.report.summary import OverCases
from poslab.experiments.statistics.over_cases import mean_ranks
from tests.experiments.comparisons import COPYING
from tests.experiments.report.test_write import results


def cases(count, **changes):
    return results(cases={f"case{place}": COPYING for place in range(count)}, **changes)


@pytest.fixture(scope="module")
def nine():
    return OverCases(cases(9))


def test_over_eight_cases_the_answer_and_the_report_have_ranks(nine):
    assert conclusions(nine.results)["all cases"] == (
        "none has the lowest mean rank, 1.0 of 3 (95 % interval 1.0\xa0to\xa01.0 over cases). "
        "none and slow are better than rotary over cases."
    )
    section = nine.section(figures.styles_of(nine.encodings))
    assert [figure.name for figure in section.figures] == ["over_cases", "profile"]
    assert not list(reservations(cases(9, tuning=None)))[:-1]


def test_encodings_of_equal_rank_are_named_together():
    text = next(OverCases(cases(8, means=dict.fromkeys(("none", "rotary", "slow"), 40.0), noise=0.0)).sentences())
    assert text == "none, rotary and slow have the same mean rank, 2.0 of 3."


def test_ranks_and_counts_are_those_of_each_case(nine):
    frame = nine.frame().set_index("encoding")
    assert list(frame["rank"]) == sorted(frame["rank"])
    gains = np.array(
        [
            [np.mean(list(nine.results.values(c, k, e).values())) for c in nine.cases]
            for e in nine.encodings
            for k in nine.results.comparison.criteria(nine.cases[0])
        ]
    )
    assert dict(zip(nine.encodings, mean_ranks(gains).value, strict=True)) == pytest.approx(dict(frame["rank"]))
    assert (frame.loc["none", ["better", "equal", "worse", "undecided"]] == [9, 0, 0, 0]).all()
    assert frame["p"]["none"] < 0.05 and np.isnan(frame["p"]["rotary"])


def test_fewer_cases_claim_nothing():
    few = cases(7)
    assert not OverCases(few).enough
    assert "all cases" not in conclusions(few)
    assert next(reservations(few)).startswith("Nothing is claimed over cases: 7 of them")


def test_an_encoding_that_some_cases_leave_out_and_runs_that_diverged_are_no_obstacle():
    some = {f"case{place}": {**COPYING, **({"encodings": ["none", "rotary"]} if place else {})} for place in range(8)}
    found = OverCases(results(cases=some, diverged=lambda cell: (cell.encoding, cell.case) == ("none", "case3")))
    assert found.encodings == ["none", "rotary"]
    assert np.isfinite(found.scores).all()
    assert found.ranks.value == pytest.approx([1 + 1 / 8, 2 - 1 / 8])


def test_an_encoding_that_has_not_learned_ranks_last_however_good_its_metric():
    found = OverCases(cases(8, learned=lambda name: name != "none"))
    assert found.ranks.value[found.encodings.index("none")] == 3
    assert "none is worse than rotary over cases." in " ".join(found.sentences())


@pytest.mark.parametrize(("ending", "counted"), [(1, 8), (9, 0)])
def test_a_case_in_which_no_encoding_has_positions_does_not_count(ending, counted):
    found = cases(9)
    for cell, result in found.cells:
        if int(cell.case.removeprefix("case")) < ending:
            del result.scores["exact_match@20"]
    assert len(OverCases(found).cases) == counted
    assert ("all cases" in conclusions(found)) == (counted == 8)
    assert conclusions(found)["case0"].startswith("there is no answer, since no encoding has positions at these")
