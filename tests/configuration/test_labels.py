"""Labels of runs by the names that people type."""

from __future__ import annotations

import pytest
from hydra import compose, initialize_config_dir

from poslab.commands.words import CONF
from poslab.configuration.labels import choice_name, labels
from poslab.data.composed import resolved
from tests.encoding_choices import EVERY_ENCODING


def config(*overrides: str) -> dict:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return resolved(compose("train", overrides=list(overrides)))


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ([["encoding=rotary"], ["encoding=t5"]], ["rotary", "t5"]),
        (
            [["encoding.base=1e5"], ["encoding.base=10"], ["encoding=alibi"]],
            ["rotary base=100000", "rotary base=10", "alibi"],
        ),
        ([["seed=1"], ["seed=2", "encoding=none"]], ["rotary seed=1", "none seed=2"]),
        ([["optimizer.lr=0.01"], ["optimizer.lr=0.001"]], ["rotary lr=0.01", "rotary lr=0.001"]),
        ([["positions=randomized"], []], ["rotary positions=randomized", "rotary positions=contiguous"]),
        ([["temperature=ssmax"], []], ["rotary temperature=ssmax", "rotary"]),
        ([["encoding=yarn", "encoding.scaling.factor=4"], ["encoding=yarn"]], ["yarn factor=4", "yarn factor=16"]),
        ([["encoding=t5"], ["encoding=shaw", "encoding.max_distance=8"]], ["t5", "shaw"]),
        ([[], []], ["rotary", "rotary"]),
    ],
)
def test_a_label_names_the_encoding_and_what_differs(runs, expected):
    assert labels([config(*overrides) for overrides in runs], CONF) == expected


def test_keys_that_end_alike_are_told_apart():
    one, other = (
        config("model.num_layers=2", "trainer.max_steps=10"),
        config("model.num_layers=3", "trainer.max_steps=20"),
    )
    assert labels([one, other], CONF) == ["rotary num_layers=2 max_steps=10", "rotary num_layers=3 max_steps=20"]


@pytest.mark.parametrize("name", EVERY_ENCODING)
def test_every_encoding_is_found_by_its_configuration(name):
    assert choice_name(CONF, "encoding", config(f"encoding={name}")["encoding"]) == name


def test_a_class_of_ones_own_has_its_own_name():
    own = {**config(), "encoding": {"_target_": "mylab.Mine", "size": 3}}
    assert choice_name(CONF, "encoding", own["encoding"]) is None
    assert labels([own, config()], CONF) == ["Mine", "rotary"]
