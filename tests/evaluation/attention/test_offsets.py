"""Attention by offset on several axes, against a loop over all queries and keys."""

import math
from collections import defaultdict
from functools import partial

import pandas as pd
import pytest
import torch

from poslab.encodings import Positions
from poslab.evaluation.attention.maps import attention_rows
from poslab.evaluation.attention.offsets import (
    attention_by_offset_plot,
    attention_on_grids,
    sums_by_offset,
    with_cells,
)
from poslab.evaluation.attention.statistics import attention_statistics
from poslab.models import Decoder, Encoder
from tests.encoding_choices import small_model, some_tokens
from tests.report.phone import smallest_label

SHAPES = [(3, 5), (2, 4)]
REGISTERS = 2


def reading_of(shape: tuple[int, ...], real: torch.Tensor | None = None):
    """A forward pass over a grid, and its positions."""
    positions = Positions.grid(*shape)
    tokens = some_tokens(1, positions.length)
    return lambda model: model.hidden_states(tokens, positions, real)


def weights_by_offset(model, shapes, layer: int, head: int, registers: int):
    """The weights at each offset, and those of the registers by query, written out."""
    at, lost = defaultdict(list), []
    for shape in shapes:
        cells = [divmod(number, shape[1]) for number in range(math.prod(shape))]
        weights = next(
            block.weights[0, head]
            for block in attention_rows(model, reading_of(shape), rows=100)
            if block.layer == layer
        )
        for i, (y, x) in enumerate(cells):
            lost.append(sum(float(weights[registers + i, j]) for j in range(registers)))
            for j, (v, u) in enumerate(cells):
                if j <= i or not model.encodings.shape.causal:
                    at[v - y, u - x].append(float(weights[registers + i, registers + j]))
    return at, lost


@pytest.mark.parametrize(
    ("kind", "name", "registers"),
    [(Encoder, "rotary_axial", REGISTERS), (Encoder, "t5", 0), (Decoder, "alibi_grid", REGISTERS)],
)
def test_attention_by_offset_is_the_mean_over_the_queries_that_have_such_a_key(kind, name, registers):
    model = small_model(kind, name, registers=registers)
    result = attention_on_grids(model, [reading_of(shape) for shape in SHAPES], rows=4)
    assert result is not None and result.axes == ("height", "width")
    for layer in range(2):
        for head in range(4):
            at, lost = weights_by_offset(model, SHAPES, layer, head, registers)
            chosen = result.by_offset[(result.by_offset["layer"] == layer) & (result.by_offset["head"] == head)]
            by_cell = chosen.set_index(["height", "width"])
            assert set(by_cell.index) == set(at)
            for offset, weights in at.items():
                assert by_cell.loc[offset, "queries"] == len(weights)
                assert by_cell.loc[offset, "attention"] == pytest.approx(sum(weights) / len(weights), abs=1e-7)
            of_head = result.by_head[(result.by_head["layer"] == layer) & (result.by_head["head"] == head)].iloc[0]
            total = sum(map(sum, at.values()))
            away = sum(math.hypot(*offset) * sum(weights) for offset, weights in at.items()) / total
            assert of_head["cells_away"] == pytest.approx(away, rel=1e-6)
            assert ("without_position" in result.by_head) == bool(registers)
            if registers:
                assert of_head["without_position"] == pytest.approx(sum(lost) / len(lost), rel=1e-6)


def test_padding_is_neither_a_query_nor_a_key():
    model = small_model(Encoder, "rotary_axial", registers=1)
    padded = Positions.grids(torch.tensor([[[2, 3]], [[3, 4]]]), 12, (3, 4))
    tokens, real = some_tokens(2, 12), torch.arange(12) < torch.tensor([[6], [12]])
    together = attention_on_grids(model, [lambda model: model.hidden_states(tokens, padded, real)])
    alone = []
    for row, shape in enumerate([(2, 3), (3, 4)]):
        row_tokens, positions = tokens[row : row + 1, : math.prod(shape)], Positions.grid(*shape)
        alone.append(
            partial(
                lambda model, row_tokens, positions: model.hidden_states(row_tokens, positions),
                row_tokens=row_tokens,
                positions=positions,
            )
        )
    apart = attention_on_grids(model, alone)
    pd.testing.assert_frame_equal(together.by_offset, apart.by_offset, rtol=1e-4)
    pd.testing.assert_frame_equal(together.by_head, apart.by_head, rtol=1e-4)


def test_nothing_is_counted_of_a_text():
    model, tokens = small_model(Encoder, "rotary"), some_tokens(1, 6)
    assert attention_on_grids(model, [lambda model: model.hidden_states(tokens)]) is None


def test_statistics_of_a_grid_have_cells_in_place_of_distances_in_storage():
    model = small_model(Encoder, "rotary_axial", registers=1)
    read = [reading_of(SHAPES[0])]
    merged = with_cells(attention_statistics(model, read), attention_on_grids(model, read))
    columns = ["layer", "head", "entropy", "own_token", "cells_away", "without_position", "attended"]
    assert list(merged.columns) == columns
    one_axis = [reading_of((7,))]
    sound = with_cells(attention_statistics(model, one_axis), attention_on_grids(model, one_axis))
    assert {"cells_away", "previous_token", "without_position"} <= set(sound.columns) and "mean_distance" not in sound


def test_sums_by_offset_are_those_of_a_loop():
    offset = torch.randint(-2, 4, (60, 3), generator=torch.Generator().manual_seed(0))
    values = torch.rand(60, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = defaultdict(lambda: [0.0, 0.0, 0])
    for item, (first, second) in zip(offset.tolist(), values.tolist(), strict=True):
        sums = expected[tuple(item)]
        expected[tuple(item)] = [sums[0] + first, sums[1] + second, sums[2] + 1]
    result = sums_by_offset(offset, values, ("time", "height", "width"))
    assert {position: tuple(row) for position, row in zip(result.index, result.to_numpy(), strict=True)} == {
        position: pytest.approx(tuple(sums)) for position, sums in expected.items()
    }


@pytest.mark.parametrize(("shape", "of_maps"), [((3, 5), (5, 9)), ((4, 2, 3), (3, 5))])
def test_maps_are_over_the_offsets_on_the_last_two_axes(shape, of_maps):
    plot = attention_by_offset_plot(attention_on_grids(small_model(Encoder, "none"), [reading_of(shape)]))
    assert plot.figure.axes[0].images[0].get_array().shape == of_maps and smallest_label(plot) >= 8
