"""Words of the sentences in reports."""

import pytest

from poslab.report.sentences import amount, are, has, listed


@pytest.mark.parametrize(("names", "words"), [(["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")])
def test_names_are_listed_with_a_word_before_the_last(names, words):
    assert listed(names) == words
    assert listed(names, "or") == words.replace(" and ", " or ")


def test_nouns_and_verbs_follow_the_number():
    assert [amount(1, "seed"), amount(1_000, "seed")] == ["1 seed", "1,000 seeds"]
    assert [are(["a"]), are(["a", "b"]), has(["a"]), has(["a", "b"])] == ["is", "are", "has", "have"]
