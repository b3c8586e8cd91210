"""A decoder; that it is causal, decodes and serves padding and documents under any encoding is in `poslab.testing`."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from poslab.attention.blockwise import BLOCK
from poslab.encodings import Alibi, NoPosition, PositionalEncoding, Positions, Rotary, T5Bias
from poslab.models import Decoder
from tests.encoding_choices import ENCODINGS, VOCAB_SIZE, small_decoder, some_tokens
from tests.encodings.examples import OneTablePerLayer
from tests.stacked import stacked

LENGTH = 20

each_encoding = pytest.mark.parametrize("name", ENCODINGS)


# Causality, caches, padding, documents


@each_encoding
def test_through_two_layers_a_window_of_5_reaches_8_tokens_back(name):
    tokens = some_tokens(2, LENGTH)
    changed = tokens.clone()
    changed[:, 0] = (changed[:, 0] + 1) % VOCAB_SIZE
    with torch.no_grad():
        for window, reach in [(5, 8), (None, LENGTH - 1)]:
            decoder = small_decoder(name, window=window)
            feels = (decoder(tokens) - decoder(changed)).abs().amax(-1) > 0
            assert feels[:, : reach + 1].all()
            assert not feels[:, reach + 1 :].any()


@each_encoding
def test_decoding_after_left_padding_in_a_window_gives_each_row_the_logits_that_it_has_alone(name):
    decoder, tokens = small_decoder(name, window=5), some_tokens(2, LENGTH)
    real = torch.arange(8) >= torch.tensor([[3], [0]])
    with torch.no_grad():
        cache = decoder.new_cache()
        logits = [decoder(tokens[:, :8], Positions.padded(real), real, cache)]
        logits += [decoder(tokens[:, 8:9], cache=cache), decoder(tokens[:, 9:], cache=cache)]
        actual = torch.cat(logits, dim=1)
        torch.testing.assert_close(actual[:1, 3:], decoder(tokens[:1, 3:]), rtol=0, atol=1e-5)
        torch.testing.assert_close(actual[1:], decoder(tokens[1:]), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("rotary", {"window": 3}), ("t5", {}), ("path", {}), ("selective_rotary", {}), ("none", {"canon": "AC"})],
)
def test_registers_stand_right_before_the_first_token_behind_padding(name, arguments):
    decoder, tokens = small_decoder(name, registers=2, **arguments), some_tokens(2, LENGTH)
    for weight in decoder.parameters():
        weight.data += 0.3 * torch.randn_like(weight)
    real = torch.arange(8) >= torch.tensor([[5], [0]])
    with torch.no_grad():
        cache = decoder.new_cache()
        logits = [decoder(tokens[:, :8], Positions.padded(real), real, cache), decoder(tokens[:, 8:], cache=cache)]
        actual = torch.cat(logits, dim=1)
        torch.testing.assert_close(actual[:1, 5:], decoder(tokens[:1, 5:]), rtol=0, atol=1e-4)
        torch.testing.assert_close(actual[1:], decoder(tokens[1:]), rtol=0, atol=1e-4)


def test_decoding_after_right_padding_is_refused():
    decoder, tokens = small_decoder("rotary"), some_tokens(2, LENGTH)
    real = torch.arange(8) < torch.tensor([[5], [8]])
    cache = decoder.new_cache()
    decoder(tokens[:, :8], Positions.padded(real), real, cache)
    with pytest.raises(ValueError, match=r"pad prompts on the left$"):
        decoder(tokens[:, 8:9], cache=cache)


@each_encoding
def test_packed_documents_in_a_window_give_the_logits_that_each_has_alone(name):
    decoder, tokens = small_decoder(name, window=5), some_tokens(2, LENGTH)
    segments = torch.tensor([[0] * 8 + [1] * 12, [0] * 3 + [1] * 1 + [2] * 16])
    with torch.no_grad():
        packed = decoder(tokens, Positions.packed(segments))
        for row, segment in [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)]:
            document = segments[row] == segment
            alone = decoder(tokens[row, document][None])[0]
            torch.testing.assert_close(packed[row, document], alone, rtol=0, atol=1e-5)


@each_encoding
def test_decoding_after_packed_documents_goes_on_with_the_last_one(name):
    decoder, tokens = small_decoder(name), some_tokens(1, LENGTH)
    packed, cache = Positions.packed(torch.tensor([[0] * 8 + [1] * 4])), decoder.new_cache()
    with torch.no_grad():
        logits = [decoder(tokens[:, :12], packed, cache=cache)]
        logits += [decoder(tokens[:, start:stop], cache=cache) for start, stop in ((12, 13), (13, LENGTH))]
        torch.testing.assert_close(torch.cat(logits, dim=1)[:, 8:], decoder(tokens[:, 8:]), rtol=0, atol=1e-5)


# Routes and precision


@each_encoding
@pytest.mark.parametrize("qk_norm", [False, True])
def test_bf16_autocast_stays_near_float32(name, qk_norm):
    decoder, tokens = small_decoder(name, qk_norm=qk_norm), some_tokens(2, LENGTH)
    with torch.no_grad():
        exact = decoder(tokens)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            low = decoder(tokens)
    torch.testing.assert_close(low.float(), exact, rtol=0, atol=0.05 * float(exact.abs().max()))


@each_encoding
def test_a_decoder_in_bfloat16_stays_near_float32(name):
    decoder, tokens = small_decoder(name), some_tokens(2, LENGTH)
    with torch.no_grad():
        exact = decoder(tokens)
        low = decoder.to(torch.bfloat16)(tokens)
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), exact, rtol=0, atol=0.1 * float(exact.abs().max()))


@pytest.mark.slow
@each_encoding
@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_torch_compile_takes_the_whole_forward_pass_without_a_break(name, layout):
    torch._dynamo.reset()
    decoder, tokens = small_decoder(name), some_tokens(2, LENGTH)
    real = torch.arange(LENGTH) >= torch.tensor([[3], [0]])
    arguments = {
        "packed": {"positions": Positions.packed(real.int())},
        "padded": {"positions": Positions.padded(real), "real": real},
    }[layout]
    compiled = torch.compile(decoder, backend="eager", fullgraph=True)
    actual, expected = compiled(tokens, **arguments), decoder(tokens, **arguments)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)
    parameters = list(decoder.parameters())
    gradients = [torch.autograd.grad(y.square().sum(), parameters, allow_unused=True) for y in (actual, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "window", "length"),
    [*((name, window, LENGTH) for name in ENCODINGS for window in (None, 5)), ("shaw", None, BLOCK + 5)],
)
def test_the_gradients_of_each_sample_come_from_vmap(name, window, length):
    decoder, tokens = small_decoder(name, window=window), some_tokens(3, length)
    parameters = {name: parameter.detach() for name, parameter in decoder.named_parameters()}

    def loss(parameters: dict[str, Tensor], tokens_T: Tensor) -> Tensor:
        return torch.func.functional_call(decoder, parameters, (tokens_T[None],)).square().sum()

    together = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(parameters, tokens)
    for sample, tokens_T in enumerate(tokens):
        decoder.zero_grad()
        decoder(tokens_T[None]).square().sum().backward()
        ours = {parameter_name: gradients[sample] for parameter_name, gradients in together.items()}
        alone = {parameter_name: parameter.grad for parameter_name, parameter in decoder.named_parameters()}
        torch.testing.assert_close(ours, alone, rtol=1e-4, atol=1e-4)


# Parameters


@each_encoding
def test_a_gradient_reaches_every_parameter(name):
    decoder = small_decoder(name, tie_embeddings=False, qk_norm=True)
    positions = Positions.range(decoder.max_length or 200)
    decoder(some_tokens(1, positions.length), positions).square().sum().backward()
    for parameter_name, parameter in decoder.named_parameters():
        assert parameter.grad is not None and (parameter.grad != 0).any(), parameter_name


@each_encoding
@pytest.mark.parametrize("tie_embeddings", [True, False])
def test_weights_come_back_from_a_state_dict(name, tie_embeddings):
    decoder, tokens = small_decoder(name, tie_embeddings=tie_embeddings), some_tokens(2, LENGTH)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    other = small_decoder(name, tie_embeddings=tie_embeddings)
    assert not torch.equal(other(tokens), decoder(tokens))
    other.load_state_dict(decoder.state_dict())
    assert torch.equal(other(tokens), decoder(tokens))
    assert (other.output.weight is other.embedding.weight) == tie_embeddings


def parameter_count(decoder: nn.Module) -> int:
    return sum(parameter.numel() for parameter in decoder.parameters())


@pytest.mark.parametrize(
    ("arguments", "more"),
    [
        ({}, 0),
        ({"tie_embeddings": False}, 50 * 32),
        ({"qk_norm": True}, 2 * (8 + 8)),
        ({"shared_key": 0.5}, -2 * 32 * 4),  # channels of the second head
        ({"shared_query": True}, -2 * 32 * 2 * 8),
        ({"num_kv_heads": 4}, 2 * 32 * 2 * 2 * 8),
        ({"head_dim": 16}, 2 * (2 * 32 * 4 * 8 + 32 * 2 * 2 * 8)),
        ({"mlp_ratio": 4.0}, 2 * 3 * 32 * (128 - 96)),
        ({"encoding": T5Bias}, 32 * 4),
        ({"encoding": OneTablePerLayer}, 2 * 32 * 4),
    ],
)
def test_the_parameters_are_those_counted_by_hand(arguments, more):
    sizes = {"encoding": NoPosition, "d_model": 32, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2}
    block = 32 * 4 * 8 + 32 * 2 * 2 * 8 + 4 * 8 * 32  # queries; keys and values of 2 heads; output
    block += 3 * 32 * 96  # 8/3 * 32 = 85.3, rounded up to a multiple of 32
    block += 2 * 32  # norms
    assert parameter_count(stacked(Decoder, 50, **sizes | arguments)) == 50 * 32 + 2 * block + 32 + more


def test_shared_channels_have_one_scale_in_all_heads():
    with pytest.raises(ValueError, match=r"^qk_norm.*each head its own scale"):
        small_decoder("none", shared_key=0.5, qk_norm=True)


def test_tied_embeddings_stay_one_matrix_in_another_dtype():
    tied = small_decoder("none", tie_embeddings=True).to(torch.bfloat16)
    assert tied.output.weight is tied.embedding.weight


def test_layers_that_write_to_the_residual_stream_start_smaller():
    decoder = stacked(Decoder, 300, NoPosition, d_model=256, num_layers=8, num_heads=4, tie_embeddings=False)
    smaller = (2 * 8) ** -0.5
    block = decoder.blocks[3]
    for layer, scale in [
        (block.mixer.query, 1.0),
        (block.mlp.gate_up, 1.0),
        (block.mixer.output, smaller),
        (block.mlp.output, smaller),
        (decoder.output, 1.0),
    ]:
        assert layer.weight.detach().std() == pytest.approx(scale * layer.in_features**-0.5, rel=0.02)


# Dropout


def test_dropout_acts_on_embeddings_and_residuals_only():
    decoder = small_decoder("rotary", dropout=0.5).train()
    assert [name for name, module in decoder.named_modules() if isinstance(module, nn.Dropout)] == [
        "dropout",
        "blocks.0.dropout",
        "blocks.1.dropout",
    ]
    tokens = some_tokens(8, LENGTH)
    seen = []
    decoder.blocks[0].register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    first, second = decoder(tokens), decoder(tokens)
    assert not torch.equal(first, second)
    assert float((seen[0] == 0).float().mean()) == pytest.approx(0.5, abs=0.05)
    decoder.eval()
    assert torch.equal(decoder(tokens), decoder(tokens))


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"num_heads": 5}, r"num_heads must .*, got 5"),
        ({"num_heads": 0}, "num_heads must .*, got 0"),
        ({"d_model": 0}, "d_model must .*, got 0"),
        ({"num_layers": 0}, "num_layers must .*, got 0"),
        ({"num_kv_heads": 3}, "num_kv_heads must .*, got 3"),
        ({"num_kv_heads": 0}, "num_kv_heads must .*, got 0"),
        ({"num_kv_heads": 8}, "num_kv_heads must .*, got 8"),
        ({"head_dim": 0}, "head_dim must .*, got 0"),
        ({"mlp_ratio": 0.0}, "mlp_ratio must .*, got 0.0"),
        ({"dropout": 1.0}, r"dropout must .*, got 1.0"),
        ({"dropout": -0.1}, r"dropout must .*, got -0.1"),
        ({"window": 0}, "window must .*, got 0"),
        ({"attention": "flsh"}, "attention must .*, got 'flsh'.*"),
        ({"attention": "flash", "encoding": Alibi}, "attention must not be flash, .* Alibi"),
        ({"encoding": partial(Rotary, fraction=2.0)}, r"fraction must .*, got 2.0"),
    ],
)
def test_a_mistake_is_one_sentence_that_begins_with_the_argument(arguments, sentence):
    sizes = {"encoding": NoPosition, "d_model": 32, "num_layers": 2, "num_heads": 4}
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        stacked(Decoder, 50, **sizes | arguments)


def test_heads_need_not_divide_the_width_when_their_dimension_is_given():
    decoder = stacked(Decoder, 50, Rotary, d_model=32, num_layers=1, num_heads=5, head_dim=6)
    assert decoder(some_tokens(2, LENGTH)).shape == (2, LENGTH, 50)


def test_a_decoder_ends_where_its_encoding_ends():
    decoder = small_decoder("learned")
    assert decoder.max_length == 512
    assert small_decoder("rotary").max_length is None
    cache = decoder.new_cache()
    with torch.no_grad():
        decoder(some_tokens(1, 512), cache=cache)
        with pytest.raises(ValueError, match=r"^max_length=512.*end before position 512; "):
            decoder(some_tokens(1, 1), cache=cache)


def test_an_encoding_keeps_the_start_values_that_it_has_chosen():
    class Chosen(PositionalEncoding):
        def __init__(self, d_model):
            super().__init__()
            self.linear = nn.Linear(d_model, 1)
            nn.init.constant_(self.linear.weight, 3.0)

    (instance,) = stacked(Decoder, VOCAB_SIZE, Chosen, 32, 1, 4).encodings
    assert (instance.linear.weight == 3).all()
