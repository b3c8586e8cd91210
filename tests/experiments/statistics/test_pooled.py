import numpy as np
import pytest

from poslab.experiments.statistics.crossed import estimate
from poslab.experiments.statistics.difference import Scores
from poslab.experiments.statistics.pooled import Pool, pool


def made(values) -> dict[str, Scores]:
    return {str(number): Scores(np.asarray(row, float)) for number, row in enumerate(values)}


def test_blocks_have_the_residual_of_a_two_way_analysis_by_hand(rng):
    x_ES = rng.normal(size=(4, 5)) + 3 * rng.normal(size=5)
    shared = pool(made(x_ES), paired=True)
    residual = sum(
        (x_ES[e, s] - x_ES[e].mean() - x_ES[:, s].mean() + x_ES.mean()) ** 2 for e in range(4) for s in range(5)
    )
    assert shared.variance == pytest.approx(residual / 12)
    assert (shared.df, shared.names) == (12, {"0", "1", "2", "3"})


def test_without_blocks_it_is_the_variance_within_of_an_analysis_by_hand(rng):
    x_ES = rng.normal(size=(4, 5))
    shared = pool(made(x_ES), paired=False)
    assert shared.variance == pytest.approx(x_ES.var(axis=1, ddof=1).mean())
    assert shared.df == 16


@pytest.mark.parametrize(("contestants", "seeds", "prior"), [(6, 3, 4), (10, 5, 4), (3, 3, 1), (3, 5, 2)])
def test_the_variance_of_a_pair_is_weighted_with_the_pooled_one(rng, contestants, seeds, prior):
    x_ES = rng.normal(size=(contestants, seeds))
    own = estimate([(x_ES[0] - x_ES[1])[:, None]])
    pooled = 1.5 * own.seed_variance
    shared = Pool(frozenset(), pooled * seeds / 2, (contestants - 1) * (seeds - 1))
    moderated = shared.applied(own, seeds, seeds)
    weighted = (prior * pooled + (seeds - 1) * own.seed_variance) / (prior + seeds - 1)
    assert moderated.seed_variance == pytest.approx(weighted)
    assert moderated.seed_df == prior + seeds - 1
    assert moderated.mean == own.mean


@pytest.mark.parametrize("ratio", [1e-4, 1e4])
def test_a_pair_whose_variance_is_another_keeps_its_own(rng, ratio):
    own = estimate([rng.normal(size=(5, 1))])
    shared = Pool(frozenset(), float(own.seed_variance) * ratio * 5 / 2, 36)
    assert shared.applied(own, 5, 5) is own


@pytest.mark.parametrize("deviation", [0.005, 0.5])
def test_contestants_whose_variance_is_another_are_left_out(deviation):
    rng = np.random.default_rng(0)
    x_ES = 0.05 * rng.normal(size=(6, 5))
    x_ES[4] = deviation * rng.normal(size=5)
    assert pool(made(x_ES), paired=True).names == {"0", "1", "2", "3", "5"}


def test_runs_that_diverged_or_have_other_seeds_or_no_spread_are_not_pooled(rng):
    scores = made(rng.normal(size=(7, 4)))
    scores["1"] = Scores(np.array([0.1, np.nan, 0.3, 0.2]))
    scores["2"] = Scores(np.full(4, 100.0))
    scores["3"] = Scores(rng.normal(size=4), seeds=[5, 6, 7, 8])
    assert pool(scores, paired=True).names == {"0", "4", "5", "6"}
    assert pool(scores, paired=False).names == {"0", "3", "4", "5", "6"}


def test_two_contestants_share_nothing(rng):
    assert pool(made(rng.normal(size=(2, 5))), paired=False) is None
