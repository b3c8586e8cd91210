"""Published values and claims beside a comparison."""

from __future__ import annotations

import pytest

from poslab.configuration.command_line import COMPARISONS, CONF
from poslab.experiments.comparison_file import comparison_files, read_comparison
from poslab.experiments.published import Claim, published_results
from poslab.experiments.report.papers import claims_table, outcome, values_table
from tests.experiments.comparisons import comparison, results

PAPER = {"title": "A paper", "arxiv": "2305.19466"}
VALUE = {"case": "copy", "encoding": "none", "value": 30.5, "seen": "raw_results"}


def claim(better="none", than="rotary", **arguments):
    return Claim("a claim", better, than, **{"case": "copying", **arguments})


def test_a_claim_holds_where_its_encoding_is_better():
    assert outcome(results(), claim())[0] == "holds"
    assert outcome(results(), claim("rotary", "none"))[0] == "does not hold"


def test_a_claim_stays_open_where_the_two_are_not_told_apart():
    found = results({"none": 40.1, "rotary": 40.0, "slow": 1.0}, noise=3.0)
    assert outcome(found, claim())[0] == "inconclusive"


def test_a_claim_whose_outcome_depends_on_something_else_neither_holds_nor_fails():
    for better, than in (("none", "rotary"), ("rotary", "none")):
        word, evidence = outcome(results(), claim(better, than, confounded="the rate"))
        assert word == "confounded" and evidence.startswith("by the rate; ")
    assert outcome(results(), claim(case=None, confounded="the rate"))[0] == "not tested at this scale"


@pytest.mark.parametrize("arguments", [{"case": None}, {"case": "elsewhere"}, {"better": "t5"}, {"metric": "loss@20"}])
def test_a_claim_without_results_is_not_tested(arguments):
    assert outcome(results(), claim(**arguments))[0] == "not tested at this scale"


def test_a_claim_on_another_metric_has_its_own_direction_and_the_words_of_the_tables():
    found = results()
    for result in found.finished:
        result.scores["loss@20"] = -result.scores["exact_match@20"]
    assert outcome(found, claim(metric="loss@20"))[0] == "holds"
    assert outcome(found, claim(metric="exact_match@80"))[0] == "not tested at this scale"


def test_a_claim_on_a_metric_that_decides_at_another_length_has_its_direction():
    found = results(metrics={"passkey_loss@10": {"direction": "minimize"}}, gate=None)
    for result in found.finished:
        value = -result.scores["exact_match@20"]
        result.scores.update({"passkey_loss@10": value, "passkey_loss@20": value})
    assert outcome(found, claim(metric="passkey_loss@20"))[0] == "holds"


def test_a_claim_about_what_neither_has_learned_is_not_tested():
    assert outcome(results(learned=lambda name: False), claim())[0] == "not tested at this scale"


def test_a_claim_about_an_encoding_that_diverged_is_not_tested():
    found = results(diverged=lambda run: run.encoding == "none", gate=None)
    assert outcome(found, claim())[0] == "not tested at this scale"


def test_all_claims_are_listed_with_their_evidence():
    made = published_results(comparison(paper=PAPER, claims=[{"say": "none wins", "better": "none", "than": "rotary"}]))
    table = claims_table(results(), made.claims)
    assert list(table.iloc[0]) == ["none wins", "not tested at this scale", "no case of this comparison"]


@pytest.mark.parametrize(
    ("node", "sentence"),
    [
        ({"published": [{**VALUE, "seen": "memory"}]}, r"published\[0\]: seen.*be one of"),
        ({"published": [{"case": "copy", "encoding": "none", "value": 1}]}, r"published\[0\] must have seen"),
        ({"claims": [{"say": "x"}]}, r"claims\[0\] must have better"),
        ({"paper": {"title": "A paper"}}, "paper must have arxiv"),
        ({"published": [{**VALUE, "head_dim": 128}]}, "head_dim.*and at a length"),
        ({"differences": [1]}, "differences must.*each item text"),
    ],
)
def test_what_is_published_must_say_where_it_was_seen(node, sentence):
    with pytest.raises(ValueError, match=sentence):
        published_results(comparison(**{"paper": PAPER, **node}))


@pytest.mark.parametrize("name", [n for n in comparison_files(COMPARISONS).names() if n.startswith("papers/")])
def test_every_paper_says_where_its_values_were_seen_and_names_encodings_that_exist(name):
    made = read_comparison(COMPARISONS, {"comparison": name}, [])
    published = published_results(made)
    encodings = {path.stem for path in (CONF / "encoding").glob("*.yaml")}
    assert {value.encoding for value in published.values} <= encodings | set(made.choices_by_encoding)
    assert {name for one in published.claims for name in (one.better, one.than)} <= set(made.choices_by_encoding)


def test_our_mean_stands_beside_a_published_value_of_the_same_case():
    found = results(
        paper=PAPER,
        published=[
            {**VALUE, "case": "copying"},
            {**VALUE, "case": "elsewhere"},
            {**VALUE, "case": "elsewhere", "metric": "exact_match@10"},
        ],
    )
    table = values_table(found, published_results(found.comparison).values)
    criterion = found.comparison.criteria("copying")[0]
    assert table["ours"].iloc[0] == found.mean("copying", criterion, "none")
    assert list(table["our metric"].fillna("")) == [criterion.metric, "", "exact_match@10"]


@pytest.mark.slow
def test_smallest_bases_of_rotary_are_computed_beside_those_of_the_paper():
    made = read_comparison(COMPARISONS, {"comparison": "papers/rope_base2024"}, [])
    table = values_table(results(), published_results(made).values)
    assert len(table) >= 4
    assert list(table["computed here"]) == pytest.approx(list(table["published"]), rel=0.01)


def test_a_claim_of_an_encoding_beside_itself_is_refused_before_any_training():
    with pytest.raises(ValueError, match="none twice"):
        claim("none", "none")
