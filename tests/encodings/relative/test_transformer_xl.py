import pytest
import torch
from transformers import XLNetConfig
from transformers.models.xlnet.modeling_xlnet import XLNetModel, XLNetRelativeAttention

from poslab.encodings import Positions
from poslab.encodings.relative.transformer_xl import TransformerXL
from tests.encodings.agreement import assert_same
from tests.encodings.relative.formula import PLACES, assert_formula, attended, ids_of, inputs, looped


def xlnet_output(xl, q, k, v, causal):
    """The core of XLNet's relative attention with our parameters, over its own sinusoids and its own shift."""
    config = XLNetConfig(
        d_model=xl.d_model, n_head=q.shape[1], n_layer=1, d_inner=4, attn_type="bi", clamp_len=xl.max_distance or -1
    )
    config.d_head = q.shape[-1]
    core = XLNetRelativeAttention(config).eval()
    core.r_w_bias, core.r_r_bias = xl.content_bias, xl.position_bias
    num_queries, num_keys = q.shape[2], k.shape[2]
    with torch.device("meta"):
        model = XLNetModel(config)
    sinusoids = model.relative_positional_encoding(num_queries, num_keys, bsz=2, device=torch.device("cpu"))
    k_head_r = torch.einsum("ibm,nmd->ibnd", sinusoids, xl.position_key)
    mask = None
    if causal:
        mask = torch.ones(num_queries, num_keys).triu(num_keys - num_queries + 1)[:, :, None, None].expand(-1, -1, 2, 1)
    heads = [x.permute(2, 0, 1, 3) for x in (q, k, v)]
    return core.rel_attn_core(*heads, k_head_r, attn_mask=mask).permute(1, 2, 0, 3)


@pytest.mark.parametrize("max_distance", [None, 4])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("num_queries", [1, 7, 20])
def test_output_and_gradients_are_those_of_xlnet(num_queries, causal, max_distance):
    xl = TransformerXL(12, 3, 4, causal, max_distance=max_distance)
    xl.content_bias.data.normal_(), xl.position_bias.data.normal_()
    q, k, v = inputs(3, num_queries, 20, 4)
    ours = attended(xl, q, k, v, Positions.range(num_queries, 20 - num_queries), Positions.range(20), causal)
    expected = xlnet_output(xl, q, k, v, causal)
    assert_same(ours, expected, [q, k, v, *xl.parameters()])


def formula(xl, q, k, v, queries, keys, causal):
    """The formula of the paper, one pair at a time, in float64."""
    q, k, v, u, w, position_key = (x.double() for x in (q, k, v, xl.content_bias, xl.position_bias, xl.position_key))
    query_ids, key_ids = ids_of(queries).double(), ids_of(keys).double()
    frequencies = xl.base ** (-torch.arange(0, xl.d_model, 2).double() / xl.d_model)

    def logit(b, i, j):
        distance = query_ids[b, i] - key_ids[b, j]
        if xl.max_distance is not None:
            distance = distance.clamp(-xl.max_distance, xl.max_distance)
        angle = distance * frequencies
        r = torch.einsum("m,hmd->hd", torch.cat([angle.sin(), angle.cos()]), position_key)
        pair = (q[b, :, i] + u) * k[b, :, j] + (q[b, :, i] + w) * r
        return pair.sum(-1) / q.shape[-1] ** 0.5

    return looped(logit, v, queries, keys, causal)


@pytest.mark.parametrize("max_distance", [None, 3])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("place", PLACES)
def test_output_and_gradients_are_those_of_the_formula_at_any_positions(place, causal, max_distance):
    torch.manual_seed(1)
    xl = TransformerXL(12, 3, 4, causal, base=100.0, max_distance=max_distance)
    xl.content_bias.data.normal_(), xl.position_bias.data.normal_()
    assert_formula(xl, formula, place, causal)


def test_positions_that_are_not_contiguous_are_as_exact_far_from_the_origin():
    xl, (q, k, v) = TransformerXL(12, 3, 4), inputs(3, 9, 9, 4)
    near, far = (Positions(torch.arange(9) * 3 + shift, shift + 25) for shift in (0, 1_000_000))
    assert torch.equal(attended(xl, q, k, v, far, far, True), attended(xl, q, k, v, near, near, True))
