from __future__ import annotations

import pytest

from poslab.experiments.trial_run import TrialConfigurations

from .sweeps import CONF, small_sweep


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.dropout", 0.1),
        ("model.qk_norm", True),
        ("model.num_kv_heads", None),
        ("dataset.length_multiples", [1, 4]),
        ("dataset.cache_dir", "it's a \\path\\with, [signs] = and ends\\"),
        ("dataset.tokenizer", "1e3"),
    ],
)
def test_a_value_reaches_the_configuration_as_it_is(key, value, tmp_path):
    config = TrialConfigurations(CONF, small_sweep(tmp_path)).of({key: value})

    group, _, name = key.partition(".")
    assert config[group][name] == value
    assert type(config[group][name]) is type(value)


def test_a_group_can_be_chosen_and_taken_away(tmp_path):
    configurations = TrialConfigurations(CONF, small_sweep(tmp_path, train={"encoding": "t5", "temperature": "log_n"}))

    assert configurations.of({})["encoding"]["num_buckets"] == 32
    assert "temperature" not in configurations.of({"temperature": None})
    assert configurations.of({"temperature": "ssmax"})["temperature"]["_target_"].endswith("SSMax")


def test_a_sweep_may_search_a_key_of_a_scaling_by_its_short_name(tmp_path):
    sweep = small_sweep(tmp_path, "encoding=yarn", train={}, space={"encoding.factor": {"float": [1, 8]}})
    configurations = TrialConfigurations(CONF, sweep)
    assert configurations.check() == {"encoding.factor": 4.0}
    assert configurations.of({"encoding.factor": 2.5})["encoding"]["scaling"]["factor"] == 2.5
