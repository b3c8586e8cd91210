"""Cases at several sizes: their names, choices and counts, and the tuned values that larger ones take over."""

from __future__ import annotations

import json
import math

import pytest
import torch

from poslab.configuration.command_line import CONF
from poslab.experiments.comparison_file import ladders, read_comparison
from poslab.experiments.configurations import CellConfigurations, check_comparable, with_counts
from poslab.experiments.plan import CellPlan
from tests.experiments.test_plan import tried

SIZES = {
    "0.1M": {"model.d_model": 64, "model.num_layers": 2, "model.num_heads": 2},
    "0.3M": {"model.d_model": 96, "model.num_layers": 3, "model.num_heads": 3, "tokens_per_parameter": 20},
    "1M": {
        "model.d_model": 160,
        "model.num_layers": 4,
        "model.num_heads": 5,
        "seeds": 1,
        "encodings": ["rotary", "t5"],
    },
}
FILE = {
    "question": "Does it last?",
    "baseline": "rotary",
    "encodings": ["none", "rotary", "t5"],
    "cases": {"text": {"train": {"dataset": "python_docs", "dataset.sequence_length": 128, "dataset.batch_size": 16}}},
    "seeds": 3,
    "metrics": {"bits_per_byte@1x": {"direction": "minimize", "margin": 0.02}},
    "sizes": SIZES,
    "tokens_per_parameter": [20, 60],
    "tuning": {"metric": "loss", "direction": "minimize", "space": {"optimizer.lr": [1e-3, 2e-3, 4e-3]}},
}


def read(tmp_path, given=(), overrides=(), **changes):
    (tmp_path / "ladder.yaml").write_text(json.dumps({**FILE, **changes}))
    return read_comparison(tmp_path, {"comparison": "ladder", **dict(given)}, list(overrides))


@pytest.fixture
def comparison(tmp_path):
    return with_counts(read(tmp_path), CONF)


def test_each_case_at_each_size_and_ratio_is_a_case(tmp_path):
    made = read(tmp_path)
    assert ladders(made) == {
        ("text", 20): ["text-0.1M", "text-0.3M", "text-1M"],
        ("text", 60): ["text-0.1M-60", "text-1M-60"],
    }
    assert made.all_cases["text-1M"].train["model.d_model"] == 160
    assert [made.encodings_of(case) for case in ("text-0.1M", "text-1M")] == [
        ["none", "rotary", "t5"],
        ["rotary", "t5"],
    ]
    assert [made.seeds_of(case) for case in ("text-0.1M", "text-1M")] == [[1, 2, 3], [1]]


def test_a_case_after_another_one_follows_it_at_its_size(tmp_path):
    cases = {**FILE["cases"], "more": {**FILE["cases"]["text"], "after": "text"}}
    made = read(tmp_path, cases=cases)
    assert made.all_cases["more-0.1M-60"].after == "text-0.1M-60"


def test_the_command_line_restricts_a_comparison_to_some_sizes(tmp_path):
    whole, part = read(tmp_path), read(tmp_path, {"sizes": ["0.1M", "0.3M"]})
    assert [case for case in whole.cases if case in part.cases] == ["text-0.1M", "text-0.1M-60", "text-0.3M"]
    assert part.all_cases["text-0.3M"] == whole.all_cases["text-0.3M"]


def test_parameters_are_those_of_the_baseline_without_embeddings_and_tokens_follow(comparison):
    configurations = CellConfigurations(CONF, comparison)
    for case in comparison.cases:
        scale = comparison.all_cases[case]
        recipes = {name: configurations.check(case, name) for name in comparison.encodings_of(case)}
        check_comparable(comparison, case, recipes)
        with torch.device("meta"):
            model = recipes["rotary"].model.build(257)
        counted = sum(p.numel() for p in model.parameters()) - model.embedding.weight.numel()
        assert scale.parameters == counted
        assert scale.steps == recipes["t5"].trainer.max_steps == math.ceil(scale.tokens_per_parameter * counted / 2048)
        assert scale.tokens == 2048 * scale.steps


