"""Turns along each axis, against angles of a rotation that are written out."""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch

from poslab.encodings import LayerPattern, MHRoPE, Positions, Rotary, RotaryMixed, StackEncodings, StackShape
from poslab.encodings.rotary import allocations
from poslab.encodings.rotary.scalings import rope_dynamic_ntk
from poslab.encodings.sampling.centred import Centred
from poslab.encodings.sampling.interpolated import Interpolated
from poslab.evaluation.grids import Grid
from poslab.evaluation.rotary.axes import axis_figures, axis_rotations, axis_sentence
from tests.report.phone import smallest_label

HEAD_DIM = 32
SHAPE = StackShape(128, 2, 4, 2, HEAD_DIM, causal=False)


def stack(encoding) -> StackEncodings:
    torch.manual_seed(0)
    return StackEncodings(encoding, SHAPE)


def grids(*shapes, sampler=None) -> dict[str, Grid]:
    found = {}
    for shape in shapes:
        positions = Positions.grid(*shape)
        found[f"at {shape}"] = Grid.of(positions if sampler is None else sampler(positions, 1))
    return found


ON_TWO = ["axial", "odd_even", "alternating", "space_first"]
ON_THREE = [*ON_TWO, "sections", "interleaved_sections", "meta"]


@pytest.mark.parametrize(
    ("name", "shape"), [*((name, (3, 6)) for name in ON_TWO), *((name, (4, 3, 6)) for name in ON_THREE)]
)
def test_a_pair_turns_by_the_angle_between_the_first_and_the_last_cell(name, shape):
    rotary = partial(Rotary, base=100, allocation=getattr(allocations, name))
    encodings, found = stack(rotary), grids(shape)
    turns = axis_rotations(encodings, found).set_index(["pair", "axis"])[f"turns at {shape}"]
    (grid,) = found.values()
    edges = [
        Positions.grid(*(size if axis == number else 1 for number, size in enumerate(shape)))
        for axis in range(len(shape))
    ]
    for axis, positions in enumerate(edges):
        encoding = encodings.layer(0)
        tables = encoding.prepare(positions, positions)
        # The angle grows by less than a half turn from cell to cell, so its steps add up to the turns.
        angle = torch.atan2(tables.query_sin, tables.query_cos).double().flatten(0, -2)
        steps = (angle[1:] - angle[:-1] + math.pi).remainder(2 * math.pi) - math.pi
        for pair, total in enumerate(steps.sum(0).tolist()):
            assert turns.get((pair, grid.axes[axis]), 0.0) == pytest.approx(total / (2 * math.pi), abs=1e-5)


