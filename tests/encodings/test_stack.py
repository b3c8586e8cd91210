import dataclasses
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from poslab.encodings import (
    Alibi,
    Dape,
    Fire,
    KerpleLog,
    KerplePower,
    LayerPattern,
    LayerSpec,
    LearnedAlibi,
    PositionalEncoding,
    Positions,
    PretrainedFacts,
    Rotary,
    StackEncodings,
    StackShape,
    T5Bias,
    Tisa,
    Tupe,
)
from poslab.encodings.base import HOOKS
from poslab.encodings.temperature import SSMax
from tests.encodings.examples import OneTablePerLayer, TurningAndDiscounting

SHAPE = StackShape(d_model=32, num_layers=3, num_heads=4, num_kv_heads=2, head_dim=8)


class AsksForAll(PositionalEncoding):
    def __init__(self, d_model, num_layers, num_heads, num_kv_heads, head_dim, causal, rate=1.0):
        super().__init__()
        self.asked = (d_model, num_layers, num_heads, num_kv_heads, head_dim, causal, rate)


def test_an_encoding_gets_what_it_asks_for_of_the_stack_and_its_hyperparameters():
    assert StackEncodings(partial(AsksForAll, rate=0.5), SHAPE).layer(0).asked == (32, 3, 4, 2, 8, True, 0.5)


def test_an_encoding_gets_the_facts_of_a_pretrained_model_as_they_are():
    class AsksForFacts(PositionalEncoding):
        def __init__(self, pretrained):
            super().__init__()
            self.asked = pretrained

    facts = PretrainedFacts(training_length=8, spectrum=Rotary(8).spectrum)
    assert StackEncodings(AsksForFacts, replace(SHAPE, pretrained=facts)).layer(0).asked is facts


@pytest.mark.parametrize(("layers", "absent"), [(5, [1]), (6, []), (1, [1])])
def test_kinds_of_layers_that_a_short_stack_lacks_are_known(layers, absent):
    of_six = LayerPattern([Rotary, Alibi], order=[0, 0, 0, 0, 0, 1])
    assert StackEncodings(of_six, replace(SHAPE, num_layers=layers)).kinds_without_layer == absent


@pytest.mark.parametrize(
    ("key", "made"), [("encoding", {"factory": Alibi(4)}), ("temperature", {"factory": Alibi, "temperature": SSMax(4)})]
)
def test_an_instance_in_place_of_its_class_is_refused(key, made):
    with pytest.raises(ValueError, match=rf"^{key} must be .*, got the instance "):
        StackEncodings(shape=SHAPE, **made)


@pytest.mark.parametrize(
    "name, own, other", [("num_heads", 4, 1), ("num_heads", 4, 2**31 - 1), ("head_dim", 8, 16), ("causal", True, False)]
)
def test_a_hyperparameter_does_not_contradict_the_stack(name, own, other):
    with pytest.raises(ValueError, match=f"^{name} must be {str(own).lower()} as in the stack, got "):
        StackEncodings(partial(AsksForAll, **{name: other}), SHAPE)
    assert StackEncodings(partial(AsksForAll, **{name: own}), SHAPE).layer(0).asked[-1] == 1.0


@pytest.mark.parametrize("encoding", [Alibi, LearnedAlibi])
def test_a_number_of_heads_may_be_an_integer_of_numpy(encoding):
    distance, device = torch.arange(3), torch.device("cpu")
    assert torch.equal(encoding(np.int64(3)).slopes(device), encoding(3).slopes(device))
    assert encoding(np.int64(3)).bias_at(distance).shape == (3, 3)


@pytest.mark.parametrize(
    "encoding", [T5Bias, LearnedAlibi, KerpleLog, KerplePower, Tupe, OneTablePerLayer, Fire, Tisa, Dape]
)
def test_layers_share_an_encoding_or_have_one_each(encoding):
    encodings = StackEncodings(encoding, SHAPE)
    alone = sum(1 for _ in StackEncodings(encoding, dataclasses.replace(SHAPE, num_layers=1)).parameters())
    instances = 3 if encoding in (OneTablePerLayer, Fire, Tisa, Dape) else 1
    assert len({id(encodings.layer(layer)) for layer in range(3)}) == instances
    assert len(list(encodings.parameters())) == instances * alone


def test_tables_are_made_once_for_each_instance():
    positions = Positions.range(5)
    first, second, third = StackEncodings(T5Bias, SHAPE).prepare(positions, positions)
    assert first is second is third
    first, second, _ = StackEncodings(OneTablePerLayer, SHAPE).prepare(positions, positions)
    assert not torch.equal(first.values, second.values)


def test_hooks_are_those_that_a_class_or_its_bases_override():
    assert PositionalEncoding().hooks == set()
    assert Rotary(8).hooks == {"rotate_query", "rotate_key", "scale"}
    assert OneTablePerLayer(4, 8, 32).hooks == {"bias"}
    assert TurningAndDiscounting(8, 4).hooks == {"rotate_query", "rotate_key", "scale", "bias"}


def test_a_stack_ends_where_the_first_of_its_encodings_ends():
    class Ends(PositionalEncoding):
        shared_by_layers = False

        def __init__(self) -> None:
            super().__init__()
            self.max_length = next(lengths)

    lengths = iter([None, 7, 9])
    assert StackEncodings(Ends, SHAPE).max_length == 7
    assert StackEncodings(Rotary, SHAPE).max_length is None


@pytest.mark.parametrize("wrong", [lambda: LayerPattern([Rotary]), SSMax])
def test_what_makes_no_encoding_is_refused(wrong):
    with pytest.raises(ValueError, match=r"^encoding must.*or a LayerPattern, got "):
        StackEncodings(wrong, SHAPE)


def test_an_attention_that_would_lose_a_window_or_a_temperature_is_refused():
    windowed = StackEncodings(LayerPattern([LayerSpec(Rotary, window=4), Rotary]), SHAPE)
    with pytest.raises(ValueError, match=r"^encoding has.*does not call: "):
        windowed.require_hooks(HOOKS)
    windowed.require_hooks({*HOOKS, "window"})
    with pytest.raises(ValueError, match=r"^encoding has.*does not call: "):
        StackEncodings(LayerPattern([LayerSpec(Rotary, chunk=3, sinks=True)]), SHAPE).require_hooks(HOOKS)
    scaled = StackEncodings(Rotary, SHAPE, SSMax)
    with pytest.raises(ValueError, match=r"^encoding has.*does not call: "):
        scaled.require_hooks(HOOKS)
    mixed = StackEncodings(LayerPattern([Rotary, Alibi, Rotary]), SHAPE)
    with pytest.raises(ValueError, match=r"^encoding Alibi.*through bias, which"):
        mixed.require_hooks({"rotate_query", "rotate_key", "scale"})
    with pytest.raises(ValueError, match=r"^called must.*hooks, .*, got 'bias'$"):
        scaled.require_hooks("bias")
