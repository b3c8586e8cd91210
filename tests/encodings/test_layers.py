from functools import partial
from math import nan

import pytest
import torch
from transformers import Cohere2Config, Llama4TextConfig
from transformers.masking_utils import create_chunked_causal_mask
from transformers.models.cohere2 import modeling_cohere2

from poslab.attention import MultiHeadAttention, Visibility, self_attention_contexts
from poslab.encodings import (
    Abacus,
    Alibi,
    LayerPattern,
    LayerSpec,
    Learned,
    NoPosition,
    Positions,
    Rotary,
    SequenceMixer,
    SSMax,
    StackEncodings,
    StackShape,
    StickBreaking,
    T5Bias,
    Tokens,
    alternating,
    rnope,
)
from poslab.models import Decoder, Encoder
from tests.encodings.examples import OneTablePerLayer
from tests.stacked import stacked

SHAPE = StackShape(d_model=32, num_layers=7, num_heads=4, num_kv_heads=2, head_dim=8)


def kinds(encodings: StackEncodings) -> list[str]:
    return [type(encodings.layer(layer)).__name__ for layer in range(encodings.shape.num_layers)]


def test_a_pattern_goes_round_and_round_over_the_layers():
    encodings = StackEncodings(
        LayerPattern([LayerSpec(Rotary, window=4), Alibi, LayerSpec(NoPosition, window=9)]), SHAPE
    )
    assert kinds(encodings) == ["Rotary", "Alibi", "NoPosition", "Rotary", "Alibi", "NoPosition", "Rotary"]
    assert encodings.windows == [4, None, 9, 4, None, 9, 4]


def test_what_is_shared_is_one_instance_for_each_place_of_the_pattern():
    encodings = StackEncodings(LayerPattern([T5Bias, OneTablePerLayer]), SHAPE)
    assert encodings.layer(0) is encodings.layer(2) is encodings.layer(6)
    assert len({id(encodings.layer(layer)) for layer in (1, 3, 5)}) == 3
    assert len(list(encodings.parameters())) == 4


def test_of_every_four_layers_of_rnope_the_last_has_no_position_and_sees_all():
    encodings = StackEncodings(rnope(every=4, window=5, base=100.0), SHAPE)
    assert kinds(encodings) == ["Rotary"] * 3 + ["NoPosition"] + ["Rotary"] * 3
    assert encodings.windows == [5, 5, 5, None, 5, 5, 5]
    assert encodings.layer(0).base == 100.0


@pytest.mark.parametrize(
    ("order", "others", "expected"),
    [
        ([0, 0, 1], {}, [0, 0, 1, 0, 0, 1, 0]),
        ([0, 0, 1], {"from_last": True}, [1, 0, 0, 1, 0, 0, 1]),
        (None, {"from_last": True}, [1, 2, 0, 1, 2, 0, 1, 2][1:]),
        ([0, 0, 1], {"first": 2, "last": 1}, [2, 0, 1, 0, 0, 1, 1]),
        ([0], {"from_last": True, "first": 0, "last": 2}, [0, 0, 0, 0, 0, 0, 2]),
    ],
)
def test_layers_have_kinds_in_an_order_from_either_end_with_exceptions(order, others, expected):
    pattern = LayerPattern(
        [LayerSpec(Rotary, 4), LayerSpec(Alibi, chunk=5), LayerSpec(NoPosition, 9)], order=order, **others
    )
    encodings = StackEncodings(pattern, SHAPE)
    assert kinds(encodings) == [["Rotary", "Alibi", "NoPosition"][kind] for kind in expected]
    assert encodings.windows == [[4, None, 9][kind] for kind in expected]
    assert encodings.chunks == [[None, 5, None][kind] for kind in expected]


def test_a_pattern_gives_some_layers_a_temperature():
    pattern = LayerPattern([Rotary, LayerSpec(NoPosition, temperature=SSMax)], order=[0, 0, 1])
    encodings = StackEncodings(pattern, SHAPE)
    assert [encodings.temperature(layer) is not None for layer in range(7)] == [False, False, True] * 2 + [False]
    for layer, context in enumerate(contexts(encodings)):
        assert context.temperature is encodings.temperature(layer)
    assert [name for name, _ in encodings.named_parameters()] == ["temperatures.2.scales", "temperatures.5.scales"]


def contexts(encodings, positions=None, real=None):
    return self_attention_contexts(encodings, Positions.range(12) if positions is None else positions, real)


