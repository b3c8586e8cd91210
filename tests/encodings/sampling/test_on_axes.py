"""Samplers that move tokens on their axes: worked examples, double loops, and the code of DINOv3 and Qwen2-VL."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from transformers.models.dinov3_vit import modeling_dinov3_vit as dinov3
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VLModel
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLModel

from poslab.encodings import (
    V2PE,
    Cape,
    Centred,
    Diagonal,
    InterpolatedPositions,
    MRope,
    MRopeReset,
    Positions,
    PositionSampler,
    Randomized,
    Shifted,
)
from poslab.encodings.sampling.randomized import Pose
from tests.encoding_choices import small_decoder, some_tokens

TEXT, PICTURE, CLIP = (1, 1, 1), (1, 2, 3), (2, 3, 2)


def sequence(*rows: list[tuple[int, int, int]]) -> Positions:
    """The positions of rows of grids, padded to the longest."""
    most = max(map(len, rows))
    sizes = torch.tensor([[*row, *[(0, 0, 0)] * (most - len(row))] for row in rows])
    largest = sizes.amax((0, 1)).tolist()
    positions = Positions.grids(sizes, int(sizes.prod(-1).sum(-1).max()), largest)
    return replace(positions, places=positions.places.in_storage_order())


def coordinates(sampler: PositionSampler, positions: Positions) -> list:
    return sampler(positions, 1).places.coordinates.tolist()


ROW = [TEXT, TEXT, PICTURE, TEXT, CLIP, TEXT, TEXT]


def starts_by_loop(row: list[tuple[int, int, int]], extent) -> list[int]:
    found, start = [], 0
    for grid in row:
        found.append(start)
        start += extent(grid)
    return [*found, start]


def cells(grid: tuple[int, int, int]) -> list[tuple[int, int, int]]:
    return [(t, y, x) for t in range(grid[0]) for y in range(grid[1]) for x in range(grid[2])]


@pytest.mark.parametrize(
    ("sampler", "extent", "place"),
    [
        (MRope(), max, lambda s, c, g: [s + x for x in c]),
        (MRopeReset(), max, lambda s, c, g: [s] * 3 if g == TEXT else [s + c[0], c[1], c[2]]),
        (
            Diagonal(stride=2.0),
            lambda g: 2 * (g[0] - 1) + 1,
            lambda s, c, g: [s + 2 * c[0], *(s + 2 * c[0] + c[a] - (g[a] - 1) // 2 for a in (1, 2))],
        ),
    ],
)
def test_parts_of_a_sequence_stand_where_a_loop_over_them_puts_them(sampler, extent, place):
    other = [CLIP, TEXT, PICTURE, PICTURE]
    drawn = sampler(sequence(ROW, other), 2)
    for row, parts in enumerate((ROW, other)):
        starts = starts_by_loop(parts, extent)
        expected = [place(s, c, g) for s, g in zip(starts, parts, strict=False) for c in cells(g)]
        assert drawn.places.coordinates[row, : len(expected)].tolist() == expected
        assert drawn.places.end[row].tolist() == [starts[-1]]
        assert drawn.places.coordinates.max() < drawn.places.stop
    assert drawn.ids.tolist() == list(range(drawn.length))


def test_the_example_of_the_docstring():
    assert coordinates(MRope(), sequence([TEXT, TEXT, PICTURE, TEXT]))[0] == [
        *([s, s, s] for s in (0, 1)),
        *([2, y, x] for y in (2, 3) for x in (2, 3, 4)),
        [5, 5, 5],
    ]


@pytest.mark.parametrize(
    "sampler", [MRope(), MRopeReset(), Diagonal(), V2PE(), Centred().eval(), InterpolatedPositions([1] * 3)]
)
def test_registers_stay_without_a_place_and_move_nothing(sampler):
    positions = sequence(ROW)
    drawn, behind = sampler(positions, 1), sampler(positions.behind(2), 1)
    assert (behind.places.coordinates[:, :2] == 0).all()
    moved = behind.places.coordinates[:, 2:] - drawn.places.coordinates
    assert (moved == (2 if isinstance(sampler, V2PE) else 0)).all()


def test_patches_of_v2pe_advance_by_a_stride_and_text_by_one():
    drawn = V2PE(stride=0.25)(sequence([TEXT, TEXT, PICTURE, TEXT]), 1)
    assert drawn.ids.tolist() == [[0, 1, 1.25, 1.5, 1.75, 2, 2.25, 2.5, 3.5]]
    assert drawn.places.coordinates[0].tolist() == [[p] * 3 for p in drawn.ids[0].tolist()]
    assert not drawn.contiguous and drawn.ids.dtype == torch.float32
    assert drawn.continuation(2).ids.tolist() == [[4.5, 5.5]]
    assert drawn.continuation(1).places.coordinates.tolist() == [[[4.5] * 3]]


def test_strides_of_v2pe_do_not_add_up_to_an_error():
    long = V2PE(stride=0.1)(sequence([(1, 200, 200), TEXT]), 1).ids
    assert long[0, -1].item() == pytest.approx(0.1 * 39_999 + 1, rel=1e-6)


@pytest.mark.parametrize("sampler", [MRope(), MRopeReset(), Diagonal(), V2PE()])
def test_a_text_alone_stays_as_it_is(sampler):
    text = Positions.range(5)
    assert sampler(text, 2) is text
    among_axes = sequence([TEXT] * 5)
    assert sampler(among_axes, 1).places.coordinates.equal(among_axes.places.coordinates)


def rope_index(model: type, parts: list[tuple[int, int, int]]) -> tuple[torch.Tensor, int]:
    """Positions by transformers, and where text goes on; its grids are those before 2 x 2 patches are merged."""
    kinds = [0 if g == TEXT else 1 if g[0] == 1 else 2 for g in parts]
    types = torch.tensor([[kind for kind, g in zip(kinds, parts, strict=True) for _ in range(math.prod(g))]])
    grids = [
        torch.tensor([[g[0], 2 * g[1], 2 * g[2]] for k, g in zip(kinds, parts, strict=True) if k == n]) for n in (1, 2)
    ]
    me = SimpleNamespace(config=SimpleNamespace(vision_config=SimpleNamespace(spatial_merge_size=2)))
    me.get_vision_position_ids = lambda *given, **named: model.get_vision_position_ids(me, *given, **named)
    images, videos = (grid if len(grid) else None for grid in grids)
    ids, delta = model.get_rope_index(me, torch.zeros_like(types), types, images, videos)
    return ids[:, 0].T, int(delta) + types.shape[1]


@pytest.mark.parametrize(
    "parts",
    [
        [TEXT, TEXT, PICTURE, TEXT],
        [PICTURE, TEXT, (1, 4, 2), TEXT, TEXT, (1, 3, 3)],
        [TEXT, TEXT, PICTURE, TEXT, (2, 2, 3), TEXT, TEXT],
        [TEXT, (3, 2, 3)],
    ],
)
def test_mrope_puts_tokens_where_qwen2_vl_does_and_text_continues_there(parts):
    expected, text_at = rope_index(Qwen2VLModel, parts)
    drawn = MRope()(sequence(parts), 1)
    assert drawn.places.coordinates[0].equal(expected)
    assert drawn.continuation(2).places.coordinates.tolist() == [[[text_at] * 3, [text_at + 1] * 3]]


def test_frames_between_time_stamps_stand_where_qwen3_vl_puts_them():
    frames = [TEXT, (1, 2, 3), TEXT, (1, 2, 3), TEXT, PICTURE, TEXT]
    expected, text_at = rope_index(Qwen3VLModel, frames)
    drawn = MRope()(sequence(frames), 1)
    assert drawn.places.coordinates[0].equal(expected)
    assert drawn.continuation(1).places.coordinates[0, 0].tolist() == [text_at] * 3


def test_after_a_clip_longer_than_its_sides_text_continues_after_its_last_frame():
    """The trap of the docstring: in transformers the text of (5, 2, 2) goes on at 2, within the clip's times 0 to 4."""
    parts = [(5, 2, 2), TEXT]
    theirs, _ = rope_index(Qwen2VLModel, parts)
    assert theirs[-1].tolist() == [2, 2, 2]
    assert MRope()(sequence(parts), 1).places.coordinates[0, -1].tolist() == [5, 5, 5]


