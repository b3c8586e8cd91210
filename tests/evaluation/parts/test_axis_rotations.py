"""Turns along each axis, against angles of a rotation that are written out."""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch

from poslab.encodings import LayerPattern, MHRoPE, Positions, Rotary, RotaryMixed, StackEncodings, StackShape
from poslab.encodings.rotary import allocations
from poslab.encodings.rotary.scalings import rope_dynamic_ntk
from poslab.encodings.sampling.places import Centred, InterpolatedPositions
from poslab.evaluation.evaluated_run import Grid
from poslab.evaluation.parts.rotary import axis_rotations, axis_table

HEAD_DIM = 32
SHAPE = StackShape(128, 2, 4, 2, HEAD_DIM, causal=False)


def stack(encoding) -> StackEncodings:
    torch.manual_seed(0)
    return StackEncodings(encoding, SHAPE)


def grids(*shapes, sampler=None) -> dict[str, Grid]:
    result = {}
    for shape in shapes:
        positions = Positions.grid(*shape)
        result[f"at {shape}"] = Grid.of(positions if sampler is None else sampler(positions, 1))
    return result


ON_TWO = ["axial", "odd_even", "alternating", "space_first"]
ON_THREE = [*ON_TWO, "sections", "interleaved_sections", "meta"]


@pytest.mark.parametrize(
    ("name", "shape"), [*((name, (3, 6)) for name in ON_TWO), *((name, (4, 3, 6)) for name in ON_THREE)]
)
def test_a_pair_turns_by_the_angle_between_the_first_and_the_last_cell(name, shape):
    rotary = partial(Rotary, base=100, allocation=getattr(allocations, name))
    encodings, result = stack(rotary), grids(shape)
    turns = axis_rotations(encodings, result).set_index(["pair", "axis"])[f"turns at {shape}"]
    (grid,) = result.values()
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


@pytest.mark.parametrize("sampler", [InterpolatedPositions(grid=[8, 8]), Centred()])
def test_positions_that_a_sampler_brings_into_a_range_are_read_where_they_are(sampler):
    encodings, result = (
        stack(partial(Rotary, base=100, allocation=allocations.axial)),
        grids((8, 8), (32, 32), sampler=sampler.eval()),
    )
    trained, larger = result.values()
    assert larger.span[0] < 1.2 * trained.span[0]
    turns = axis_rotations(encodings, result)
    assert (turns["turns at (32, 32)"] < 1.2 * turns["turns at (8, 8)"]).all()
    wavelength = turns["wavelength in cells"] * turns["turns at (8, 8)"]
    assert wavelength.tolist() == pytest.approx([7] * len(turns))


@pytest.mark.parametrize(
    "encoding", [partial(Rotary, base=100, allocation=allocations.sections), partial(RotaryMixed, axes=3)]
)
def test_on_one_axis_every_pair_reads_it(encoding):
    encodings = StackEncodings(partial(encoding, head_dim=48), replace(SHAPE, head_dim=48))
    turns, positions = axis_rotations(encodings, grids((9,))), Positions.grid(9)
    tables = encodings.layer(0).prepare(positions, positions)
    angle = torch.atan2(tables.query_sin, tables.query_cos).detach()[..., 1, :].abs().flatten()[:24]
    first = turns[turns["layers"] == turns["layers"].iloc[0]]
    assert first["turns at (9,)"].tolist()[:24] == pytest.approx((8 * angle / (2 * math.pi)).tolist(), rel=1e-4)


def test_a_rotation_by_the_order_in_storage_has_no_axes():
    assert len(axis_rotations(stack(Rotary), grids((3, 6)))) == 0
    assert Grid.of(Positions.range(5)) is None


def test_heads_that_read_one_axis_each_have_turns_along_that_axis():
    turns = axis_rotations(stack(partial(MHRoPE, base=100)), grids((4, 7)))
    assert turns.groupby("head")["axis"].unique().map(list).tolist() == [["height"], ["width"]]


def test_layers_of_different_rotations_share_a_table():
    pattern = LayerPattern([partial(Rotary, base=100, allocation=allocations.axial), partial(RotaryMixed, axes=2)])
    table = axis_table(axis_rotations(stack(pattern), grids((3, 4), (6, 8))))
    assert table.frame["layers"].unique().tolist() == ["layer 0", "layer 1"] and "head" in table.frame


@pytest.mark.parametrize("shape", [(4, 1, 6), (4, 6, 1), (4, 1, 1), (1, 4, 6)])
def test_an_axis_that_one_patch_fills_has_no_turns(shape):
    encodings = StackEncodings(partial(RotaryMixed, axes=3), replace(SHAPE, d_model=96, head_dim=24))
    turns = axis_rotations(encodings, grids(shape))
    filled = {axis for axis, size in zip(("time", "height", "width"), shape, strict=True) if size == 1}
    assert not filled & set(turns["axis"]) and len(axis_table(turns).frame)
