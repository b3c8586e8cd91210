import pytest
import rotary_embedding_torch
import torch
from torch import Tensor
from x_transformers import x_transformers

from poslab.attention import Visibility, attend
from poslab.encodings import Positions
from poslab.encodings.rotary.xpos import XPos

HEAD_DIM = 16
EVENS_THEN_ODDS = torch.cat([torch.arange(0, HEAD_DIM, 2), torch.arange(1, HEAD_DIM, 2)])


def query_and_key(num_queries: int, num_keys: int | None = None) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(1, 2, num_queries, HEAD_DIM, generator=generator)
    return query, torch.randn(1, 2, num_keys or num_queries, HEAD_DIM, generator=generator)


def positions_at(ids: Tensor) -> Positions:
    return Positions(ids, int(ids.max()) + 1)


def logits(xpos: XPos, query: Tensor, key: Tensor, query_ids: Tensor, key_ids: Tensor) -> Tensor:
    """Unscaled, of causal pairs; other pairs are 0."""
    tables = xpos.prepare(positions_at(query_ids), positions_at(key_ids))
    products = xpos.rotate_query(query, tables).float() @ xpos.rotate_key(key, tables).float().mT
    return products * (query_ids[:, None] >= key_ids)


def by_the_formula(
    query: Tensor, key: Tensor, query_ids: Tensor, key_ids: Tensor, scale_base: float = 512.0, gamma: float = 0.4
) -> Tensor:
    """The same in float64, pair of channels by pair, as complex numbers."""
    half = HEAD_DIM // 2
    query, key = (torch.complex(x[..., :half].double(), x[..., half:].double()) for x in (query, key))
    distance = (query_ids[:, None] - key_ids).double()
    total = torch.zeros(query.shape[0], query.shape[1], len(query_ids), len(key_ids), dtype=torch.float64)
    for m in range(half):
        zeta = (2 * m / HEAD_DIM + gamma) / (1 + gamma)
        turned = torch.polar(zeta ** (distance / scale_base), distance * 10_000.0 ** (-2 * m / HEAD_DIM))
        total += (query[..., m, None] * key[..., m].conj().unsqueeze(-2) * turned).real
    return total.masked_fill(distance < 0, 0.0)


def by_rotary_embedding_torch(query: Tensor, key: Tensor, base: float, scale_base: float) -> Tensor:
    theirs = rotary_embedding_torch.RotaryEmbedding(HEAD_DIM, theta=base, use_xpos=True, xpos_scale_base=scale_base)
    query, key = theirs.rotate_queries_and_keys(query, key)
    return query @ key.mT


def by_x_transformers(query: Tensor, key: Tensor, base: float, scale_base: float) -> Tensor:
    theirs = x_transformers.RotaryEmbedding(HEAD_DIM, use_xpos=True, scale_base=scale_base, base=base)
    frequencies, scale = theirs(torch.arange(query.shape[-2]))
    query = x_transformers.apply_rotary_pos_emb(query, frequencies, scale)
    return query @ x_transformers.apply_rotary_pos_emb(key, frequencies, scale**-1).mT


