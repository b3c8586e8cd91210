"""RoPE++ against its definition with complex numbers."""

import pytest
import torch

from poslab.encodings import Positions, RoPEPlusPlus
from poslab.encodings.frequencies import inverse_frequencies
from tests.encoding_choices import small_decoder, some_tokens

HEADS, DIM = 4, 8


@pytest.mark.parametrize("layout", ["half_split", "interleaved"])
@pytest.mark.parametrize("fraction", [1.0, 0.5])
def test_every_second_head_has_the_imaginary_part_of_its_neighbours_product(layout, fraction):
    encoding, turning = RoPEPlusPlus(DIM, HEADS, base=50.0, fraction=fraction, layout=layout), int(DIM * fraction)
    queries, keys = Positions(torch.tensor([3, 0, 11]), 12), Positions(torch.tensor([[5, 9], [0, 4]]), 12)
    tables = encoding.prepare(queries, keys)
    q = torch.randn(2, HEADS // 2, 3, DIM).repeat_interleave(2, dim=1)
    k = torch.randn(2, HEADS // 2, 2, DIM).repeat_interleave(2, dim=1)
    logits = encoding.rotate_query(q, tables) @ encoding.rotate_key(k, tables).mT
    theta = inverse_frequencies(turning, 50.0)
    for b, h, i, j in torch.cartesian_prod(*map(torch.arange, (2, HEADS, 3, 2))).tolist():
        pairs = []
        for x in (q[b, h, i], k[b, h, j]):
            channels = x[:turning].view(-1, 2) if layout == "interleaved" else x[:turning].view(2, -1).T
            pairs.append(torch.view_as_complex(channels.contiguous()))
        angle = theta * (queries.ids[i] - keys.ids[b, j])
        product = (pairs[0] * pairs[1].conj() * torch.polar(torch.ones_like(angle), angle)).sum()
        still = q[b, h, i, turning:] @ k[b, h, j, turning:]
        torch.testing.assert_close(logits[b, h, i, j], still + (product.imag if h % 2 else product.real))


def test_with_shared_queries_and_keys_two_heads_differ_by_their_part_alone():
    model = small_decoder("rope_pp", shared_query=True)
    attention = model.blocks[0].mixer
    assert attention.query.weight.shape == (2 * 8, 32)
    queries = attention.queries(torch.randn(2, 5, 32))
    assert torch.equal(queries[:, 0], queries[:, 1]) and not torch.equal(queries[:, 1], queries[:, 2])
    assert model(some_tokens(2, 9)).isfinite().all()


def test_an_odd_number_of_heads_is_refused():
    with pytest.raises(ValueError, match=r"^num_heads.*under RoPE\+\+, got 3$"):
        RoPEPlusPlus(DIM, 3)
    with pytest.raises(ValueError, match=r"^num_heads must.*got 3$"):
        small_decoder("none", shared_query=True, num_heads=3, num_kv_heads=3, head_dim=8)