def test_a_larger_size_has_the_tuned_values_with_a_rate_by_its_width(comparison):
    definitions = {f"{case}/{name}": "digest" for case, name in comparison.pairs}
    plan = CellPlan(
        comparison, definitions, {case: [128] for case in comparison.cases}, dict.fromkeys(comparison.cases, 128)
    )
    assert {cell.case for cell in plan.wanted({})[0]} == {"text-0.1M", "text-0.3M"}

    def loss(cell):
        return abs(math.log2(cell.point["optimizer.lr"] / (2e-3 if cell.case == "text-0.1M" else 1.5e-3)))

    wanted, unknown = plan.wanted(tried(plan, loss))
    rates = {cell.case: cell.point["optimizer.lr"] for cell in wanted if not cell.is_trial}
    tuned = rates["text-0.3M"]
    assert (rates["text-0.1M"], rates["text-0.1M-60"]) == (2e-3, 2e-3)
    assert rates["text-1M"] == rates["text-1M-60"] == pytest.approx(tuned * 96 / 160, rel=1e-5)
    runs = [cell for cell in wanted if not cell.is_trial]
    assert unknown == 0 and len(runs) == 3 * 3 * 3 + 2 * 2


def test_the_exponent_of_the_rule_is_a_key_of_the_tuning(tmp_path):
    made = with_counts(read(tmp_path, tuning={**FILE["tuning"], "rate_exponent": 0.5, "sizes": ["0.1M"]}), CONF)
    definitions = {f"{case}/{name}": "digest" for case, name in made.pairs}
    plan = CellPlan(made, definitions, {case: [128] for case in made.cases}, dict.fromkeys(made.cases, 128))
    results = tried(plan, lambda cell: abs(math.log2(cell.point["optimizer.lr"] / 2e-3)))
    assert plan.tuned("text-0.3M", "t5", results).point["optimizer.lr"] == pytest.approx(
        2e-3 * (64 / 96) ** 0.5, rel=1e-5
    )


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"sizes": None}, "tokens_per_parameter must have the sizes"),
        ({"sizes": {}}, "sizes must be choices by name"),
        ({"sizes": {"a b": {}}}, "sizes: names must be"),
        ({"sizes": {"1M": [1]}}, "sizes.1M must be choices by key"),
        ({"sizes": {"1M": {"encoding": "t5"}}}, "cases.text-1M.train must not have encoding"),
        ({"sizes": {"1M": {"optimizer.lr": 1e-3}}}, "must not set optimizer.lr, which is tuned"),
        (
            {"sizes": {**SIZES, "3M": {"optimizer.lr": 1e-3}}},
            "cases.text-3M.train must not set optimizer.lr, which is tuned",
        ),
        ({"sizes": {"1M": {"tokens_per_parameter": 0}}}, r"sizes.1M.tokens_per_parameter must be a positive"),
        ({"sizes": {"1M": {"seeds": 0}}}, "cases.text-1M.seeds must be how many"),
        ({"sizes": {"1M": {"seeds": [1, 1]}}}, "cases.text-1M.seeds must be different"),
        ({"sizes": {"1M": {"seeds": [1000]}}}, "tuning.seed must not be one of seeds"),
        ({"sizes": {"1M": {"encodings": ["rotary", "alibi"]}}}, "cases.text-1M.encodings: there is no alibi"),
        ({"tokens_per_parameter": "x"}, "tokens_per_parameter must be a positive number"),
        ({"tokens_per_parameter": []}, "tokens_per_parameter must be a positive number"),
        ({"tokens_per_parameter": [20, 20]}, "tokens_per_parameter must be different"),
        ({"budget": {"steps": 5}}, "budget must not be there with tokens_per_parameter"),
        ({"train": {"trainer.max_steps": 5}}, "text-0.1M must not set trainer.max_steps"),
        ({"cases": {"text": {}}}, "cases.text must contain its choices"),
        ({"cases": {**FILE["cases"], "text-1M": FILE["cases"]["text"]}}, "cases: text-1M is the name of"),
        ({"tuning": {**FILE["tuning"], "sizes": ["3M"]}}, "tuning.sizes: there is no size 3M"),
        ({"tuning": {**FILE["tuning"], "sizes": ["1M"]}}, "tuning.sizes must contain 0.1M"),
        ({"tuning": {**FILE["tuning"], "sizes": "1M"}}, "tuning.sizes must be a list"),
        ({"tuning": {**FILE["tuning"], "rate_exponent": -1}}, "tuning: rate_exponent must be"),
        (
            {
                "sizes": {"0.1M": {"encodings": ["rotary", "none"]}, "0.3M": SIZES["0.3M"]},
                "tuning": {**FILE["tuning"], "sizes": ["0.1M"]},
            },
            "sizes.0.3M.encodings must be tuned at another size, and text-0.1M does not have t5",
        ),
    ],
)
def test_a_mistake_is_one_sentence(tmp_path, changes, sentence):
    with pytest.raises(ValueError, match=rf"^[^\n]*{sentence}[^\n]*$"):
        read(tmp_path, **changes)


