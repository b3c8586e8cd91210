import math

import pytest
import torch
from torch import Tensor

from poslab.encodings import Positions, Shaw
from poslab.encodings.bias.alibi import slope_exponents
from poslab.evaluation.attention.maps import attention_rows
from poslab.models import Decoder
from tests.encoding_choices import EVERY_ENCODING, VOCAB_SIZE, factory, quick_or_slow, small_decoder, some_tokens
from tests.stacked import stacked

LENGTH = 23


def decoder(name: str, **arguments) -> Decoder:
    """A small decoder all of whose parameters matter, those that begin at zero too."""
    model = small_decoder(name, **arguments)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for encoding in model.encodings:
            for parameter in encoding.parameters():
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def attended(model: Decoder, tokens: Tensor, positions: Positions | None = None) -> tuple[list[Tensor], list[Tensor]]:
    """For each layer what its attention gives before its last projection, and its values, (B, T, H, D) each."""
    outputs, values = [], []
    for block in model.blocks:
        attention = block.mixer
        attention.output.register_forward_pre_hook(
            lambda _, x, heads=attention.num_heads: outputs.append(x[0].unflatten(-1, (heads, -1)))
        )
        attention.key_value.register_forward_hook(
            lambda _, __, y, a=attention: values.append(
                y[..., y.shape[-1] // 2 :]
                .unflatten(-1, (a.num_kv_heads, -1))
                .repeat_interleave(a.num_heads // a.num_kv_heads, dim=2)
            )
        )
    with torch.no_grad():
        model(tokens, positions=positions)
    return outputs, values


def whole(model: Decoder, tokens: Tensor, rows: int = 7, positions: Positions | None = None) -> list[Tensor]:
    """The weights of each layer, (B, H, T, T), put together from blocks."""
    layers = [torch.zeros(*tokens.shape[:1], 4, LENGTH, LENGTH) for _ in model.blocks]
    inputs = tokens if positions is None else lambda model: model.hidden_states(tokens, positions)
    for layer, start, weights in attention_rows(model, inputs, rows):
        layers[layer][:, :, start : start + weights.shape[2], : weights.shape[3]] = weights
    return layers


def value_of_distance(encoding, length: int) -> Tensor:
    """The vectors that Shaw's encoding adds to the value of each key for each query, (T, T, D)."""
    table, k = encoding.value_table.detach(), encoding.max_distance
    return torch.stack([torch.stack([table[max(-k, min(k, j - i)) + k] for j in range(length)]) for i in range(length)])


@pytest.mark.parametrize("name", quick_or_slow(EVERY_ENCODING))
@pytest.mark.parametrize("where", ["contiguous", "scattered"])
def test_weights_and_values_give_what_the_attention_of_each_layer_gives(name, where):
    model, tokens = decoder(name), some_tokens(2, LENGTH)
    ids = torch.arange(LENGTH) * 3 + 1
    positions = Positions(ids, int(ids[-1]) + 1) if where == "scattered" else None
    layers = whole(model, tokens, positions=positions)
    outputs, values = attended(model, tokens, positions)
    assert len(layers) == len(outputs) == 2
    for layer, (weights, output, value) in enumerate(zip(layers, outputs, values, strict=True)):
        encoding = model.encodings.layer(layer)
        tables = encoding.prepare(*[positions or Positions.range(LENGTH)] * 2)
        averages_BHTD = weights @ encoding.rotate_value(value.transpose(1, 2), tables)
        result = encoding.rotate_output(averages_BHTD, tables).transpose(1, 2)
        if isinstance(encoding, Shaw):
            at = value_of_distance(encoding, ids[-1] + 1)
            at = at[ids[:, None], ids] if positions is not None else at[:LENGTH, :LENGTH]
            result = result + torch.einsum("bhts,tsd->bthd", weights, at)
        torch.testing.assert_close(result, output, rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", quick_or_slow(EVERY_ENCODING))
def test_rows_sum_to_one_under_a_softmax_and_to_less_under_stick_breaking(name):
    for weights in whole(decoder(name), some_tokens(2, LENGTH)):
        assert (weights >= 0).all()
        assert (weights.triu(1) == 0).all()
        totals = weights.sum(-1)
        if name == "stick_breaking":
            assert (totals[:, :, 0] == 0).all()
            assert (totals[:, :, 1:] < 1 + 1e-6).all()
            assert (totals[:, :, 1] < 0.99).all()
            assert (totals[:, :, 1:] > 0).all()
        else:
            torch.testing.assert_close(totals, torch.ones_like(totals))


@pytest.mark.parametrize("name", ["rotary", "alibi", "stick_breaking"])
def test_weights_of_the_first_layer_are_those_of_a_double_loop(name):
    model = stacked(Decoder, VOCAB_SIZE, factory(name), d_model=32, num_layers=1, num_heads=4).eval()
    tokens = some_tokens(1, LENGTH)
    (weights,) = whole(model, tokens)
    block = model.blocks[0]
    with torch.no_grad():
        x = block.mixer_norm(model.embedding(tokens))[0]
        queries = block.mixer.query(x).view(LENGTH, 4, 8).double()
        keys = block.mixer.key_value(x)[:, :32].view(LENGTH, 4, 8).double()

    def logit(h: int, i: int, j: int) -> float:
        q, k = queries[i, h], keys[j, h]
        if name == "rotary":
            turned = [complex(k[m], k[m + 4]) * complex(math.cos(a), math.sin(a)) for m, a in enumerate(angles(j - i))]
            return sum((complex(q[m], -q[m + 4]) * turned[m]).real for m in range(4)) / 8**0.5
        product = float(q @ k) / 8**0.5
        return product - 2.0 ** -slope_exponents(4)[h] * (i - j) if name == "alibi" else product

    def angles(distance: int) -> list[float]:
        return [distance * 10_000 ** (-2 * m / 8) for m in range(4)]

    for h in range(4):
        for i in range(LENGTH):
            if name == "stick_breaking":
                left, expected = 1.0, [0.0] * (i + 1)
                for j in range(i - 1, -1, -1):
                    share = 1 / (1 + math.exp(-logit(h, i, j)))
                    expected[j], left = share * left, left * (1 - share)
            else:
                powers = [math.exp(logit(h, i, j)) for j in range(i + 1)]
                expected = [power / sum(powers) for power in powers]
            assert weights[0, h, i, : i + 1].tolist() == pytest.approx(expected, abs=1e-5)


def test_a_window_hides_what_lies_further_back_in_its_layers_alone():
    model = decoder("rnope", num_layers=4, window=None)
    model.encodings.windows = [5, 5, 5, None]
    *windowed, full = whole(model, some_tokens(2, LENGTH))
    assert all((weights.tril(-5) == 0).all() for weights in windowed)
    assert all((weights.tril(-4)[..., 4:, :].sum(-1) > 0).all() for weights in windowed)
    assert (full[:, :, -1] > 0).all()


@pytest.mark.parametrize("name", ["path", "cope", "dape_v2"])
def test_the_number_of_rows_of_a_block_changes_nothing(name):
    model, tokens = decoder(name), some_tokens(2, LENGTH)
    torch.testing.assert_close(whole(model, tokens, rows=1), whole(model, tokens, rows=100), rtol=0, atol=1e-6)


def test_a_block_holds_the_keys_up_to_its_last_query_and_tells_their_distance():
    blocks = list(attention_rows(decoder("rotary"), some_tokens(2, LENGTH), rows=10))
    assert [(b.layer, b.start, tuple(b.weights.shape)) for b in blocks] == [
        (layer, start, (2, 4, stop - start, stop)) for layer in (0, 1) for start, stop in ((0, 10), (10, 20), (20, 23))
    ]
    assert blocks[1].distance[0].tolist() == [10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0, *range(-1, -10, -1)]


def test_a_model_in_bfloat16_has_weights_in_float32():
    model = decoder("t5").to(torch.bfloat16)
    (block, *_) = attention_rows(model, some_tokens(1, LENGTH))
    assert block.weights.dtype == torch.float32
    torch.testing.assert_close(block.weights.sum(-1), torch.ones(1, 4, LENGTH))


def test_gradients_stay_on_for_the_caller_and_the_model_keeps_no_hook():
    model = decoder("alibi")
    for _ in attention_rows(model, some_tokens(1, LENGTH)):
        assert torch.is_grad_enabled()
    assert not any(module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"rows": 0}, r"rows must .*got 0"),
        ({"inputs": torch.zeros(3, dtype=torch.long)}, r"tokens must .*got the shape \(3,\)"),
        ({"inputs": torch.zeros(1, 600, dtype=torch.long)}, "max_length=512.*positions end before"),
    ],
)
def test_a_mistake_is_told_at_once(arguments, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}"):
        attention_rows(small_decoder("learned"), **{"inputs": some_tokens(1, 4)} | arguments)
