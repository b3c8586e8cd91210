"""What a comparison recommends, from results that a test makes up."""

from __future__ import annotations

import pytest

from poslab.comparison.recommendation import Needs, recommendation
from tests.comparison.test_report import results


def said(needs=None, **changes):
    return " ".join(recommendation(results(**changes), needs or Needs()))


def test_the_best_is_recommended_with_its_runner_up_and_evidence():
    text = said()
    assert text.startswith("copying: take none (exact_match@beyond 61.15, 5 seeds). The runner-up is slow (41.59;")
    assert text.endswith("trained up to length 10 and tested up to 20.")


def test_among_encodings_that_are_not_told_apart_the_fastest_is_taken():
    text = said(means={"none": 41.0, "rotary": 40.5, "slow": 40.8})
    assert text.startswith("copying: take rotary")
    assert "none has the best mean (42.15), is not told apart from it, and trains more slowly" in text
    assert "slow is not told apart from none either." in text


def test_what_is_too_slow_too_large_or_has_not_learned_is_left_out():
    assert "take slow" in said(learned=lambda name: name != "none")
    assert "no encoding is fast and small enough, of none, rotary and slow." in said(Needs(speed=1e6))
    assert "no encoding has learned it" in said(learned=lambda name: False)


@pytest.mark.parametrize(("length", "metric"), [(10, "exact_match@10"), (11, "exact_match@20"), (80, "exact_match@20")])
def test_the_evidence_is_of_the_nearest_length(length, metric):
    assert f"({metric} " in said(Needs(length=length))


def test_a_length_beyond_the_tests_is_said_to_be_beyond_the_evidence():
    assert said(Needs(length=80)).endswith("Length 80 is 4 times that: expect the order, not the values.")
    assert "times that" not in said(Needs(length=20))


def test_there_is_no_evidence_for_pretrained_models():
    assert said(Needs(start="pretrained")).startswith("There is no evidence for pretrained models")


def test_a_need_is_checked():
    with pytest.raises(ValueError, match="start must be one of scratch, pretrained, got 'scrach'; did you mean"):
        Needs(start="scrach")
