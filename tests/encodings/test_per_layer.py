from functools import partial

import pytest
import torch

from poslab.encodings import (
    Alibi,
    NoPosition,
    PerLayer,
    Rotary,
    StackEncodings,
    StackShape,
    StickBreaking,
    T5Bias,
    rnope,
)
from poslab.models import Decoder
from poslab.testing import check_encoding
from tests.encodings.examples import OneTablePerLayer

SHAPE = StackShape(d_model=32, num_layers=7, num_heads=4, num_kv_heads=2, head_dim=8)


def kinds(encodings: StackEncodings) -> list[str]:
    return [type(encodings.layer(layer)).__name__ for layer in range(SHAPE.num_layers)]


def test_a_pattern_goes_round_and_round_over_the_layers():
    encodings = StackEncodings(PerLayer([Rotary, Alibi, NoPosition], [4, None, 9]), SHAPE)
    assert kinds(encodings) == ["Rotary", "Alibi", "NoPosition", "Rotary", "Alibi", "NoPosition", "Rotary"]
    assert encodings.windows == [4, None, 9, 4, None, 9, 4]


def test_what_is_shared_is_one_instance_for_each_place_of_the_pattern():
    encodings = StackEncodings(PerLayer([T5Bias, OneTablePerLayer]), SHAPE)
    assert encodings.layer(0) is encodings.layer(2) is encodings.layer(6)
    assert len({id(encodings.layer(layer)) for layer in (1, 3, 5)}) == 3
    assert len(list(encodings.parameters())) == 4


def test_of_every_four_layers_of_rnope_the_last_has_no_position_and_sees_all():
    encodings = StackEncodings(rnope(every=4, window=5, base=100.0), SHAPE)
    assert kinds(encodings) == ["Rotary"] * 3 + ["NoPosition"] + ["Rotary"] * 3
    assert encodings.windows == [5, 5, 5, None, 5, 5, 5]
    assert encodings.layer(0).base == 100.0


def test_a_window_of_the_model_narrows_those_of_the_pattern():
    tokens = torch.arange(30)[None] % 11
    changed = tokens.clone()
    changed[0, 0] = 7
    for window, reach in [(None, 29), (4, 2 + 3 + 2)]:  # layers of 3, all or 4, and 3 tokens, whose reaches add up
        torch.manual_seed(0)
        decoder = Decoder(11, PerLayer([Rotary, NoPosition], [3, None]), 32, 3, 4, window=window).eval()
        with torch.no_grad():
            feels = (decoder(tokens) - decoder(changed)).abs().amax(-1)[0] > 0
        assert feels[: reach + 1].all() and not feels[reach + 1 :].any()


def test_every_layer_has_the_logits_of_its_own_encoding():
    """A stack whose pattern is one encoding is the stack of that encoding."""
    tokens = torch.arange(20)[None] % 11
    logits = []
    for encoding in (Alibi, PerLayer([Alibi]), PerLayer([Alibi, Alibi, Alibi])):
        torch.manual_seed(0)
        logits.append(Decoder(11, encoding, 32, 3, 4).eval()(tokens))
    assert torch.equal(logits[0], logits[1]) and torch.equal(logits[0], logits[2])


@pytest.mark.parametrize(
    "pattern",
    [rnope(every=2, window=6), PerLayer([Alibi, partial(Rotary, base=100.0)]), PerLayer([T5Bias, NoPosition])],
)
def test_patterns_keep_the_contract(pattern):
    check_encoding(pattern)


def test_a_causal_encoding_in_an_encoder_is_refused():
    shape = StackShape(d_model=32, num_layers=2, num_heads=4, num_kv_heads=4, head_dim=8, causal=False)
    with pytest.raises(ValueError, match=r"^encoding StickBreaking is causal, and this attention is not$"):
        StackEncodings(PerLayer([Rotary, StickBreaking]), shape)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PerLayer([]), "encodings must name at least one encoding, got none"),
        (lambda: PerLayer([Rotary], [1, 2]), "windows must have one entry for each of the 1 encodings, got 2"),
        (lambda: PerLayer([Rotary], [0]), "windows must be positive integers or null, got 0"),
        (lambda: rnope(every=1), "every must be an integer of at least 2, got 1"),
        (lambda: rnope(window=0), "window must be a positive integer or null, got 0"),
    ],
)
def test_a_wrong_argument_is_refused(make, message):
    with pytest.raises(ValueError) as error:
        make()
    assert str(error.value) == message
