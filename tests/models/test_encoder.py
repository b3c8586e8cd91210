"""An encoder sees both ways, and nothing of its padding."""

import pytest
import torch

from poslab.models import Encoder, Outputs
from poslab.models.model import pooled
from tests.encoding_choices import (
    EVERY_ENCODING,
    OF_ENCODERS,
    VOCAB_SIZE,
    described,
    quick_or_slow,
    small_decoder,
    small_model,
    some_tokens,
)

BIDIRECTIONAL = [*OF_ENCODERS, *(name for name in EVERY_ENCODING if not described(name).causal_only)]

each_encoding = pytest.mark.parametrize("name", quick_or_slow(BIDIRECTIONAL))


@each_encoding
def test_a_token_changes_what_comes_before_and_after_it(name):
    encoder, tokens = small_model(Encoder, name), some_tokens(2, 20)
    changed = tokens.clone()
    changed[:, 12] = (changed[:, 12] + 1) % VOCAB_SIZE
    with torch.no_grad():
        differs = (encoder(tokens) - encoder(changed)).abs().amax(-1)
    assert differs.min() > 1e-7


@each_encoding
@pytest.mark.parametrize("outputs", [None, Outputs(3, pooled=True), Outputs(2, pooled=False)])
def test_padding_changes_nothing(name, outputs):
    encoder, tokens = small_model(Encoder, name, outputs=outputs), some_tokens(3, 20)
    real = torch.arange(20) < torch.tensor([[20], [13], [1]])
    with torch.no_grad():
        together = encoder(tokens, real=real)
        for row, count in enumerate([20, 13, 1]):
            alone = encoder(tokens[row : row + 1, :count])
            ours = together[row : row + 1] if encoder.pooling else together[row : row + 1, :count]
            torch.testing.assert_close(ours, alone, rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", ["alibi", "t5", "shaw"])
@pytest.mark.parametrize("pooling", ["mean", "first", "last"])
def test_what_stands_for_a_text_is_that_of_its_tokens(name, pooling):
    encoder = small_model(Encoder, name, outputs=Outputs(3, pooled=True), pooling=pooling)
    tokens = some_tokens(1, 9)
    with torch.no_grad():
        hidden = encoder.hidden_states(tokens)[0]
        expected = {"mean": hidden.sum(0) / 9, "first": hidden[0], "last": hidden[8]}[pooling]
        torch.testing.assert_close(encoder(tokens)[0], encoder.output.weight @ expected)


def test_pooling_leaves_out_padding_on_either_side():
    hidden = torch.arange(12.0).reshape(1, 4, 3)
    real = torch.tensor([[False, True, True, False]])
    assert pooled(hidden, real, "mean").tolist() == [[4.5, 5.5, 6.5]]
    assert pooled(hidden, real, "first").tolist() == [[3, 4, 5]]
    assert pooled(hidden, real, "last").tolist() == [[6, 7, 8]]


def test_a_decoder_that_classifies_reads_its_last_token():
    decoder, tokens = small_decoder("rotary", outputs=Outputs(3, pooled=True)), some_tokens(2, 9)
    real = torch.tensor([[True] * 9, [True] * 5 + [False] * 4])
    with torch.no_grad():
        hidden = decoder.hidden_states(tokens, real=real)
        assert torch.equal(decoder(tokens, real=real), decoder.logits(hidden[[0, 1], [8, 4]]))
