import numpy as np
import pytest

from poslab.experiments.statistics.crossed import estimate
from poslab.experiments.statistics.difference import Scores
from poslab.experiments.statistics.verdict import Pool, pool


def made(values) -> dict[str, Scores]:
    return {str(number): Scores(np.asarray(row, float)) for number, row in enumerate(values)}


def of_equal_variance(rng, contestants: int, seeds: int) -> np.ndarray:
    """Runs (contestants, seeds) whose variance, and that of residuals of blocks, no test finds unequal."""
    return 0.1 * rng.normal(size=(contestants, seeds)) + [
        np.roll(np.arange(seeds), 2 * number) for number in range(contestants)
    ]


def test_blocks_have_the_residual_of_a_two_way_analysis_by_hand(rng):
    x_ES = of_equal_variance(rng, 4, 5)
    shared = pool(made(x_ES), "0", paired=True)
    residual = sum(
        (x_ES[e, s] - x_ES[e].mean() - x_ES[:, s].mean() + x_ES.mean()) ** 2 for e in range(4) for s in range(5)
    )
    assert shared.variance == pytest.approx(residual / 12)
    assert (shared.df, shared.names) == (12, {"0", "1", "2", "3"})


def test_without_blocks_it_is_the_variance_within_of_an_analysis_by_hand(rng):
    x_ES = of_equal_variance(rng, 4, 5)
    shared = pool(made(x_ES), "0", paired=False)
    assert shared.variance == pytest.approx(x_ES.var(axis=1, ddof=1).mean())
    assert shared.df == 16


@pytest.mark.parametrize(("contestants", "prior"), [(3, 2), (4, 4), (10, 4)])
@pytest.mark.parametrize("ratio", [0.7, 1.5])
def test_a_pair_has_the_mean_of_both_variances_weighted_by_their_df_but_no_less_than_its_own(
    rng, contestants, prior, ratio
):
    x_ES = rng.normal(size=(2, 5))
    alone = estimate([(x_ES[0] - x_ES[1])[:, None]])
    pooled = ratio * alone.seed_variance
    moderated = Pool(frozenset(), pooled * 5 / 2, (contestants - 1) * 4).applied(alone, 5, 5)
    weighted = (prior * pooled + 4 * alone.seed_variance) / (prior + 4)
    assert moderated.seed_variance == pytest.approx(max(weighted, alone.seed_variance))
    assert (moderated.seed_df, moderated.mean) == (prior + 4, alone.mean)


@pytest.mark.parametrize("deviation", [0.005, 0.5])
def test_nothing_is_pooled_where_a_contestant_has_another_variance(rng, deviation):
    x_ES = 0.05 * of_equal_variance(rng, 6, 5)
    assert pool(made(x_ES), "0", paired=True) is not None
    x_ES[4] *= deviation / 0.05
    assert pool(made(x_ES), "0", paired=True) is None


def test_nothing_is_pooled_where_a_contestant_alone_does_not_vary_with_its_seed(rng):
    """Its runs vary as much as others, but what is left of them without the seeds' means varies more."""
    x_ES = 0.1 * of_equal_variance(rng, 6, 5) + [-5, 3, 0, 5, -3]
    x_ES[4] = x_ES[4][[1, 0, 4, 2, 3]]
    assert pool(made(x_ES), "0", paired=True) is None
    assert pool(made(x_ES), "0", paired=False) is not None


def test_runs_that_diverged_or_have_other_seeds_are_not_pooled(rng):
    scores = made(of_equal_variance(rng, 6, 5))
    scores["1"] = Scores(np.array([0.1, np.nan, 0.3, 0.2, 0.1]))
    scores["3"] = Scores(scores["3"].values, seeds=[5, 6, 7, 8, 9])
    assert pool(scores, "0", paired=True).names == {"0", "2", "4", "5"}
    assert pool(scores, "0", paired=False).names == {"0", "2", "3", "4", "5"}
    assert pool(scores, "1", paired=True) is None
    assert pool(scores, "3", paired=True) is None


def test_few_contestants_few_seeds_or_no_spread_share_nothing(rng, recwarn):
    assert pool(made(of_equal_variance(rng, 2, 5)), "0", paired=False) is None
    assert pool(made(of_equal_variance(rng, 6, 4)), "0", paired=True) is None
    for layout in (True, False):
        assert pool(made(np.full((4, 5), 100.0)), "0", paired=layout) is None
        assert pool(made([*of_equal_variance(rng, 4, 5), np.full(5, 100.0)]), "0", paired=layout) is None
    assert not recwarn
