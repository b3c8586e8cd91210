"""The peers do the same work as ours."""

import pytest
import torch
from layers import contestants
from ours import NOTHING, AttentionLayer, decoder
from peers import _TRANSFORMERS, _X_TRANSFORMERS, X_TRANSFORMERS, Llama, peers_of
from plan import Size

LAYER = Size(d_model=64, num_layers=1, num_heads=2, sequence_length=48, batch_size=2)
MODEL = Size(d_model=64, num_layers=2, num_heads=2, sequence_length=32, batch_size=2)
PAIRS = [(encoding, peer) for encoding in {**_X_TRANSFORMERS, **_TRANSFORMERS} for peer in peers_of(encoding)]


def name(value):
    return getattr(value, "name", value)


@pytest.mark.parametrize(("encoding", "peer"), [pair for pair in PAIRS if pair[1].attention], ids=name)
def test_attention_of_a_peer_is_causal_and_as_wide_as_ours(encoding, peer):
    layer, x_BTM = peer.attention(LAYER).eval(), torch.randn(2, 48, 64)
    other = x_BTM.clone()
    other[:, 30:] += 1
    with torch.no_grad():
        y_BTM, changed_BTM = layer(x_BTM), layer(other)
    assert y_BTM.shape == x_BTM.shape
    torch.testing.assert_close(y_BTM[:, :30], changed_BTM[:, :30])
    assert not torch.allclose(y_BTM[:, 30:], changed_BTM[:, 30:])


@pytest.mark.parametrize("encoding", ["none", "alibi"])
def test_x_transformers_gives_what_ours_gives_under_the_same_weights(encoding):
    ours = AttentionLayer(encoding, LAYER).eval()
    theirs = next(peer for peer in peers_of(encoding) if peer.name == X_TRANSFORMERS).attention(LAYER).eval()
    key, value = ours.attention.key_value.weight.chunk(2)
    with torch.no_grad():
        for own, weight in {"to_q": ours.attention.query.weight, "to_k": key, "to_v": value}.items():
            getattr(theirs.attention, own).weight.copy_(weight)
        theirs.attention.to_out.weight.copy_(ours.attention.output.weight)
        x_BTM = torch.randn(2, 48, 64)
        torch.testing.assert_close(ours(x_BTM), theirs(x_BTM), rtol=1e-4, atol=1e-5)


def test_mpt_gives_what_our_alibi_gives_under_the_same_weights():
    ours = AttentionLayer("alibi", LAYER).eval()
    theirs = next(peer for peer in peers_of("alibi") if peer.name == "MPT").attention(LAYER).eval()
    with torch.no_grad():
        weights = [ours.attention.query.weight, ours.attention.key_value.weight]
        theirs.layers[0].Wqkv.weight.copy_(torch.cat(weights))
        theirs.layers[0].out_proj.weight.copy_(ours.attention.output.weight)
        x_BTM = torch.randn(2, 48, 64)
        torch.testing.assert_close(ours(x_BTM), theirs(x_BTM), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("encoding", "peer"), PAIRS, ids=name)
def test_the_decoder_of_a_peer_is_as_large_as_ours(encoding, peer):
    ours, theirs = decoder(encoding, MODEL), peer.decoder(MODEL)
    sizes = [sum(parameter.numel() for parameter in model.parameters()) for model in (ours, theirs)]
    # DeBERTa's layers share a table of 512 vectors, of which each of ours has its own.
    shared = 512 * 64 if encoding == "deberta" else 0
    # Biases of projections are what else differs, and in XLNet a norm, and vectors of segments.
    assert sizes[1] == pytest.approx(sizes[0] - shared, rel=0.04)
    assert theirs(torch.zeros(2, 32, dtype=torch.long)).shape == (2, 32, MODEL.vocab_size)


def test_whole_decoders_have_the_parameters_of_ours_but_for_the_bias_of_x_transformers():
    size = Size()
    models = decoder("rotary", size), Llama(size), peers_of("rotary")[0].decoder(size)
    ours, llama, x_transformers = (sum(p.numel() for p in model.parameters()) for model in models)
    assert llama == ours
    assert x_transformers - ours == size.num_layers * 2 * 704


@pytest.mark.parametrize("kind", [kind for kinds in _TRANSFORMERS.values() for kind, _ in kinds], ids=name)
def test_layers_of_transformers_make_their_masks_and_biases_where_their_input_is(kind):
    y_BTM = kind(LAYER).to("meta")(torch.empty(2, 48, 64, device="meta"))
    assert y_BTM.device.type == "meta"


def test_every_peer_is_measured_beside_its_encoding_and_one_without():
    assert list(contestants("alibi")) == [NOTHING, "Poslab", "x-transformers", "BLOOM", "MPT"]
