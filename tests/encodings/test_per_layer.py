from functools import partial
from math import nan

import pytest
import torch
from transformers import Cohere2Config
from transformers.models.cohere2 import modeling_cohere2

from poslab.attention import MultiHeadAttention, self_attention_contexts
from poslab.encodings import (
    Abacus,
    Alibi,
    Learned,
    NoPosition,
    PerLayer,
    Positions,
    Rotary,
    StackEncodings,
    StackShape,
    StickBreaking,
    T5Bias,
    Tokens,
    rnope,
)
from poslab.models import Decoder
from tests.encodings.examples import OneTablePerLayer
from tests.stacked import stacked

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
        decoder = stacked(Decoder, 11, PerLayer([Rotary, NoPosition], [3, None]), 32, 3, 4, window=window).eval()
        with torch.no_grad():
            feels = (decoder(tokens) - decoder(changed)).abs().amax(-1)[0] > 0
        assert feels[: reach + 1].all() and not feels[reach + 1 :].any()


def test_every_layer_has_the_logits_of_its_own_encoding():
    """A stack whose pattern is one encoding is the stack of that encoding."""
    tokens = torch.arange(20)[None] % 11
    logits = []
    for encoding in (Alibi, PerLayer([Alibi]), PerLayer([Alibi, Alibi, Alibi])):
        torch.manual_seed(0)
        logits.append(stacked(Decoder, 11, encoding, 32, 3, 4).eval()(tokens))
    assert torch.equal(logits[0], logits[1]) and torch.equal(logits[0], logits[2])


@pytest.mark.parametrize("window", [3, 5, 64])
def test_layers_of_rnope_are_those_of_cohere2(window):
    config = Cohere2Config(
        hidden_size=32,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_hidden_layers=8,
        head_dim=8,
        sliding_window=window,
        rope_parameters={"rope_type": "default", "rope_theta": 100.0},
        attn_implementation="eager",
    )
    torch.manual_seed(0)
    x, positions = torch.randn(2, 20, 32), Positions.range(20)
    encodings = StackEncodings(rnope(window=window, base=100.0), StackShape(32, 8, 4, 2, 8))
    cos_sin = modeling_cohere2.Cohere2RotaryEmbedding(config)(x, positions.ids[None])
    distance = positions.ids[:, None] - positions.ids
    by_pairs = torch.cat([torch.arange(0, 8, 2), torch.arange(1, 8, 2)])  # channels 2m and 2m + 1 turn together there
    for layer, context in enumerate(self_attention_contexts(encodings, positions)):
        theirs, ours = modeling_cohere2.Cohere2Attention(config, layer).eval(), MultiHeadAttention(32, 4, 2, 8)
        seen = (distance >= 0) & (distance < (theirs.sliding_window or 20))
        mask = torch.zeros(20, 20).masked_fill(~seen, torch.finfo(torch.float32).min)[None, None]
        query, key = (
            projection.weight.unflatten(0, (-1, 8))[:, by_pairs].flatten(0, 1)
            for projection in (theirs.q_proj, theirs.k_proj)
        )
        with torch.no_grad():
            ours.query.weight.copy_(query)
            ours.key_value.weight.copy_(torch.cat([key, theirs.v_proj.weight]))
            ours.output.weight.copy_(theirs.o_proj.weight)
        torch.testing.assert_close(ours(x, context), theirs(x, cos_sin, mask)[0], rtol=1e-5, atol=1e-5)


def test_an_encoding_of_embeddings_stands_beside_those_of_the_layers():
    encodings = StackEncodings(PerLayer([Rotary, Alibi], embedding=partial(Abacus, digits=[1, 2])), SHAPE).eval()
    assert kinds(encodings) == ["Rotary", "Alibi"] * 3 + ["Rotary"]
    x, tokens = torch.randn(1, 3, 32), Tokens(torch.tensor([[1, 2, 0]]))
    (table,) = encodings.parameters()
    assert torch.equal(encodings.embed(x, Positions.range(3), tokens), x + table[[1, 2, 0]])


def test_the_end_of_an_encoding_of_embeddings_is_that_of_the_stack():
    assert StackEncodings(PerLayer([Rotary], embedding=partial(Learned, max_length=9)), SHAPE).max_length == 9


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (PerLayer([Rotary], embedding=Alibi), "embedding must act on embeddings alone, which Alibi does not"),
        (
            PerLayer([Learned], embedding=Learned),
            "encodings must have at most one that mixes position into embeddings, which is done once",
        ),
    ],
)
def test_what_does_not_stand_beside_the_layers_is_refused(pattern, message):
    with pytest.raises(ValueError) as error:
        StackEncodings(pattern, SHAPE)
    assert str(error.value) == message


def test_a_causal_encoding_in_an_encoder_is_refused():
    shape = StackShape(d_model=32, num_layers=2, num_heads=4, num_kv_heads=4, head_dim=8, causal=False)
    with pytest.raises(ValueError, match=r"^encoding StickBreaking is causal, and this attention is not: "):
        StackEncodings(PerLayer([Rotary, StickBreaking]), shape)


WINDOWS = "windows must be a list, each item a positive integer or null or null"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(PerLayer, []), "encodings must name at least one encoding, got none"),
        (partial(PerLayer, [Rotary], [1, 2]), "windows must have one entry for each of the 1 encodings, got 2"),
        *((partial(PerLayer, [Rotary], [wrong]), f"{WINDOWS}, got [{wrong}]") for wrong in (0, nan)),
        (partial(rnope, every=1), "every must be an integer of at least 2, got 1"),
        (partial(rnope, window=0), "window must be a positive integer or null, got 0"),
        (partial(rnope, window=nan), "window must be a positive integer or null, got nan"),
    ],
)
def test_a_wrong_argument_is_refused(make, message):
    with pytest.raises(ValueError) as error:
        make()
    assert str(error.value) == message
