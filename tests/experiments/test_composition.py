"""Choices of runs that a file makes, as overrides of a command line."""

from __future__ import annotations

import pytest
from hydra.errors import ConfigCompositionException

from poslab.experiments.composition import Composer

from .sweeps import CONF


@pytest.mark.parametrize(
    ("key", "value", "override"),
    [
        ("dataset", "copy", "dataset='copy'"),
        ("temperature", None, "~temperature"),
        ("callbacks", ["early_stopping"], "callbacks=['early_stopping']"),
        ("optimizer.lr", 0.001, "optimizer.lr=0.001"),
        ("optimizer.gradient_clip", None, "optimizer.gradient_clip=null"),
        ("optimizer.betas", [0.9, 0.99], "optimizer.betas=[0.9,0.99]"),
    ],
)
def test_a_choice_is_an_override(key, value, override):
    assert Composer(CONF, ()).override(key, value) == override


@pytest.mark.parametrize("value", [None, [], {}, 5, True, [None], ["copy"], {"a": None}, "../copy"])
def test_what_is_not_a_choice_of_a_group_is_one_sentence(value):
    with pytest.raises(ValueError, match=r"^dataset must be a choice of"):
        Composer(CONF, ()).override("dataset", value)


def test_a_key_that_nothing_reads_is_refused_and_one_that_a_value_refers_to_is_read():
    composer = Composer(CONF, [])
    with pytest.raises(ValueError, match=r"'\+sed'.*'seed'\?$"):
        composer.resolved(["+sed=3"])
    assert composer.resolved(["+steps=7", "trainer.max_steps=${steps}"])["trainer"]["max_steps"] == 7
    assert composer.resolved(["+trainer.lightning.accumulate_grad_batches=2"])["seed"] == 1


def test_a_value_may_refer_to_what_follows_from_another_key():
    composer = Composer(CONF, [])
    layers = composer.override("model.layers", {"kinds": [{"window": "${divided:${dataset.sequence_length},16}"}]})
    chosen = composer.resolved(["dataset.sequence_length=512", layers])
    assert chosen["model"]["layers"]["kinds"] == [{"window": 32}]


def test_keys_of_a_scaling_may_be_written_short_where_the_encoding_has_no_such_key():
    composer = Composer(CONF, [])
    assert composer.resolved(["encoding='yarn'", "encoding.factor=3"])["encoding"]["scaling"]["factor"] == 3
    assert composer.resolved(["encoding='leaky_rerope'", "encoding.factor=3"])["encoding"]["factor"] == 3
    with pytest.raises(ConfigCompositionException, match=r"encoding\.factor"):
        composer.resolved(["encoding='alibi'", "encoding.factor=3"])
