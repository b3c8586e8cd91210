"""An encoder-decoder asks its source, and writes what it would have written at once."""

from functools import partial

import pytest
import torch
from torch import Tensor

from poslab.encodings import CoPE, Forgetting, HeadScale, LayerPattern, LayerSpec, Rotary, Sinusoidal
from poslab.models import EncoderDecoder
from tests.encoding_choices import (
    EVERY_ENCODING,
    VOCAB_SIZE,
    described,
    factory,
    quick_or_slow,
    small_model,
    some_tokens,
    stack,
)

BIDIRECTIONAL = [name for name in EVERY_ENCODING if not described(name).causal_only]
CROSSING = [
    name
    for name in BIDIRECTIONAL
    if not {"embed", "state"} & {hook for one in stack(name) for hook in one.hooks} and not any(stack(name).windows)
]


small = partial(small_model, EncoderDecoder)


def written(model: EncoderDecoder, source: Tensor, target: Tensor, real: Tensor | None = None) -> Tensor:
    """The logits of all targets, token by token."""
    writing = model.begin(source, real)
    return torch.stack([writing.next_logits(target[:, place : place + 1]) for place in range(target.shape[1])], dim=1)


@pytest.mark.parametrize("name", quick_or_slow(BIDIRECTIONAL))
def test_token_by_token_it_gives_the_logits_of_the_full_pass(name):
    model, source, target = small(name), some_tokens(2, 13), some_tokens(2, 7)
    real = torch.arange(13) < torch.tensor([[13], [9]])
    with torch.no_grad():
        torch.testing.assert_close(written(model, source, target, real), model(source, target, real), rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", CROSSING)
def test_with_an_encoding_between_source_and_target_too(name):
    model, source, target = small("rotary", cross_encoding=factory(name)), some_tokens(2, 13), some_tokens(2, 17)
    real = torch.arange(13) < torch.tensor([[13], [9]])
    with torch.no_grad():
        whole = model(source, target, real)
        torch.testing.assert_close(written(model, source, target, real), whole, rtol=0, atol=1e-5)
        for row, count in enumerate([13, 9]):
            alone = model(source[row : row + 1, :count], target[row : row + 1])
            torch.testing.assert_close(whole[row : row + 1], alone, rtol=0, atol=2e-5)


def test_padding_of_either_side_changes_nothing():
    model, source, target = small("t5"), some_tokens(2, 13), some_tokens(2, 7)
    real_source = torch.arange(13) < torch.tensor([[13], [4]])
    with torch.no_grad():
        together = model(source, target, real_source)
        torch.testing.assert_close(together[1:], model(source[1:, :4], target[1:]), rtol=0, atol=1e-5)
        torch.testing.assert_close(together[:, :5], model(source, target[:, :5], real_source), rtol=0, atol=1e-5)


def test_every_token_of_the_source_is_asked_and_no_later_one_of_the_target():
    model, source, target = small("rotary"), some_tokens(1, 13), some_tokens(1, 7)
    with torch.no_grad():
        logits = model(source, target)
        for place in range(13):
            other = source.clone()
            other[0, place] = (other[0, place] + 1) % VOCAB_SIZE
            assert (model(other, target) - logits).abs().amax(-1).min() > 1e-7
        other = target.clone()
        other[0, 4] = (other[0, 4] + 1) % VOCAB_SIZE
        assert torch.equal(model(source, other)[:, :4], logits[:, :4])


def test_the_memory_knows_no_positions_unless_it_is_told_to():
    source, target = some_tokens(1, 13), some_tokens(1, 7)
    shuffled = source[:, torch.randperm(13, generator=torch.Generator().manual_seed(0))]
    with torch.no_grad():
        plain = small("none")
        torch.testing.assert_close(plain(shuffled, target), plain(source, target), rtol=0, atol=1e-5)
        told = small("none", cross_encoding=Rotary)
        assert (told(shuffled, target) - told(source, target)).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Sinusoidal, "is mixed into embeddings"),
        (CoPE, "is causal"),
        (Forgetting, "has a state of each token"),
        (LayerPattern([LayerSpec(Rotary, chunk=4), Rotary]), "^cross_encoding.*not have chunks: "),
        (LayerPattern([LayerSpec(Rotary, window=4)]), "^cross_encoding.*not have windows: "),
        (
            LayerPattern([LayerSpec(Rotary, chunk=4, temperature=HeadScale)]),
            "^cross_encoding.*chunks and temperat",
        ),
    ],
)
def test_what_does_not_serve_two_sequences_is_refused_between_them(kind, reason):
    with pytest.raises(ValueError, match=reason):
        small("rotary", cross_encoding=kind)


def test_embeddings_are_shared_and_a_gradient_reaches_every_parameter():
    model = small("t5", cross_encoding=factory("t5"))
    assert model.output.weight is model.encoder.embedding.weight is model.decoder.embedding.weight
    model(some_tokens(2, 13), some_tokens(2, 7)).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_rows_of_a_writing_can_be_chosen_again():
    model, source, target = small("rotary"), some_tokens(3, 13), some_tokens(3, 7)
    rows = torch.tensor([2, 0, 0])
    with torch.no_grad():
        writing = model.begin(source)
        writing.next_logits(target[:, :4])
        writing.select(rows)
        torch.testing.assert_close(
            writing.next_logits(target[rows, 4:5]), model(source[rows], target[rows, :5])[:, -1], rtol=0, atol=1e-5
        )
