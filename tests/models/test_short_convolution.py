"""Canon layers against PyTorch's convolution and, one number at a time, the formula."""

import pytest
import torch
from torch import nn

from poslab.attention import AttentionContext, Visibility
from poslab.encodings import LayerPattern, LayerSpec, NoPosition, Positions, Rotary
from poslab.models import Decoder, Encoder
from poslab.models.blocks import WIDTH, ShortConvolution
from tests.attention.scenarios import LEFT_PADDED, LENGTH, SEGMENTS
from tests.encodings.agreement import assert_same
from tests.stacked import stacked

M = 5


def convolution():
    made = ShortConvolution(M, "A")
    nn.init.normal_(made.weight, generator=torch.Generator().manual_seed(0))
    return made


def context(positions, real=None):
    return AttentionContext(NoPosition(), None, positions, Visibility(real_keys=real))


def inputs():
    return torch.randn(2, LENGTH, M, generator=torch.Generator().manual_seed(1)).requires_grad_()


def test_it_is_a_depthwise_convolution_of_pytorch_and_the_input():
    ours, x = convolution(), inputs()
    expected = (
        x + nn.functional.conv1d(nn.functional.pad(x.mT, (WIDTH - 1, 0)), ours.weight.flip(0).T[:, None], groups=M).mT
    )
    assert_same(ours(x, context(Positions.range(LENGTH))), expected, [x, ours.weight])


@pytest.mark.parametrize("kind", ["packed", "padded"])
def test_other_documents_and_padding_count_as_zero(kind):
    ours, x = convolution(), inputs()
    positions, real = Positions.packed(SEGMENTS), None
    if kind == "padded":
        positions, real = Positions.padded(LEFT_PADDED), LEFT_PADDED
    rows = []
    for b in range(2):
        for t in range(LENGTH):
            y = x[b, t]
            for lag in range(min(WIDTH, t + 1)):
                counts = SEGMENTS[b, t] == SEGMENTS[b, t - lag] if real is None else real[b, t - lag]
                y = y + ours.weight[lag] * x[b, t - lag] * counts
            rows.append(y)
    seen = torch.ones(2, LENGTH, 1) if real is None else real[..., None]
    assert_same(ours(x, context(positions, real)) * seen, torch.stack(rows).view_as(x) * seen, [x, ours.weight])


def decoder(canon="AC", encoding=NoPosition):
    torch.manual_seed(0)
    made = stacked(Decoder, 11, encoding, 32, 2, 4, canon=canon).eval()
    for module in made.modules():
        if isinstance(module, ShortConvolution):
            nn.init.normal_(module.weight, std=0.3)
    return made


@pytest.mark.parametrize("parts", [[7, 1, 1, 21], [1] * 6 + [24], [2, 28]])
def test_a_decoder_reads_with_a_cache_what_it_reads_at_once(parts):
    model, tokens = (
        decoder(encoding=LayerPattern([LayerSpec(Rotary, chunk=9), NoPosition])),
        torch.arange(60).view(2, 30) % 11,
    )
    cache = model.new_cache()
    with torch.no_grad():
        in_parts = [model(part, cache=cache) for part in tokens.split(parts, dim=1)]
        torch.testing.assert_close(torch.cat(in_parts, dim=1), model(tokens), rtol=1e-4, atol=1e-5)


def test_a_beam_search_selects_the_last_inputs_too():
    model, tokens = decoder(), torch.arange(24).view(2, 12) * 5 % 11
    cache, rows = model.new_cache(), torch.tensor([1, 0, 1])
    with torch.no_grad():
        model(tokens[:, :8], cache=cache)
        cache.select(rows)
        torch.testing.assert_close(model(tokens[rows, 8:], cache=cache), model(tokens)[rows, 8:], rtol=1e-4, atol=1e-5)


def test_without_position_it_tells_orders_apart_in_one_layer():
    def last(canon, tokens):
        torch.manual_seed(0)
        model = stacked(Decoder, 11, NoPosition, 32, 1, 4, canon=canon)
        if canon:
            nn.init.normal_(model.blocks[0].mixer_canon.weight)
        return model(torch.tensor([tokens]))[0, -1]

    swapped = ([1, 2, 3], [2, 1, 3])
    torch.testing.assert_close(*(last(None, tokens) for tokens in swapped))
    assert (last("A", swapped[0]) - last("A", swapped[1])).abs().max() > 1e-3


def test_it_begins_by_changing_nothing_and_learns():
    tokens = torch.arange(12)[None] % 11
    models = []
    for canon in (None, "AC"):
        torch.manual_seed(0)
        models.append(stacked(Decoder, 11, Rotary, 32, 2, 4, canon=canon))
    plain, model = models
    assert torch.equal(plain(tokens), model(tokens))
    model(tokens).square().sum().backward()
    weights = [module.weight for module in model.modules() if isinstance(module, ShortConvolution)]
    assert len(weights) == 4 and all(weight.grad.abs().max() > 0 for weight in weights)


def test_an_encoder_has_none():
    with pytest.raises(ValueError, match=r"^canon must.*not causal, got A$"):
        stacked(Encoder, 11, Rotary, 32, 2, 4, canon="A")