@pytest.mark.parametrize(("height", "width"), [(4, 7), (14, 14), (3, 1)])
def test_centres_of_patches_are_those_of_dinov3(height, width):
    drawn = Centred(reach=1.0).eval()(Positions.grid(height, width), 1).places.coordinates
    expected = dinov3.get_patches_center_coordinates(height, width, dtype=torch.float32, device=torch.device("cpu"))
    torch.testing.assert_close(drawn, expected, rtol=0, atol=1e-7)


def test_pictures_are_moved_in_training_as_in_dinov3():
    centres = dinov3.get_patches_center_coordinates(4, 7, dtype=torch.float32, device=torch.device("cpu"))
    for seed in range(5):
        torch.manual_seed(seed)
        expected = dinov3.augment_patches_center_coordinates(centres, shift=0.5, jitter=1.5, rescale=2.0)
        torch.manual_seed(seed)
        drawn = Centred(reach=1.0, shift=0.5, jitter=1.5, rescale=2.0)(Positions.grid(4, 7), 1)
        torch.testing.assert_close(drawn.places.coordinates, expected, rtol=0, atol=1e-6)


def test_pictures_of_several_sizes_share_a_draw_and_their_edges():
    sizes = torch.tensor([[[2, 4]], [[2, 2]]])
    torch.manual_seed(0)
    drawn = Centred(reach=1.0)(Positions.grids(sizes, 8, (2, 4)), 2).places.coordinates
    torch.testing.assert_close(drawn[1, :4, 0], drawn[0, [0, 1, 4, 5], 0])  # the same heights
    torch.testing.assert_close(drawn[0, [0, 3], 1] / drawn[1, [0, 1], 1], torch.tensor([1.5, 1.5]))  # 3/4 and 1/2


