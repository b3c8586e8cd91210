"""Models of one seed: weights that do not belong to the encoding start equal under every encoding."""

import pytest
import torch

from poslab.models import Decoder, EncoderDecoder
from tests.encoding_choices import EVERY_ENCODING, encoding, factory, small_model


def first_weights(model):
    """Initial values of the weights that do not belong to an encoding, by name."""
    return {name: value for name, value in model.state_dict().items() if "encodings" not in name.split(".")}


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("name", EVERY_ENCODING)
def test_a_decoder_starts_with_the_same_weights_under_every_encoding(name):
    assert equal(first_weights(small_model(Decoder, name)), first_weights(small_model(Decoder, "none")))


@pytest.mark.parametrize("name", ["t5", "shaw"])
def test_so_does_an_encoder_decoder_with_an_encoding_of_its_cross_attention(name):
    model = small_model(EncoderDecoder, name, cross_encoding=factory("alibi"))
    assert equal(first_weights(model), first_weights(small_model(EncoderDecoder, "none")))


def test_the_weights_of_an_encoding_follow_from_the_seed():
    tables = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        tables.append(encoding("t5").table)
    assert torch.equal(tables[0], tables[1])
    assert not torch.equal(tables[0], tables[2])


def test_layers_with_encodings_of_their_own_start_with_different_weights():
    encodings = small_model(Decoder, "shaw").encodings
    one, other = (next(encodings.layer(layer).parameters()) for layer in range(2))
    assert not torch.equal(one, other)
