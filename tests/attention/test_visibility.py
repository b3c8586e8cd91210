import pytest
import torch

from poslab.attention import Visibility
from poslab.encodings import Positions
from tests.attention.scenarios import BATCH, SCENARIOS, WHOLE


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=list(SCENARIOS))
def test_the_mask_shows_each_query_the_keys_that_it_sees(scenario):
    num_queries, num_keys = scenario.queries.length, scenario.keys.length
    mask = scenario.visibility.mask(num_queries, num_keys, torch.device("cpu"))
    visible = scenario.visible()
    if mask is None:
        assert visible.all()
    else:
        assert torch.equal(mask.expand(BATCH, 1, num_queries, num_keys)[:, 0], visible)


def test_no_mask_is_made_where_every_query_sees_every_key():
    assert Visibility().mask(1, 9, torch.device("cpu")) is None
    assert Visibility(causal=False).mask(5, 9, torch.device("cpu")) is None


def test_what_hides_only_later_keys_is_told_from_what_hides_more():
    assert Visibility().hides_only_later_keys(3, 3)
    assert Visibility(window=3).hides_only_later_keys(3, 3)
    assert Visibility.between(WHOLE, WHOLE).hides_only_later_keys(12, 12)
    assert not Visibility().hides_only_later_keys(2, 3)
    packed = Positions.packed(torch.zeros(2, 3))
    for more in (Visibility(window=2), Visibility(real_keys=torch.ones(2, 3)), Visibility.between(packed, packed)):
        assert not more.hides_only_later_keys(3, 3)


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=list(SCENARIOS))
def test_what_hides_nothing_hides_nothing(scenario):
    if scenario.visibility.hides_nothing(scenario.queries.length, scenario.keys.length):
        assert scenario.visible().all()


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=list(SCENARIOS))
def test_counts_are_of_the_keys_that_each_query_sees(scenario):
    counts = scenario.visibility.counts(scenario.queries.length, scenario.keys.length, torch.device("cpu"))
    expected = scenario.visible().sum(-1).float()
    assert counts.dtype == torch.float32
    assert torch.equal(counts.expand_as(expected), expected)


def test_counts_of_a_long_text_need_no_mask():
    counts = Visibility(window=1_000).counts(1_000_000, 1_000_000, torch.device("cpu"))
    assert counts[0, [0, 998, 999, 999_999]].tolist() == [1, 999, 1_000, 1_000]