def test_positions_are_interpolated_to_the_grid_of_training_on_each_axis():
    drawn = coordinates(InterpolatedPositions([2, 3]), Positions.grid(4, 6))
    assert drawn == [[y / 2, x / 2] for y in range(4) for x in range(6)]
    assert coordinates(InterpolatedPositions([7, 5]), Positions.grid(7, 5)) == [
        [y, x] for y in range(7) for x in range(5)
    ]
    with pytest.raises(ValueError, match=r"^grid must.*height, width, got \[2, 3\]$"):
        InterpolatedPositions([2, 3])(Positions.grid(2, 2, 2), 1)


@pytest.mark.parametrize("sampler", [Cape(), Shifted(), Randomized(), Pose()])
@pytest.mark.parametrize("training", [True, False])
def test_samplers_of_the_order_in_storage_refuse_places(sampler, training):
    with pytest.raises(ValueError, match=rf"^positions must not be {type(sampler).__name__} for tokens with several"):
        sampler.train(training)(Positions.grid(2, 2), 1)


@pytest.mark.parametrize("sampler", [Centred(), InterpolatedPositions()])
def test_samplers_of_pictures_refuse_a_text(sampler):
    with pytest.raises(ValueError, match=rf"^positions must not be {type(sampler).__name__} for a text"):
        sampler(Positions.range(4), 1)


@pytest.mark.parametrize("sampler", [Centred(), InterpolatedPositions()])
def test_a_grid_is_fitted_to_a_picture_once_by_the_sampler_or_by_the_encoding(sampler):
    refused = rf"^positions must not be {type(sampler).__name__} under an encoding"
    for encoding in ("learned_grid", "learned_axes", "fourier_features", "relative_table"):
        with pytest.raises(ValueError, match=refused):
            small_decoder(encoding, positions=sampler, grid=[4, 4])
    for encoding in ("rotary_axial", "rotary_mixed", "sinusoidal_grid", "alibi_grid", "t5_axes", "swin_v2"):
        small_decoder(encoding, positions=sampler)


@pytest.mark.parametrize("sampler", [MRopeReset(), Diagonal()])
def test_samplers_that_need_an_axis_of_time_refuse_places_without_one(sampler):
    with pytest.raises(ValueError, match=r"^positions must.*got height, width$"):
        sampler(Positions.grid(2, 2), 1)


@pytest.mark.parametrize(
    ("sampler", "encoding"),
    [(MRope(), "mrope"), (MRopeReset(), "mrope_interleaved"), (Diagonal(), "videorope"), (V2PE(), "alibi")],
)
def test_decoding_after_a_picture_is_a_full_pass(sampler, encoding):
    """A picture ends the prompt: text goes on where the sampler says, which is not after the largest coordinate."""
    prompt = sequence([TEXT, TEXT, CLIP])
    whole, tokens = sequence([TEXT, TEXT, CLIP, TEXT, TEXT, TEXT]), some_tokens(2, 17)
    decoder = small_decoder(encoding, positions=sampler, head_dim=16)
    with torch.no_grad():
        expected, cache = decoder(tokens, whole), decoder.new_cache()
        parts = [decoder(tokens[:, :14], prompt, cache=cache)]
        parts += [decoder(tokens[:, i : i + 1], cache=cache) for i in range(14, 17)]
    torch.testing.assert_close(torch.cat(parts, dim=1), expected, rtol=0, atol=1e-5)
