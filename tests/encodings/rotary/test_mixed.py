"""RoPE-Mixed against its formula in float64 and its initial values; groups and decay."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from poslab.encodings import InterpolatedPositions, Positions, RotaryMixed
from poslab.runs.optimizers import parameter_groups
from tests.encoding_choices import small_decoder
from tests.encodings.agreement import assert_same, default_dtype

HEADS, GROUPS = 4, 2


def mixed(head_dim: int = 12, **arguments) -> RotaryMixed:
    torch.manual_seed(0)
    return RotaryMixed(head_dim, HEADS, GROUPS, **arguments)


def logits(encoding: RotaryMixed, q_HTD: Tensor, k_GTD: Tensor, positions: Positions) -> Tensor:
    tables = encoding.prepare(positions, positions)
    turned_q, turned_k = encoding.rotate_query(q_HTD[None], tables), encoding.rotate_key(k_GTD[None], tables)
    return (turned_q @ turned_k.repeat_interleave(HEADS // GROUPS, dim=1).mT)[0]


def queries_and_keys(encoding: RotaryMixed, length: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.randn(n, length, encoding.head_dim, generator=generator) for n in (HEADS, GROUPS))


def formula(encoding: RotaryMixed, q_HTD: Tensor, k_GTD: Tensor, cells_TA: Tensor) -> Tensor:
    """The sum over pairs of q_i conj(k_j) exp(i (p_i - p_j) . F), (H, T, T) float64."""
    groups = torch.arange(HEADS) // (HEADS // GROUPS)
    apart_TSA = (cells_TA[:, None] - cells_TA).double()
    angle_HTSP = torch.einsum("tsa,ahp->htsp", apart_TSA, encoding.frequencies[:, groups].double())
    q_HTP, k_HSP = (torch.view_as_complex(x.double().unflatten(-1, (-1, 2))) for x in (q_HTD, k_GTD[groups]))
    turned_HTSP = torch.polar(torch.ones_like(angle_HTSP), angle_HTSP)
    return torch.einsum("htp,hsp,htsp->hts", q_HTP, k_HSP.conj(), turned_HTSP).real


@pytest.mark.parametrize("sizes", [(3, 5), (5, 2), (2, 1, 3)])
def test_logits_and_gradients_are_those_of_the_formula(sizes):
    encoding, positions = mixed(axes=len(sizes)), Positions.grid(*sizes)
    sources = [x.requires_grad_() for x in queries_and_keys(encoding, positions.length)]
    ours, expected = logits(encoding, *sources, positions), formula(encoding, *sources, positions.places.cells)
    torch.testing.assert_close(ours.double(), expected, rtol=0, atol=4e-6)
    assert_same(ours, expected, [*sources, encoding.frequencies])


def test_interpolated_positions_divide_the_frequencies_of_each_axis():
    encoding, slower = mixed(), mixed()
    larger = Positions.grid(6, 15)
    q, k = queries_and_keys(encoding, larger.length)
    interpolated = logits(encoding, q, k, InterpolatedPositions([3, 5])(larger, 1))
    slower.frequencies.data /= torch.tensor([2, 3]).view(2, 1, 1)
    torch.testing.assert_close(interpolated, logits(slower, q, k, larger), rtol=0, atol=1e-5)


def test_frequencies_begin_along_orthogonal_directions_that_each_head_draws():
    """As in rope-vit: theirs are the cosine and sine of one angle a, and of a + pi / 2, at each of the magnitudes."""
    encoding = mixed(head_dim=16, base=10.0)
    along_y, along_x = encoding.frequencies.detach()
    drawn = [math.atan2(along_y[g, 0], along_x[g, 0]) for g in range(GROUPS)]
    assert abs(drawn[0] - drawn[1]) > 0.1
    for g, angle in enumerate(drawn):
        for m in range(8):
            magnitude, direction = 10.0 ** (-(m % 4) / 4), angle - (m // 4) * math.pi / 2
            expected = (magnitude * math.sin(direction), magnitude * math.cos(direction))
            assert (along_y[g, m].item(), along_x[g, m].item()) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("axes", [2, 3])
def test_on_any_number_of_axes_the_first_directions_are_a_rotation(axes):
    start = mixed(axes=axes).frequencies[:, 0].unflatten(-1, (axes, -1))[..., 0]
    torch.testing.assert_close(start @ start.mT, torch.eye(axes), rtol=0, atol=1e-6)
    assert start.det().item() == pytest.approx(1, abs=1e-6)


def test_the_same_directions_are_drawn_where_bfloat16_is_the_default_of_pytorch():
    with default_dtype(torch.bfloat16):  # in which there is no orthogonal matrix
        frequencies = mixed().frequencies
    assert frequencies.dtype == torch.float32 and torch.equal(frequencies, mixed().frequencies)


def test_training_moves_the_frequencies_without_weight_decay():
    decoder = small_decoder("rotary_mixed")
    *_, encoding = parameter_groups(decoder)
    assert {id(p) for p in encoding} == {id(p) for p in decoder.encodings.parameters()}
    assert [tuple(p.shape) for p in encoding] == [(2, 2, 4)] * 2  # axes, key-value heads and pairs, for each layer


def test_far_positions_are_as_exact_as_near_ones():
    encoding, near = mixed(), Positions.grid(3, 4)
    far = near.places.at(near.places.cells + torch.tensor([1_000_000, 7]))
    q, k = queries_and_keys(encoding, 12)
    assert torch.equal(logits(encoding, q, k, Positions(near.ids, 12, places=far)), logits(encoding, q, k, near))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"head_dim": 10}, "head_dim must .*, got 10"),
        ({"head_dim": 8, "axes": 3}, "head_dim must .*, got 8"),
        ({"axes": 1}, "axes must .*, got 1"),
        ({"base": 1.0}, "base must .*, got 1.0"),
    ],
)
def test_a_hyperparameter_out_of_its_range_is_refused(arguments, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        mixed(**arguments)


def test_positions_on_other_axes_are_refused():
    positions = Positions.grid(2, 2, 2)
    with pytest.raises(ValueError, match=r"^axes must.*positions have, got 2$"):
        mixed().prepare(positions, positions)
