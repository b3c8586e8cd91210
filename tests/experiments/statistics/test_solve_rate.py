import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar

from poslab.experiments.statistics.solve_rate import rate_difference, seeds_split, solve_p_value


@pytest.mark.parametrize(
    ("values", "split"),
    [
        ([5, 95], True),
        ([5, 50], False),
        ([50, 95], False),
        ([np.nan, 95], True),
        ([np.nan, 5], False),
        ([20, 80], False),
    ],
)
def test_seeds_split_where_some_fail_and_some_solve(values, split):
    assert seeds_split(np.array(values, float)) is split


def test_the_difference_of_solve_rates_has_newcombes_interval():
    """The first example of his table II: 56 of 70 and 48 of 80, with the interval .0524 to .3339."""
    found = rate_difference(np.repeat([99.0, 1.0], [56, 14]), np.repeat([99.0, 1.0], [48, 32]))
    assert (found.mean, found.low, found.high) == (
        pytest.approx(20.0),
        pytest.approx(5.24, abs=0.005),
        pytest.approx(33.39, abs=0.005),
    )


def test_paired_solve_rates_take_mcnemars_exact_test():
    ours = np.array([99, 99, 99, 99, 99, 99, 99, 0, 0, 99.0])
    theirs = np.array([99, 0, 0, 0, 0, 0, 0, 99, 0, np.nan])
    expected = mcnemar([[1, 7], [1, 1]], exact=True).pvalue
    assert solve_p_value(ours, theirs) == pytest.approx(expected)


def test_unpaired_solve_rates_take_fishers_exact_test():
    ours, theirs = np.array([99, 99, 99, 0.0]), np.array([0, 0, 0, 0, 99.0])
    expected = stats.fisher_exact([[3, 1], [1, 4]]).pvalue
    assert solve_p_value(ours, theirs, paired=False) == pytest.approx(expected)


def test_five_pairs_are_too_few_for_an_exact_test():
    assert solve_p_value(np.full(5, 100.0), np.zeros(5)) == pytest.approx(2 / 2**5)
    assert solve_p_value(np.full(5, 100.0), np.full(5, 100.0)) == 1