def test_a_pattern_with_temperatures_and_a_temperature_of_all_layers_are_refused():
    with pytest.raises(ValueError, match=r"^temperature must be null "):
        StackEncodings(LayerPattern([Rotary, LayerSpec(NoPosition, temperature=SSMax)]), SHAPE, SSMax)


@pytest.mark.parametrize("left", [0, 2, 5])
def test_chunks_are_those_of_llama_4(left):
    config = Llama4TextConfig(attention_chunk_size=4, attn_implementation="eager")
    real = torch.arange(12) >= torch.tensor([[left], [0]])
    theirs = create_chunked_causal_mask(config, torch.zeros(2, 12, 1), real.long(), None)
    encodings = StackEncodings(LayerPattern([LayerSpec(Rotary, chunk=4)]), SHAPE)
    context = contexts(encodings, Positions.padded(real), real)[0]
    ours = context.visibility.mask(12, 12, real.device) & real[:, None, :, None]
    assert torch.equal(ours, (theirs == 0) & real[:, None, :, None])


@pytest.mark.parametrize("window", [None, 2])
@pytest.mark.parametrize("queries", [12, 3])
def test_chunks_begin_anew_in_each_document(queries, window):
    segments = torch.tensor([[7] * 5 + [2] * 7, [1] * 1 + [3] * 10 + [0]])
    places = [[*range(5), *range(7)], [0, *range(10), 0]]
    whole = Positions.packed(segments)
    last = Positions(whole.ids[:, -queries:], whole.stop, True, segments[:, -queries:])
    visibility = Visibility.between(last, whole, window=window, chunk=4)
    expected = [
        [
            [
                j <= i < j + (window or 12)
                and bool(segments[b, i] == segments[b, j])
                and places[b][i] // 4 == places[b][j] // 4
                for j in range(12)
            ]
            for i in range(12 - queries, 12)
        ]
        for b in range(2)
    ]
    assert torch.equal(visibility.mask(queries, 12, segments.device)[:, 0], torch.tensor(expected))
    assert torch.equal(visibility.counts(queries, 12, segments.device), torch.tensor(expected).sum(-1).float())


def test_a_decoder_with_chunks_reads_with_a_cache_what_it_reads_at_once():
    torch.manual_seed(0)
    pattern = LayerPattern([LayerSpec(Rotary, chunk=5), LayerSpec(NoPosition, temperature=SSMax)], order=[0, 0, 1])
    decoder, tokens = stacked(Decoder, 11, pattern, 32, 3, 4).eval(), torch.arange(30)[None] % 11
    cache = decoder.new_cache()
    with torch.no_grad():
        in_parts = [decoder(part, cache=cache) for part in tokens.split([7, 1, 1, 21], dim=1)]
        torch.testing.assert_close(torch.cat(in_parts, dim=1), decoder(tokens), rtol=1e-4, atol=1e-5)


def test_a_window_of_the_model_narrows_those_of_the_pattern():
    tokens = torch.arange(30)[None] % 11
    changed = tokens.clone()
    changed[0, 0] = 7
    for window, reach in [(None, 29), (4, 2 + 3 + 2)]:  # layers of 3, all or 4, and 3 tokens, whose reaches add up
        torch.manual_seed(0)
        decoder = stacked(
            Decoder, 11, LayerPattern([LayerSpec(Rotary, window=3), NoPosition]), 32, 3, 4, window=window
        ).eval()
        with torch.no_grad():
            feels = (decoder(tokens) - decoder(changed)).abs().amax(-1)[0] > 0
        assert feels[: reach + 1].all() and not feels[reach + 1 :].any()


def test_every_layer_has_the_logits_of_its_own_encoding():
    """A stack whose pattern is one encoding is the stack of that encoding."""
    tokens = torch.arange(20)[None] % 11
    logits = []
    for encoding in (Alibi, LayerPattern([Alibi]), LayerPattern([Alibi, Alibi, Alibi])):
        torch.manual_seed(0)
        logits.append(stacked(Decoder, 11, encoding, 32, 3, 4).eval()(tokens))
    assert torch.equal(logits[0], logits[1]) and torch.equal(logits[0], logits[2])


def test_kinds_without_an_encoding_have_the_encoding_of_the_model():
    pattern = LayerPattern([LayerSpec(window=3), LayerSpec(NoPosition)], order=[0, 0, 1])
    decoder = stacked(Decoder, 11, T5Bias, 32, 6, 4, layers=pattern)
    assert kinds(decoder.encodings) == ["T5Bias", "T5Bias", "NoPosition"] * 2
    assert decoder.encodings.layer(0) is decoder.encodings.layer(4)
    assert decoder.encodings.windows == [3, 3, None] * 2


