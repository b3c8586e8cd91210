"""Rotary on several axes turns as the towers and decoders of transformers do, at grids that are not square.

Models whose channels or axes stand in another order are compared with the channels of queries and keys in theirs.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor
from transformers import (
    DINOv3ViTConfig,
    Gemma4VisionConfig,
    Llama4VisionConfig,
    PixtralVisionConfig,
    Qwen2VLTextConfig,
    Qwen2VLVisionConfig,
    Qwen3VLTextConfig,
)
from transformers.models.dinov3_vit import modeling_dinov3_vit as dinov3
from transformers.models.gemma4 import modeling_gemma4 as gemma4
from transformers.models.llama4 import modeling_llama4 as llama4
from transformers.models.pixtral import modeling_pixtral as pixtral
from transformers.models.qwen2_vl import modeling_qwen2_vl as qwen2_vl
from transformers.models.qwen3_vl import modeling_qwen3_vl as qwen3_vl

from poslab.encodings import Centred, MRope, Positions, Rotary
from poslab.encodings.rotary.allocations import (
    alternating,
    axial,
    axial_widths,
    interleaved_sections,
    meta,
    odd_even,
    sections,
    space_first,
)
from poslab.encodings.rotary.scalings import rope_dynamic_ntk, rope_ntk
from tests.encodings.rotary.turned import turned

HEADS, D = 2, 32
GRIDS = [(3, 7), (7, 3), (1, 20)]


def queries_and_keys(length: int, head_dim: int = D) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(1, HEADS, length, head_dim, generator=generator) for _ in range(2))


def assert_same(ours: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor], tolerance: float = 2e-6) -> None:
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=tolerance)


def cells(sizes: tuple[int, int]) -> Tensor:
    """Row and column of each patch, by a loop."""
    return torch.tensor([(y, x) for y in range(sizes[0]) for x in range(sizes[1])])


@pytest.mark.parametrize("sizes", GRIDS)
def test_axial_is_the_vision_tower_of_qwen2_vl(sizes):
    config = Qwen2VLVisionConfig(embed_dim=HEADS * D, num_heads=HEADS)
    query, key = queries_and_keys(len(cells(sizes)))
    cos, sin = qwen2_vl.Qwen2VLVisionRotaryEmbedding(config)(query, cells(sizes))
    theirs = qwen2_vl.apply_rotary_pos_emb_vision(*(x[0].transpose(0, 1) for x in (query, key)), cos, sin)
    base = config.rope_parameters["rope_theta"]
    ours = turned(Rotary(D, base, allocation=axial), Positions.grid(*sizes), query, key)
    assert_same(ours, tuple(x.transpose(0, 1)[None] for x in theirs))


@pytest.mark.parametrize("sizes", GRIDS)
def test_axial_at_centred_positions_is_dinov3(sizes):
    config = DINOv3ViTConfig(hidden_size=HEADS * D, num_attention_heads=HEADS, patch_size=4)
    query, key = queries_and_keys(len(cells(sizes)))
    picture = torch.zeros(1, 3, 4 * sizes[0], 4 * sizes[1])
    cos, sin = dinov3.DINOv3ViTRopePositionEmbedding(config).eval()(picture)
    theirs = dinov3.apply_rotary_pos_emb(query, key, cos, sin)
    positions = Centred().eval()(Positions.grid(*sizes), 1)
    assert_same(turned(Rotary(D, config.rope_theta, allocation=axial), positions, query, key), theirs)


def test_registers_of_dinov3_do_not_turn():
    config = DINOv3ViTConfig(hidden_size=HEADS * D, num_attention_heads=HEADS, patch_size=4)
    query, key = queries_and_keys(3 + 6)
    cos, sin = dinov3.DINOv3ViTRopePositionEmbedding(config).eval()(torch.zeros(1, 3, 8, 12))
    theirs = dinov3.apply_rotary_pos_emb(query, key, cos, sin)
    positions = Centred().eval()(Positions.grid(2, 3), 1).behind(3)
    assert_same(turned(Rotary(D, 100.0, allocation=axial), positions, query, key), theirs)


@pytest.mark.parametrize("sizes", GRIDS)
def test_odd_even_is_pixtral(sizes):
    config = PixtralVisionConfig(hidden_size=HEADS * D, num_attention_heads=HEADS)
    query, key = queries_and_keys(len(cells(sizes)))
    cos, sin = pixtral.PixtralVisionRotaryEmbedding(config)(query, cells(sizes))
    theirs = pixtral.apply_rotary_pos_emb(query, key, cos, sin, unsqueeze_dim=0)
    base = config.rope_parameters["rope_theta"]
    assert_same(turned(Rotary(D, base, allocation=odd_even), Positions.grid(*sizes), query, key), theirs)


@pytest.mark.parametrize("sizes", GRIDS)
def test_axial_in_blocks_is_the_vision_tower_of_gemma_4_which_has_the_width_first(sizes):
    config = Gemma4VisionConfig(hidden_size=HEADS * D, num_attention_heads=HEADS, head_dim=D)
    query, key = queries_and_keys(len(cells(sizes)))
    x_before_y = cells(sizes).flip(-1)[None]
    cos, sin = gemma4.Gemma4VisionRotaryEmbedding(config)(query, x_before_y)
    theirs = tuple(
        gemma4.apply_multidimensional_rope(x.transpose(1, 2), cos, sin, x_before_y).transpose(1, 2)
        for x in (query, key)
    )
    rotary = Rotary(D, config.rope_parameters["rope_theta"], layout="blocks", allocation=axial)
    ours = turned(rotary, Positions.grid(*sizes), *(x.roll(D // 2, -1) for x in (query, key)))
    assert_same(tuple(x.roll(D // 2, -1) for x in ours), theirs)


def test_axial_is_the_vision_tower_of_llama_4_which_has_the_width_first_and_counts_from_1():
    config = Llama4VisionConfig(hidden_size=HEADS * D, num_attention_heads=HEADS, image_size=20, patch_size=4)
    turns = llama4.Llama4VisionRotaryEmbedding(config).freqs_ci  # the class token is the last, and does not turn
    query, key = queries_and_keys(26)
    theirs = llama4.vision_apply_rotary_emb(*(x.transpose(1, 2) for x in (query, key)), turns)
    grid = Positions.grid(5, 5)
    from_1 = replace(grid, places=grid.places.at(grid.places.cells + 1)).behind(1)
    class_last = replace(from_1, places=from_1.places.take(torch.tensor([*range(1, 26), 0])))
    rotary = Rotary(D, config.rope_parameters["rope_theta"], layout="interleaved", allocation=axial)
    ours = turned(rotary, class_last, *(x.roll(D // 2, -1) for x in (query, key)))
    assert_same(tuple(x.roll(D // 2, -1) for x in ours), tuple(x.transpose(1, 2) for x in theirs))


SEQUENCE = torch.tensor([[1, 1, 1], [1, 1, 1], [1, 3, 5], [1, 1, 1], [2, 2, 4], [1, 1, 1]])
LENGTH = 35


def of_a_sequence() -> Positions:
    return MRope()(Positions.grids(SEQUENCE, LENGTH, (2, 3, 5)), 1)


@pytest.mark.parametrize(
    ("module", "model", "config", "allocation"),
    [
        (qwen2_vl, "Qwen2VLRotaryEmbedding", Qwen2VLTextConfig, partial(sections, sections=[16, 24, 24])),
        (qwen2_vl, "Qwen2VLRotaryEmbedding", Qwen2VLTextConfig, sections),
        (
            qwen3_vl,
            "Qwen3VLTextRotaryEmbedding",
            Qwen3VLTextConfig,
            partial(interleaved_sections, sections=[24, 20, 20]),
        ),
        (qwen3_vl, "Qwen3VLTextRotaryEmbedding", Qwen3VLTextConfig, interleaved_sections),
    ],
)
def test_sections_are_mrope_of_qwen_vl(module, model, config, allocation):
    rope = {"rope_type": "default", "rope_theta": 1e6}
    made = config(hidden_size=HEADS * 128, num_attention_heads=HEADS, head_dim=128, rope_parameters=rope)
    query, key = queries_and_keys(LENGTH, 128)
    positions = of_a_sequence()
    cos, sin = getattr(module, model)(made)(query, positions.places.coordinates.T.unsqueeze(1))
    theirs = module.apply_rotary_pos_emb(query, key, cos, sin)
    assert_same(turned(Rotary(128, 1e6, allocation=allocation), positions, query, key), theirs)


def by_loop(x: Tensor, coordinates: Tensor, pairs: list[tuple[int, float]]) -> Tensor:
    """Turn the pair (m, m + P) of each token by its coordinate on an axis, times a frequency, in float64."""
    out, half = x.double().clone(), len(pairs)
    for token, place in enumerate(coordinates.double()):
        for m, (axis, frequency) in enumerate(pairs):
            angle = place[axis] * frequency
            first, second = x[..., token, m].double(), x[..., token, m + half].double()
            out[..., token, m] = first * angle.cos() - second * angle.sin()
            out[..., token, m + half] = second * angle.cos() + first * angle.sin()
    return out


def theta(base: float, width: int, k: int) -> float:
    return base ** (-2 * k / width)


B = 100.0
CLIP = (2, 3, 5)


def blocks(*widths: int) -> list[tuple[int, float]]:
    """A block of pairs for each axis, with the spectrum of its own width."""
    return [(axis, theta(B, width, k)) for axis, width in enumerate(widths) for k in range(width // 2)]


@pytest.mark.parametrize(
    ("allocation", "sizes", "pairs"),
    [
        (axial, CLIP, blocks(10, 10, 10)),
        (partial(axial_widths, widths=[8, 12, 12]), CLIP, blocks(8, 12, 12)),
        (partial(axial_widths, widths=[24, 8]), (3, 7), blocks(24, 8)),
        (odd_even, CLIP, [(a, theta(B, 32, k)) for a in range(3) for k in range(a, 16, 3)]),
        (alternating, (3, 7), [(m % 2, theta(B, 32, m)) for m in range(16)]),
        (alternating, CLIP, [(m % 3, theta(B, 32, m)) for m in range(16)]),
        (space_first, CLIP, [((1, 2)[m % 2] if m < 12 else 0, theta(B, 32, m)) for m in range(16)]),
        (meta, CLIP, [((0, 0, 1, 2, 1, 2, 1, 2)[m % 8], theta(B, 32, m)) for m in range(16)]),
        (partial(sections, sections=[1, 1]), (3, 7), [(m // 8, theta(B, 32, m)) for m in range(16)]),
        (partial(axial_widths, widths=[8] * 4), (2, 2, 2, 3), blocks(8, 8, 8, 8)),
    ],
)  # fmt: skip
def test_each_allocation_turns_as_a_double_loop_over_its_formula(allocation, sizes, pairs):
    axes = [f"axis{a}" for a in range(len(sizes))]
    positions = Positions.grid(*sizes, axes=axes)
    query, key = queries_and_keys(positions.length)
    turning, places = 2 * len(pairs), positions.places.coordinates
    expected = tuple(
        torch.cat([by_loop(x[..., :turning], places, pairs), x[..., turning:]], dim=-1).float() for x in (query, key)
    )
    assert_same(turned(Rotary(D, B, allocation=allocation), positions, query, key), expected)


ONE_SPECTRUM = [alternating, sections, interleaved_sections, space_first, meta]


@pytest.mark.parametrize("layout", ["half_split", "interleaved"])
@pytest.mark.parametrize("allocation", [*ONE_SPECTRUM, axial, odd_even])
def test_a_text_turns_bit_for_bit_as_without_an_allocation(allocation, layout):
    query, key = queries_and_keys(40)
    text = Positions.range(40, 1_000)
    ours = turned(Rotary(D, layout=layout, allocation=allocation), text, query, key)
    for one, other in zip(ours, turned(Rotary(D, layout=layout), text, query, key), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("allocation", [alternating, space_first, meta, sections, interleaved_sections])
def test_a_layout_of_blocks_is_refused_where_axes_have_none_of_one_length(allocation):
    positions = Positions.grid(2, 2, 2)
    with pytest.raises(ValueError, match=r"^layout must.*of equally many"):
        Rotary(D, layout="blocks", allocation=allocation).prepare(positions, positions)


@pytest.mark.parametrize("allocation", ONE_SPECTRUM)
def test_tokens_on_the_diagonal_turn_bit_for_bit_as_those_of_a_text(allocation):
    query, key = queries_and_keys(40)
    text = torch.ones(40, 3, dtype=torch.long)
    among_axes = MRope()(Positions.grids(text, 40, (1, 1, 1)), 1)
    ours = turned(Rotary(D, allocation=allocation), among_axes, query, key)
    for one, other in zip(ours, turned(Rotary(D), Positions.range(40), query, key), strict=True):
        assert torch.equal(one, other)


def test_a_scaling_acts_on_the_spectrum_of_each_axis_and_reads_its_side():
    positions = Positions.grid(4, 16)
    scaled = Rotary(D, B, scaling=partial(rope_ntk, factor=4.0), allocation=axial)
    another_base = B * 4.0 ** (16 / 14)
    expected = turned(Rotary(D, another_base, allocation=axial), positions, *queries_and_keys(64))
    assert_same(turned(scaled, positions, *queries_and_keys(64)), expected)
    dynamic = Rotary(D, B, scaling=partial(rope_dynamic_ntk, training_length=8, factor=1.0), allocation=axial)
    tables, height = dynamic.prepare(positions, positions), Positions.grid(4, 8)
    unscaled = Rotary(D, B, allocation=axial).prepare(height, height)
    assert tables.key_cos[::16, :8].equal(unscaled.key_cos[::8, :8])  # a height of 4 is within 8, a width of 16 is not
    assert not tables.key_cos[:8, 8:].equal(unscaled.key_cos[:8, 8:])


def test_a_part_of_the_head_turns_before_it_is_shared_out():
    query, key = queries_and_keys(21)
    positions = Positions.grid(3, 7)
    half = turned(Rotary(D, fraction=0.5, allocation=axial), positions, query, key)
    whole = turned(Rotary(16, allocation=axial), positions, query[..., :16], key[..., :16])
    assert_same(tuple(x[..., :16] for x in half), whole, 0.0)
    assert_same(tuple(x[..., 16:] for x in half), (query[..., 16:], key[..., 16:]), 0.0)


@pytest.mark.parametrize("layout", ["half_split", "interleaved"])
def test_layouts_are_the_same_encoding_with_channels_in_another_order(layout):
    positions = Positions.grid(3, 7)
    query, key = queries_and_keys(21)
    channels = torch.arange(D).view(2, 2, 8)  # block, half, pair
    order = channels.transpose(0, 1).flatten() if layout == "half_split" else None
    if layout == "interleaved":
        order = channels.permute(0, 2, 1).flatten()
    blocks = turned(Rotary(D, layout="blocks", allocation=axial), positions, query, key)
    ours = turned(Rotary(D, layout=layout, allocation=axial), positions, query[..., order], key[..., order])
    assert_same(ours, tuple(x[..., order] for x in blocks), 1e-6)


@pytest.mark.parametrize(
    ("hyperparameters", "sentence"),
    [
        ({"allocation": partial(axial_widths, widths=[8, 8])}, r"widths must .*, got .*"),
        (
            {"allocation": partial(axial_widths, widths=[15, 17])},
            r"widths must .*, got .*",
        ),
        ({"allocation": partial(sections, sections=[])}, r"sections must .*, got none"),
        ({"allocation": partial(sections, sections=[1, -1])}, r"sections must .*, got \[1, -1\]"),
        (
            {"allocation": partial(interleaved_sections, sections=[1, 3, 3])},
            r"sections must .*, got \[2, 7, 7\] pairs",
        ),
        ({"allocation": partial(space_first, time_share=1.0)}, r"time_share must .*, got 1.0"),
        ({"layout": "pairs"}, r"layout must .*, got 'pairs'"),
    ],
)
def test_a_hyperparameter_out_of_its_range_is_refused(hyperparameters, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        Rotary(D, **hyperparameters)


@pytest.mark.parametrize(
    ("allocation", "sizes", "sentence"),
    [
        (sections, (2, 2), "sections must.*positions on 2 axes"),
        (partial(axial_widths, widths=[16, 16]), (2, 2, 2), "widths must.*axis, got 2 .* 3 axes"),
        (
            partial(space_first, time_share=0.01),
            (2, 2, 2),
            "time_share.*of 3 axes, got 0.01 .*",
        ),
    ],
)
def test_positions_on_a_number_of_axes_that_an_allocation_does_not_serve_are_refused(allocation, sizes, sentence):
    positions = Positions.grid(*sizes)
    with pytest.raises(ValueError, match=f"^{sentence}"):
        Rotary(D, allocation=allocation).prepare(positions, positions)


def test_a_head_too_narrow_for_the_axes_is_refused():
    positions = Positions.grid(2, 2, 2)
    with pytest.raises(ValueError, match=r"^fraction must.*3 axes, got 2 pairs$"):
        Rotary(4, allocation=axial).prepare(positions, positions)


@pytest.mark.parametrize("layout", ["half_split", "blocks"])
def test_it_compiles_into_one_graph_with_places_in_it(layout):
    rotary, query = Rotary(D, layout=layout, allocation=axial), queries_and_keys(12)[0]

    def rotate(query: Tensor, sizes: Tensor) -> Tensor:
        positions = Positions.grids(sizes, 12, (3, 4))
        return rotary.rotate_query(query, rotary.prepare(positions, positions))

    torch._dynamo.reset()
    sizes = torch.tensor([[3, 4]])
    compiled = torch.compile(rotate, fullgraph=True, backend="eager")(query, sizes)
    torch.testing.assert_close(compiled, rotate(query, sizes), rtol=0, atol=1e-6)
