"""The section over all cases."""

from __future__ import annotations

import numpy as np
import pytest

from poslab.experiments.report import figures
from poslab.experiments.report.checks import checks
from poslab.experiments.report.summary import OverCases, corpora_table
from poslab.experiments.statistics.over_cases import mean_ranks
from tests.experiments.comparisons import COPYING, results


def cases(count, **changes):
    return results(cases={f"case{place}": COPYING for place in range(count)}, **changes)


@pytest.fixture(scope="module")
def nine():
    return OverCases(cases(9))


def test_over_eight_cases_the_report_has_ranks(nine):
    section = nine.section(figures.styles_of(nine.encodings))
    assert [figure.name for figure in section.figures] == ["over_cases", "profile"]
    assert nine.ranks.value[nine.encodings.index("none")] == 1
    assert {name for name, p_value in nine.p_values.items() if p_value < 0.05} == {"none", "slow"}


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
    assert (frame.loc["none", ["better", "equivalent", "worse", "inconclusive"]] == [9, 0, 0, 0]).all()
    assert frame["p"]["none"] < 0.05 and np.isnan(frame["p"]["rotary"])


def test_fewer_cases_claim_nothing():
    few = cases(7)
    assert not OverCases(few).enough
    assert not checks(few).frame.set_index("check")["holds"]["enough cases"]
    assert "enough cases" not in set(checks(cases(8)).frame["check"])


def test_an_encoding_that_some_cases_leave_out_and_runs_that_diverged_are_no_obstacle():
    some = {f"case{place}": {**COPYING, **({"encodings": ["none", "rotary"]} if place else {})} for place in range(8)}
    found = OverCases(results(cases=some, diverged=lambda run: (run.encoding, run.case) == ("none", "case3")))
    assert found.encodings == ["none", "rotary"]
    assert np.isfinite(found.scores).all()
    assert found.ranks.value == pytest.approx([1 + 1 / 8, 2 - 1 / 8])


def test_an_encoding_that_has_not_learned_ranks_last_however_good_its_metric():
    found = OverCases(cases(8, learned=lambda name: name != "none"))
    assert found.ranks.value[found.encodings.index("none")] == 3
    assert found.p_values["none"] < 0.05


@pytest.mark.parametrize(("ending", "counted"), [(1, 8), (9, 0)])
def test_a_case_in_which_no_encoding_has_positions_does_not_count(ending, counted):
    found = cases(9)
    for result in found.finished:
        if int(result.case.removeprefix("case")) < ending:
            del result.scores["exact_match@20"]
    assert len(OverCases(found).cases) == counted


def test_what_a_new_corpus_may_show_is_in_a_table_where_cases_are_corpora():
    corpora = cases(4, cases_are="corpora")
    frame = corpora_table(corpora).frame.set_index("encoding")
    known = [corpora.verdicts(case, *corpora.comparison.criteria(case), "rotary") for case in corpora.comparison.cases]
    differences = [verdicts["none"].difference.mean for verdicts in known]
    assert frame["difference"]["none"] == pytest.approx(np.mean(differences))
    assert frame["low"]["none"] <= frame["difference"]["none"] <= frame["high"]["none"]
    assert list(frame["corpora"]) == [4, 4]
    assert corpora_table(cases(4)) is None
    assert corpora_table(cases(2, cases_are="corpora")) is None