def test_learned_mixtures_turn_along_every_axis():
    encodings = stack(partial(RotaryMixed, axes=2))
    turns = axis_rotations(encodings, grids((4, 7)))
    assert len(turns) == 2 * 2 * (HEAD_DIM // 2) * 2  # layers, key-value heads, pairs, axes
    for row in turns.sample(20, random_state=0).to_dict("records"):
        frequencies = encodings.layer(int(row["layers"].split()[-1])).frequencies
        axis = ("height", "width").index(row["axis"])
        frequency = float(frequencies.detach()[axis, int(row["head"]), row["pair"]])
        assert row["turns at (4, 7)"] == pytest.approx(abs(frequency) * (3, 6)[axis] / (2 * math.pi), rel=1e-5)
        assert row["wavelength in cells"] == pytest.approx(2 * math.pi / abs(frequency), rel=1e-5)


def test_a_scaling_counts_at_the_length_of_each_grid():
    dynamic = partial(
        Rotary, base=100, allocation=allocations.axial, scaling=partial(rope_dynamic_ntk, training_length=6)
    )
    plain = partial(Rotary, base=100, allocation=allocations.axial)
    scaled, unscaled = (axis_rotations(stack(x), grids((6, 6), (24, 24))) for x in (dynamic, plain))
    assert scaled["turns at (6, 6)"].tolist() == pytest.approx(unscaled["turns at (6, 6)"].tolist())
    slowest = scaled["pair"] == 7
    assert (scaled["turns at (24, 24)"][slowest] < 0.6 * unscaled["turns at (24, 24)"][slowest]).all()


def test_what_is_true_of_both_axes_is_said_once():
    rotary = stack(partial(Rotary, base=100, allocation=allocations.axial))
    square = grids((8, 8), (32, 32))
    assert axis_sentence("a", axis_rotations(rotary, square), square) == (
        "In a, along the height and the width alike, 1 of 8 pairs of channels complete a turn from edge to edge at "
        "(8, 8) (8 cells), and 3 at (32, 32) (32 cells). Pairs that complete none in training meet new angles there."
    )
    wide = grids((2, 8))
    assert axis_sentence("a", axis_rotations(rotary, wide), wide) == (
        "In a, along the height, 0 of 8 pairs of channels complete a turn from edge to edge at (2, 8) (2 cells); along "
        "the width, 1 of 8 pairs of channels complete a turn from edge to edge at (2, 8) (8 cells)."
    )


@pytest.mark.parametrize("sampler", [Interpolated(grid=[8, 8]), Centred()])
def test_positions_that_a_sampler_brings_into_a_range_are_read_where_they_are(sampler):
    encodings, found = (
        stack(partial(Rotary, base=100, allocation=allocations.axial)),
        grids((8, 8), (32, 32), sampler=sampler.eval()),
    )
    trained, larger = found.values()
    assert larger.span[0] < 1.2 * trained.span[0]
    turns = axis_rotations(encodings, found)
    assert (turns["turns at (32, 32)"] < 1.2 * turns["turns at (8, 8)"]).all()
    wavelength = turns["wavelength in cells"] * turns["turns at (8, 8)"]
    assert "few angles are new" in axis_sentence("a", turns, found)
    assert wavelength.tolist() == pytest.approx([7] * len(turns))


@pytest.mark.parametrize(
    ("encoding", "names"),
    [
        (partial(Rotary, base=100, allocation=allocations.axial), {"rotary_cosines"}),
        (partial(RotaryMixed, axes=2), {"rotary_cosines", "rotary_directions"}),
    ],
)
def test_figures_are_those_that_say_something_of_a_rotation(encoding, names):
    encodings, found = stack(encoding), grids((4, 7), (8, 14))
    figures = {figure.name: figure for figure in axis_figures(encodings, found, axis_rotations(encodings, found))}
    assert figures.keys() == {"rotary_axes", "rotary_axis_wavelengths", *names}
    assert ("head" in figures["rotary_axes"].frame) == ("rotary_directions" in names)
    cosines = figures["rotary_cosines"].figure.axes[0].images[0].get_array()
    assert cosines.shape == (15, 27) and float(cosines[7, 13]) == pytest.approx(1)
    assert all(smallest_label(figures[name]) >= 8 for name in figures if name != "rotary_axes")


def test_heads_that_read_one_axis_each_have_a_map_each():
    encodings, found = stack(partial(MHRoPE, base=100)), grids((4, 7))
    turns = axis_rotations(encodings, found)
    assert turns.groupby("head")["axis"].unique().map(list).tolist() == [["height"], ["width"]]
    figures = {figure.name: figure for figure in axis_figures(encodings, found, turns)}
    assert len([panel for panel in figures["rotary_cosines"].figure.axes if panel.images]) == 2


def test_mixtures_of_a_single_head_have_their_directions():
    encodings, found = StackEncodings(partial(RotaryMixed, axes=2), replace(SHAPE, num_kv_heads=1)), grids((4, 7))
    figures = {figure.name: figure for figure in axis_figures(encodings, found, axis_rotations(encodings, found))}
    points = figures["rotary_directions"].figure.axes[0].collections[0].get_offsets()
    assert points.shape == (HEAD_DIM // 2, 2)


def test_layers_of_different_rotations_stand_in_one_figure():
    pattern = LayerPattern([partial(Rotary, base=100, allocation=allocations.axial), partial(RotaryMixed, axes=2)])
    encodings, found = stack(pattern), grids((3, 4))
    turns = axis_rotations(encodings, found)
    assert turns["layers"].unique().tolist() == ["layer 0", "layer 1"]
    figures = {figure.name: figure for figure in axis_figures(encodings, found, turns)}
    drawn = [panel for panel in figures["rotary_cosines"].figure.axes if panel.images]
    assert len(drawn) == 1 + 2  # all heads of the first, and the key-value heads of the second


def test_the_mean_cosine_at_an_offset_is_that_of_both_axes_together():
    encodings, found = stack(partial(Rotary, base=100, allocation=allocations.axial)), grids((4, 7))
    figures = axis_figures(encodings, found, axis_rotations(encodings, found))
    cosines = figures[-1].figure.axes[0].images[0].get_array()
    theta = [100 ** (-k / 8) for k in range(8)]
    for y, x in ((1, 0), (0, 2), (-2, 5)):
        expected = sum(math.cos(y * t) + math.cos(x * t) for t in theta) / 16
        assert float(cosines[3 + y, 6 + x]) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    "encoding", [partial(Rotary, base=100, allocation=allocations.sections), partial(RotaryMixed, axes=3)]
)
def test_on_one_axis_every_pair_reads_it(encoding):
    encoding_of_head, found = partial(encoding, head_dim=48), grids((9,))
    encodings = StackEncodings(encoding_of_head, replace(SHAPE, head_dim=48))
    turns, positions = axis_rotations(encodings, found), Positions.grid(9)
    tables = encodings.layer(0).prepare(positions, positions)
    angle = torch.atan2(tables.query_sin, tables.query_cos).detach()[..., 1, :].abs().flatten()[:24]
    own = turns[turns["layers"] == turns["layers"].iloc[0]]
    assert own["turns at (9,)"].tolist()[:24] == pytest.approx((8 * angle / (2 * math.pi)).tolist(), rel=1e-4)
    assert [figure.name for figure in axis_figures(encodings, found, turns)] == [
        "rotary_axes",
        "rotary_axis_wavelengths",
    ]


def test_a_clip_has_its_three_axes():
    for encoding in (partial(Rotary, base=100, allocation=allocations.axial), partial(RotaryMixed, axes=3)):
        encodings = StackEncodings(encoding, replace(SHAPE, head_dim=48))
        found = grids((4, 3, 6), (8, 3, 6))
        turns = axis_rotations(encodings, found)
        figures = {figure.name: figure for figure in axis_figures(encodings, found, turns)}
        assert figures["rotary_cosines"].figure.axes[0].images[0].get_array().shape == (5, 11)
        sentence = axis_sentence("a", turns, found)
        assert "along the time, " in sentence and sentence.endswith("meet new angles there along the time.")
        assert sentence.count("at (8, 3, 6)") == 1


def test_a_rotation_by_the_order_in_storage_has_no_axes():
    assert len(axis_rotations(stack(Rotary), grids((3, 6)))) == 0
    assert Grid.of(Positions.range(5)) is None


@pytest.mark.parametrize("shape", [(4, 1, 6), (4, 6, 1), (4, 1, 1), (1, 4, 6)])
def test_an_axis_that_one_patch_fills_is_drawn_without_turns(shape):
    encodings = StackEncodings(partial(RotaryMixed, axes=3), replace(SHAPE, d_model=96, head_dim=24))
    found = grids(shape)
    names = [figure.name for figure in axis_figures(encodings, found, axis_rotations(encodings, found))]
    assert names[:2] == ["rotary_axes", "rotary_axis_wavelengths"] and names[-1] == "rotary_cosines"
