"""What a comparison may be, and the sentence that says what is wrong with one."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from poslab.experiments.comparison import Comparison
from poslab.experiments.criteria import Criterion, Gate
from tests.experiments.comparisons import TUNING, comparison


def test_an_encoding_is_a_name_or_a_name_with_overrides():
    assert comparison().choices_by_encoding == {
        "none": {"encoding": "none"},
        "rotary": {"encoding": "rotary"},
        "slow": {"encoding": "rotary", "encoding.base": 1000},
    }


WINDOW = {"encoding": "rotary", "model.window": 64}
LONGER = {"encoding": "rotary", "dataset.sequence_length": 512, "dataset.batch_size": 2}


def test_variants_follow_the_encodings_and_any_key_may_differ():
    made = comparison(encodings=["rotary"], variants={"longer": LONGER, "by_file": {"model.d_model": 96}})
    assert list(made.choices_by_encoding) == ["rotary", "longer", "by_file"]
    assert made.choices_by_encoding["by_file"] == {"model.d_model": 96}
    assert (made.path_of("longer"), made.path_of("rotary")) == ("variants.longer", "encodings.rotary")
    assert made.differing == ["dataset.sequence_length", "dataset.batch_size", "model.d_model"]


@pytest.mark.parametrize(
    ("variants", "heading"), [({}, "encoding"), ({"window": WINDOW}, "encoding"), ({"longer": LONGER}, "variant")]
)
def test_contestants_are_called_variants_where_more_than_their_encoding_differs(variants, heading):
    assert comparison(variants=variants).heading == heading


def test_what_all_contestants_share_does_not_differ():
    wide = {"encoding": "rotary", "model.d_model": 96}
    made = comparison(encodings=[], variants={"rotary": wide, "alibi": {**wide, "encoding": "alibi"}})
    assert (made.differing, made.heading) == ([], "encoding")


def test_what_a_variant_changes_is_declared_and_a_window_changes_neither_data_nor_weights():
    made = comparison(variants={"window": WINDOW, "longer": LONGER, "wide": {"model.d_model": 96}})
    assert made.declared(["dataset.sequence_length", "dataset.batch_size"]) == ["longer"]
    assert made.declared(["model"]) == ["wide"]


def test_a_tuning_has_a_seed_or_several():
    made = [comparison(tuning={**TUNING, **seeds}).tuning_of("copying").seed_list for seeds in ({}, {"seeds": 2})]
    assert made == [[1000], [1000, 1001]]
    assert comparison(tuning={**TUNING, "seeds": [7, 9]}).tuning_of("copying").seed_list == [7, 9]


def test_seeds_are_a_number_or_a_list():
    assert comparison(seeds=3).seed_list == [1, 2, 3]
    assert comparison(seeds=[7, 9]).seed_list == [7, 9]


def test_a_case_has_metrics_gate_and_tuning_of_its_own():
    own = {
        "train": {"dataset": "bbc_topics"},
        "metrics": {"accuracy": {"direction": "maximize"}},
        "gate": {"metric": "loss", "at_most": 1.0},
        "tuning": {"metric": "accuracy", "direction": "maximize"},
    }
    made = comparison(cases={"topics": own, "text": {"train": {}}}, tuning=TUNING)
    assert [c.metric for c in made.criteria("topics")] == ["accuracy"]
    assert [c.metric for c in made.criteria("text")] == ["exact_match@beyond"]
    assert made.gate_of("topics") == Gate("loss", at_most=1.0)
    assert made.gate_of("text") is None
    assert (made.tuning_of("topics").metric, made.tuning_of("text").metric) == ("accuracy", "loss")
    assert made.tuning_of("topics").space == TUNING["space"]


def test_a_gate_passes_from_its_value_on_and_never_for_a_value_that_is_missing():
    at_least, at_most = Gate("exact_match@trained", at_least=99.0), Gate("loss", at_most=0.5)
    assert [at_least.passes(x) for x in (98.9, 99.0, float("nan"))] == [False, True, False]
    assert [at_most.passes(x) for x in (0.4, 0.6, float("nan"))] == [True, False, False]


def test_a_metric_has_a_name_and_lengths():
    assert Criterion("bits_per_byte@4x", "minimize").name == "bits_per_byte"
    assert Criterion("loss", "minimize").where == ""


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"cases": {"a": {"train": {}, "encodings": ["rotary", "nome"]}}},
            "nome .*did you mean 'none'",
        ),
        (
            {"cases": {"a": {"train": {}, "encodings": ["none", "slow"]}}},
            "must contain the baseline, rotary",
        ),
        ({"baseline": "rotari"}, "baseline must .*'rotary'"),
        ({"encodings": ["rotary"]}, "encodings must be a list of"),
        ({"encodings": ["rotary", "rotary"]}, "encodings must .* rotary twice"),
        ({"encodings": ["rotary", {"encoding": "none"}]}, "encodings must be names, or"),
        ({"encodings": ["rotary", "../none"]}, "encodings must be names"),
        ({"cases": {}}, "cases must contain at least"),
        ({"cases": {"a": {"data": 1}}}, "cases.a: there is no key"),
        ({"cases": {"a": {}}}, "cases.a must have train"),
        (
            {"cases": {"a": {"train": {}, "lengths": ["x4"]}}},
            "cases.a: lengths must .* 4x",
        ),
        ({"cases": {"a": {"train": {"seed": 3}}}}, "cases.a.train must not have"),
        ({"cases": {"a": {"train": {"hydra.run.dir": "x"}}}}, "cases.a.train must not have"),
        ({"train": {"trust": ["os"]}}, "train must not have trust"),
        ({"metrics": {}}, "metrics must name at least"),
        (
            {"metrics": {"accuracy": {"direction": "up"}}},
            "metrics.accuracy: direction must be",
        ),
        ({"metrics": {"accuracy": {"direction": "maximize", "margin": 0}}}, "margin must be a positive number"),
        ({"metrics": {"accuracy@far": {"direction": "maximize"}}}, "accuracy@far must be a metric"),
        ({"metrics": {"accuracy@0x": {"direction": "maximize"}}}, "accuracy@0x must be a metric of"),
        ({"metrics": {"accuracy": {"margin": 1}}}, "metrics.accuracy must have direction"),
        ({"gate": {"metric": "loss"}}, "gate must have at_least"),
        ({"gate": {"metric": "loss", "at_least": 1, "at_most": 2}}, "gate must have at_least"),
        ({"seeds": 0}, "seeds must be how many"),
        ({"seeds": [1, 1]}, "seeds must be different"),
        ({"seeds": [1, True]}, "seeds must be how many"),
        ({"seeds": 10**12}, "seeds must be how many"),
        ({"tuning": {**TUNING, "seed": 2}}, "tuning.seed must .* got 2"),
        ({"tuning": {**TUNING, "of": {"t5": {"a": [1, 2]}}}}, "tuning.of.t5: unknown encoding"),
        ({"tuning": {**TUNING, "seeds": [1000, 2]}}, "tuning.seeds must not be one of seeds, got 2"),
        ({"tuning": {**TUNING, "seeds": [7, 7]}}, "tuning.seeds must be different"),
        (
            {"tuning": {**TUNING, "space": {"positions": ["contiguous", "pose"]}, "trials": 4}},
            "tuning.trials must be at",
        ),
        (
            {"tuning": {**TUNING, "of": {"slow": {"encoding.fraction": [0.5, 1]}}}},
            "tuning.trials must be given, .* 6",
        ),
        ({"tuning": {**TUNING, "space": {"optimizer.lr": 1}}}, "tuning.space.optimizer.lr must"),
        ({"tuning": {**TUNING, "space": {"optimizer.lr": [1, 1]}}}, "must be a list of different"),
        ({"tuning": {**TUNING, "space": {"seed": [1, 2]}}}, "tuning.space must not have"),
        ({"tuning": {**TUNING, "space": {"encoding": ["t5", "alibi"]}}}, "tuning.space must not have"),
        ({"tuning": {**TUNING, "space": {"+hydra.x": [1, 2]}}}, r"tuning.space must not have"),
        ({"encodings": ["rotary", {"name": "x", "resume": "auto"}]}, "encodings.x must not have resume"),
        ({"tuning": {"metric": "loss", "space": {}}}, "tuning must have direction"),
        ({"budget": {"steps": 10, "tokens": 10}}, "budget must be {steps: 8000}"),
        ({"budget": {"steps": -1}}, "budget must be {steps: 8000}"),
        ({"costs": ["price"]}, "costs must be of parameters"),
        ({"workers": 0}, "workers must be a positive integer"),
        ({"storage": "study.db"}, "storage must be the URL"),
        ({"name": "../x"}, "name must be letters"),
        ({"question": ""}, "question must be a sentence"),
    ],
)
def test_a_mistake_is_one_sentence(changes, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        comparison(**changes)
    assert "\n" not in str(caught.value)


def test_plain_data_makes_the_same_comparison():
    made = comparison(tuning=TUNING)
    node = json.loads(json.dumps(asdict(made)))
    assert json.loads(json.dumps(asdict(Comparison(**node)))) == node


@pytest.mark.parametrize("place", ["cases", "encodings"])
def test_a_name_that_no_directory_can_have_is_refused(place):
    long = "a" * 300
    node = {"cases": {long: {"train": {}}}, "encodings": ["rotary", {"name": long, "encoding": "none"}]}[place]
    with pytest.raises(ValueError, match=place):
        comparison(**{place: node})
