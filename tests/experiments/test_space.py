from __future__ import annotations

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FixedTrial

from poslab.experiments.space import Space

TWO_ENCODINGS = {
    "encoding": {"choices": ["rotary", "t5", "shaw"]},
    "encoding.base": {"float": [100, 1e6], "log": True, "when": {"encoding": "rotary"}},
    "encoding.max_distance": [
        {"int": [40, 4096], "log": True, "when": {"encoding": "t5"}},
        {"int": [2, 256], "when": {"encoding": ["shaw"]}},
    ],
}


def test_a_range_is_optunas_with_both_ends_scale_and_step():
    space = Space(
        {
            "a": {"float": [1, 10], "log": True},
            "b": {"float": [0, 1], "step": 0.25},
            "c": {"int": [8, 64], "step": 8},
            "d": {"choices": ["x", 2, None, True]},
        }
    )

    assert [parameter.distribution for parameter in space.parameters] == [
        FloatDistribution(1.0, 10.0, log=True),
        FloatDistribution(0.0, 1.0, step=0.25),
        IntDistribution(8, 64, step=8),
        CategoricalDistribution(["x", 2, None, True]),
    ]


def test_a_parameter_exists_only_under_its_condition():
    space = Space(TWO_ENCODINGS)

    of_t5 = space.suggest(FixedTrial({"encoding": "t5", "encoding.max_distance (encoding=t5)": 128}))
    of_rotary = space.suggest(FixedTrial({"encoding": "rotary", "encoding.base": 500.0}))

    assert of_t5 == {"encoding": "t5", "encoding.max_distance": 128}
    assert of_rotary == {"encoding": "rotary", "encoding.base": 500.0}


def test_a_key_with_several_ranges_has_a_parameter_for_each():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    space = Space(TWO_ENCODINGS)
    for _ in range(30):
        trial = study.ask()
        values = space.suggest(trial)
        assert space.values(trial.params) == values
        if values["encoding"] == "shaw":
            assert 2 <= values["encoding.max_distance"] <= 256


def test_the_default_is_what_the_configuration_has():
    default = {"encoding": "rotary", "encoding.base": 10000.0, "encoding.max_distance": None}

    assert Space(TWO_ENCODINGS).defaults(default) == {"encoding": "rotary", "encoding.base": 10000.0}


def test_the_default_must_lie_in_the_space():
    with pytest.raises(ValueError, match=r"space\.encoding\.base must .*10 .* 1e\+06"):
        Space(TWO_ENCODINGS).defaults({"encoding": "rotary", "encoding.base": 10})
    with pytest.raises(ValueError, match=r"space\.x must contain its default.*0\.3 .* 0\.25"):
        Space({"x": {"float": [0, 1], "step": 0.25}}).defaults({"x": 0.3})
    with pytest.raises(ValueError, match=r"1 is not one of \[True, 2\]"):
        Space({"x": {"choices": [True, 2]}}).defaults({"x": 1})


def test_the_corners_are_each_end_with_what_it_needs():
    corners = [values for _, values in Space(TWO_ENCODINGS).corners()]

    assert {"encoding": "shaw"} in corners
    assert {"encoding": "t5", "encoding.max_distance": 4096} in corners
    assert {"encoding": "shaw", "encoding.max_distance": 2} in corners
    assert len(corners) == 3 + 2 + 2 + 2


@pytest.mark.parametrize(
    ("node", "sentence"),
    [
        ({}, "space must name at least"),
        ({"a": 3}, r"space\.a must be \{float: "),
        ({"a": {"float": [1, 2], "int": [1, 2]}}, r"space\.a must be "),
        ({"a": {"float": [2, 1]}}, r"space\.a: .*low"),
        ({"a": {"float": [1]}}, r"space\.a: float must be two .*\[1\]"),
        ({"a": {"int": [1, 2.5]}}, r"space\.a: int must be two"),
        ({"a": {"float": [0, 1], "log": True}}, r"space\.a: .*log"),
        ({"a": {"float": [0, 1], "step": 0}}, r"space\.a: .*step"),
        ({"a": {"choices": []}}, r"space\.a: .*choices"),
        ({"a": {"choices": [[1, 2]]}}, r"space\.a: choices must be .*numbers"),
        ({"a": {"choices": [1, True]}}, r"space\.a: choices must all be"),
        ({"a": {"int": [0, 1], "when": ["b"]}}, r"space\.a\.when must be values"),
        ({"a": {"int": [0, 1], "when": {"b": []}}}, r"space\.a\.when must be values"),
        ({"a": {"float": [0, 1], "lgo": True}}, r"'space\.a\.lgo'.*'log'\?"),
        ({"a": {"int": [0, 1], "when": {"b": 1}}}, r"space\.a\.when\.b must be a parameter"),
        (
            {"b": {"choices": ["x"]}, "a": {"int": [0, 1], "when": {"b": "y"}}},
            r"space\.a\.when\.b must .*\['x'\], got 'y'",
        ),
        ({"a": [{"int": [0, 1]}, {"int": [1, 2]}]}, r"space\.a has several ranges: each"),
    ],
)
def test_a_space_that_means_nothing_is_one_sentence(node, sentence):
    with pytest.raises(ValueError, match=sentence):
        Space(node)