@pytest.mark.parametrize("theirs", [by_rotary_embedding_torch, by_x_transformers])
@pytest.mark.parametrize("base", [100.0, 10_000.0])
@pytest.mark.parametrize("scale_base", [16.0, 512.0])
def test_logits_and_gradients_are_those_of_another_implementation_with_evens_before_odds(theirs, base, scale_base):
    ids = torch.arange(64)
    inputs = [x.requires_grad_() for x in query_and_key(64)]
    ours = logits(XPos(HEAD_DIM, base, scale_base), *(x[..., EVENS_THEN_ODDS] for x in inputs), ids, ids)
    expected = theirs(*inputs, base, scale_base).tril()
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)
    weight = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1))
    gradients = [torch.autograd.grad((y * weight).sum(), inputs) for y in (ours, expected)]
    # They pass through scales of up to 12 (scale_base=16), whose rounding adds up over 64 keys.
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize(("scale_base", "gamma"), [(512.0, 0.4), (32.0, 0.4), (32.0, 1.0)])
def test_logits_are_those_of_the_formula(scale_base, gamma):
    ids = torch.arange(50)
    ours = logits(XPos(HEAD_DIM, scale_base=scale_base, gamma=gamma), *query_and_key(50), ids, ids)
    expected = by_the_formula(*query_and_key(50), ids, ids, scale_base, gamma)
    torch.testing.assert_close(ours.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("start", [1_000, 100_000, 1_000_000])
def test_a_text_at_a_far_position_has_the_very_logits_that_it_has_at_0(start):
    ids = torch.arange(64)
    xpos = XPos(HEAD_DIM)
    at_0 = logits(xpos, *query_and_key(64), ids, ids)
    assert torch.equal(logits(xpos, *query_and_key(64), ids + start, ids + start), at_0)


def test_a_step_of_decoding_behind_a_million_keys_is_exact():
    key_ids = torch.cat([torch.arange(0, 999_000, 50_000), torch.arange(999_000, 1_000_001, 100)])
    query, key = query_and_key(1, len(key_ids))
    ours = logits(XPos(HEAD_DIM), query, key, key_ids[-1:], key_ids)
    expected = by_the_formula(query, key, key_ids[-1:], key_ids)
    near = key_ids >= 999_000
    torch.testing.assert_close(ours.double()[..., near], expected[..., near], rtol=0, atol=1e-3)
    # Of the far keys, float32 knows how much is left but not the angle.
    assert ours.isfinite().all() and ours[..., ~near].abs().max() < 1e-3 * expected[..., near].abs().max()


@pytest.mark.parametrize(
    ("dtype", "span", "tolerance"),
    [(torch.float32, 32_000, 5e-3), (torch.bfloat16, 32_000, 0.1), (torch.float16, 5_600, 0.02)],
)
def test_one_pass_over_the_documented_range_is_exact(dtype, span, tolerance):
    ids = torch.arange(0, span + 1, span // 80)
    query, key = (x.to(dtype) for x in query_and_key(len(ids)))
    ours = logits(XPos(HEAD_DIM), query, key, ids, ids)
    # Float32 holds angles of 16,000 to 1e-3; bfloat16 and float16 round what has been turned.
    torch.testing.assert_close(ours.double(), by_the_formula(query, key, ids, ids), rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("length", [20_000, 65_536, 1_000_000])
@pytest.mark.parametrize("masked", [False, True])
def test_nothing_overflows_in_one_pass_over_any_length(dtype, length, masked):
    ids = torch.arange(0, length, length // 60)
    positions = positions_at(ids)
    inputs = [(4 * x).to(dtype).requires_grad_() for x in query_and_key(len(ids))]
    segments = torch.zeros(1, len(ids), dtype=torch.long) if masked else None
    visibility = Visibility(query_segments=segments, key_segments=segments)
    xpos = XPos(HEAD_DIM)
    for route in ("flash", "dense"):
        output = attend(*inputs, inputs[1], xpos, xpos.prepare(positions, positions), visibility, route)
        assert output.isfinite().all()
        assert all(g.isfinite().all() for g in torch.autograd.grad(output.float().square().mean(), inputs))


def test_a_float32_query_under_float16_autocast_fits_float16():
    ids = torch.arange(0, 60_000, 1_000)
    xpos, (query, key) = XPos(HEAD_DIM), query_and_key(60)
    tables = xpos.prepare(positions_at(ids), positions_at(ids))
    with torch.autocast("cpu", dtype=torch.float16):
        turned = xpos.rotate_query(4 * query, tables), xpos.rotate_key(4 * key, tables)
    assert all(x.half().isfinite().all() for x in turned)


@pytest.mark.parametrize("parts", [[1] * 40, [17, 1, 22]])
def test_decoding_with_a_cache_of_unrotated_keys_is_the_full_pass_over_a_long_span(parts):
    ids = torch.arange(40) * 150
    xpos, (query, key) = XPos(HEAD_DIM), query_and_key(40)

    def outputs(begin: int, end: int) -> Tensor:
        tables = xpos.prepare(positions_at(ids[begin:end]), positions_at(ids[:end]))
        return attend(query[:, :, begin:end], key[:, :, :end], key[:, :, :end], xpos, tables, Visibility())

    ends = torch.tensor(parts).cumsum(0).tolist()
    decoded = torch.cat([outputs(end - part, end) for part, end in zip(parts, ends, strict=True)], dim=2)
    # The full pass and the steps round angles of up to 6,000 differently.
    torch.testing.assert_close(decoded, outputs(0, 40), rtol=0, atol=1e-3)


def test_fast_pairs_fade_with_distance_and_slow_ones_do_not():
    half = HEAD_DIM // 2
    query_ids = torch.tensor([512])
    for pair, left in [(0, 0.4 / 1.4), (half - 1, (2 * (half - 1) / HEAD_DIM + 0.4) / 1.4)]:
        x = torch.zeros(1, 1, 1, HEAD_DIM)
        x[..., pair] = 1.0
        xpos = XPos(HEAD_DIM)
        tables = xpos.prepare(positions_at(query_ids), positions_at(torch.tensor([0])))
        turned_query, turned_key = xpos.rotate_query(x, tables), xpos.rotate_key(x, tables)
        assert float(turned_query.norm() * turned_key.norm()) == pytest.approx(left, rel=1e-5)