ODD_PLACES = [
    *("sizes", "sizes.1M", "sizes.1M.seeds", "sizes.1M.encodings", "sizes.1M.tokens_per_parameter"),
    *("sizes.1M.model.d_model", "tokens_per_parameter", "tuning", "tuning.sizes", "tuning.rate_exponent"),
    *("cases", "cases.text", "cases.text.after", "cases.text.train", "train", "budget"),
]


@pytest.mark.parametrize(
    "value", [None, [], {}, "", 5, -1, True, "x", [None], [[1]], {"a": None}, {"a": {"b": 1}}, 1e300]
)
@pytest.mark.parametrize("path", ODD_PLACES)
def test_an_odd_value_is_a_comparison_or_one_sentence(tmp_path, path, value):
    node = json.loads(json.dumps(FILE))
    *above, last = path.split(".", 2)
    inner = node
    for key in above:
        inner = inner[key]
    inner[last] = value
    try:
        read(tmp_path, **node)
    except ValueError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("changes", "overrides", "sentence"),
    [
        ({"sizes": {"1M": {"model.d_model": 64, "model.num_heads": 3}}}, [], "sizes.1M: text-1M under rotary: .*heads"),
        ({"sizes": {"1M": SIZES["0.1M"], "2M": SIZES["0.1M"]}}, [], "sizes.2M must have more parameters"),
        ({}, ["trainer.max_steps=5"], "trainer.max_steps follows from the parameters"),
        (
            {"cases": {"copy": {"train": {"dataset": "copy"}}}, "metrics": {"exact_match": {"direction": "maximize"}}},
            [],
            "windows of a text",
        ),
    ],
)
def test_a_mistake_in_a_model_is_one_sentence(tmp_path, changes, overrides, sentence):
    made = read(tmp_path, overrides=overrides, **changes)
    with pytest.raises(ValueError, match=rf"^[^\n]*{sentence}[^\n]*$"):
        with_counts(made, CONF)


def test_predictions_of_what_the_command_line_leaves_out_are_left_out(tmp_path):
    predictions = [{"say": "low", "case": f"text-{size}", "of": "t5", "at_most": 9} for size in ("0.1M", "1M")]

    def cases(**given):
        return [node["case"] for node in read(tmp_path, given, predictions=predictions).predictions]

    assert cases() == ["text-0.1M", "text-1M"]
    assert cases(sizes=["0.1M"]) == ["text-0.1M"]
    assert cases(sizes=["0.1M"], encodings=["none", "rotary"]) == []
    predictions[1]["case"] = "text-2M"
    with pytest.raises(ValueError, match=r"predictions\[1\]\.case: there is no case text-2M"):
        read(tmp_path, predictions=predictions)


def test_typed_sizes_hold_the_first(tmp_path):
    with pytest.raises(ValueError, match=r"^sizes must contain 0.1M"):
        read(tmp_path, {"sizes": ["1M"]})