def test_kinds_and_an_encoding_that_has_kinds_too_are_refused():
    with pytest.raises(ValueError, match=r"^layers must.*kinds of layers"):
        LayerPattern([LayerSpec(window=3)]).under(rnope())
    with pytest.raises(ValueError, match=r"^layers must.*without its own encoding"):
        LayerPattern([Rotary, NoPosition]).under(T5Bias)
    embedding = LayerPattern([LayerSpec(window=3)]).under(alternating([Rotary], embedding=Abacus)).embedding
    assert embedding is Abacus


class RunningMean(SequenceMixer):
    """Mean of the tokens so far, with a state for a cache: a mixer of two statements."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.output = torch.nn.Linear(d_model, d_model, bias=False)

    def forward(self, x_BTM, context):
        before = x_BTM.new_zeros(1) if context.cache is None else context.cache.recurrent.get("sum", x_BTM.new_zeros(1))
        sums_BTM = x_BTM.cumsum(1) + before
        if context.cache is not None:
            context.cache.recurrent["sum"] = sums_BTM[:, -1:]
        return self.output(sums_BTM)


def test_a_mixer_takes_the_place_of_attention_with_a_cache_too():
    torch.manual_seed(0)
    layers = LayerPattern([LayerSpec(mixer=RunningMean), LayerSpec(window=4)])
    decoder, tokens = stacked(Decoder, 11, Rotary, 32, 4, 4, layers=layers, sinks="all").eval(), torch.arange(30) % 11
    assert [type(block.mixer).__name__ for block in decoder.blocks] == ["RunningMean", "MultiHeadAttention"] * 2
    assert list(decoder.encodings.sinks) == ["1", "3"] and decoder.is_recurrent
    cache = decoder.new_cache()
    with torch.no_grad():
        in_parts = [decoder(part, cache=cache) for part in tokens[None].split([7, 1, 1, 21], dim=1)]
        torch.testing.assert_close(torch.cat(in_parts, dim=1), decoder(tokens[None]), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"^mixer RunningMean is causal"):
        stacked(Encoder, 11, Rotary, 32, 4, 4, layers=layers)


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
    encodings = StackEncodings(LayerPattern([Rotary, Alibi], embedding=partial(Abacus, digits=[1, 2])), SHAPE).eval()
    assert kinds(encodings) == ["Rotary", "Alibi"] * 3 + ["Rotary"]
    x, tokens = torch.randn(1, 3, 32), Tokens(torch.tensor([[1, 2, 0]]))
    (table,) = encodings.parameters()
    assert torch.equal(encodings.embed(x, Positions.range(3), tokens), x + table[[1, 2, 0]])


def test_the_end_of_an_encoding_of_embeddings_is_that_of_the_stack():
    assert StackEncodings(LayerPattern([Rotary], embedding=partial(Learned, max_length=9)), SHAPE).max_length == 9


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (LayerPattern([Rotary], embedding=Alibi), "embedding must .* Alibi"),
        (
            LayerPattern([Learned], embedding=Learned),
            "encodings must .* at most one",
        ),
    ],
)
def test_what_does_not_stand_beside_the_layers_is_refused(pattern, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        StackEncodings(pattern, SHAPE)


def test_a_causal_encoding_in_an_encoder_is_refused():
    shape = StackShape(d_model=32, num_layers=2, num_heads=4, num_kv_heads=4, head_dim=8, causal=False)
    with pytest.raises(ValueError, match=r"^encoding StickBreaking.*attention is not: "):
        StackEncodings(LayerPattern([Rotary, StickBreaking]), shape)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(LayerPattern, []), "kinds must .*, got none"),
        (partial(alternating, []), "encodings must .*, got none"),
        *((partial(LayerSpec, Rotary, wrong), f"window must .*, got {wrong}") for wrong in (0, nan)),
        (
            partial(LayerSpec, window=4, mixer=SequenceMixer),
            "mixer must be null",
        ),
        (partial(LayerPattern, [Rotary], order=[]), "order must .*, got none"),
        (partial(LayerPattern, [Rotary], order=[0, 1]), "order must .*, got 1"),
        (partial(LayerPattern, [Rotary], last=1), "last must .*, got 1"),
        (partial(rnope, every=1), "every must .*, got 1"),
        (partial(rnope, window=0), "window must .*, got 0"),
        (partial(rnope, window=nan), "window must .*, got nan"),
    ],
)
def test_a_wrong_argument_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
