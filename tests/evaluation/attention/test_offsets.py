"""Attention by offset on several axes, against a loop over all queries and keys."""

import math
from collections import defaultdict
from functools import partial

import pandas as pd
import pytest
import torch

from poslab.encodings import Positions
from poslab.evaluation.attention.offset_plots import attention_offset_plots, share_on_axis
from poslab.evaluation.attention.offsets import attention_on_grids, sums_by_offset, with_cells
from poslab.evaluation.attention.rows import attention_rows
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
    found = attention_on_grids(model, [reading_of(shape) for shape in SHAPES], rows=4)
    assert found is not None and found.axes == ("height", "width")
    for layer in range(2):
        for head in range(4):
            at, lost = weights_by_offset(model, SHAPES, layer, head, registers)
            chosen = found.by_offset[(found.by_offset["layer"] == layer) & (found.by_offset["head"] == head)]
            own = chosen.set_index(["height", "width"])
            assert set(own.index) == set(at)
            for offset, weights in at.items():
                assert own.loc[offset, "queries"] == len(weights)
                assert own.loc[offset, "attention"] == pytest.approx(sum(weights) / len(weights), abs=1e-7)
            of_head = found.by_head[(found.by_head["layer"] == layer) & (found.by_head["head"] == head)].iloc[0]
            total = sum(map(sum, at.values()))
            away = sum(math.hypot(*offset) * sum(weights) for offset, weights in at.items()) / total
            assert of_head["cells_away"] == pytest.approx(away, rel=1e-6)
            assert ("nowhere" in found.by_head) == bool(registers)
            if registers:
                assert of_head["nowhere"] == pytest.approx(sum(lost) / len(lost), rel=1e-6)


@pytest.mark.parametrize("kind", [Encoder, Decoder])
@pytest.mark.parametrize("shapes", [[(3, 5)], SHAPES])
def test_even_attention_is_as_far_away_as_is_said_of_it(kind, shapes):
    """A query of a decoder sees few cells at first, and one of a small picture sees few at all."""
    model = small_model(kind, "none", registers=0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "mixer.query" in name:
                parameter.zero_()
    found = attention_on_grids(model, [reading_of(shape) for shape in shapes], rows=4)
    assert found.by_head["cells_away"].tolist() == pytest.approx([found.cells_away_if_even] * 8, rel=1e-5)


def test_padding_is_neither_a_query_nor_a_key():
    model = small_model(Encoder, "rotary_axial", registers=1)
    padded = Positions.grids(torch.tensor([[[2, 3]], [[3, 4]]]), 12, (3, 4))
    tokens, real = some_tokens(2, 12), torch.arange(12) < torch.tensor([[6], [12]])
    together = attention_on_grids(model, [lambda model: model.hidden_states(tokens, padded, real)])
    alone = []
    for row, shape in enumerate([(2, 3), (3, 4)]):
        own, positions = tokens[row : row + 1, : math.prod(shape)], Positions.grid(*shape)
        alone.append(
            partial(lambda model, own, positions: model.hidden_states(own, positions), own=own, positions=positions)
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
    assert list(merged.columns) == ["layer", "head", "entropy", "own_token", "cells_away", "nowhere", "attended"]
    one_axis = [reading_of((7,))]
    sound = with_cells(attention_statistics(model, one_axis), attention_on_grids(model, one_axis))
    assert {"cells_away", "previous_token", "nowhere"} <= set(sound.columns) and "mean_distance" not in sound


def test_sums_by_offset_are_those_of_a_loop():
    offset = torch.randint(-2, 4, (60, 3), generator=torch.Generator().manual_seed(0))
    values = torch.rand(60, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = defaultdict(lambda: [0.0, 0.0, 0])
    for one, (first, second) in zip(offset.tolist(), values.tolist(), strict=True):
        sums = expected[tuple(one)]
        expected[tuple(one)] = [sums[0] + first, sums[1] + second, sums[2] + 1]
    found = sums_by_offset(offset, values, ("time", "height", "width"))
    assert {place: tuple(row) for place, row in zip(found.index, found.to_numpy(), strict=True)} == {
        place: pytest.approx(tuple(sums)) for place, sums in expected.items()
    }


def test_a_picture_has_maps_and_a_clip_has_lines_over_time_as_well():
    model = small_model(Encoder, "none")
    (maps,) = attention_offset_plots(attention_on_grids(model, [reading_of((3, 5))]))
    image = maps.figure.axes[0].images[0].get_array()
    assert image.shape == (5, 9) and smallest_label(maps) >= 8
    clip = attention_on_grids(model, [reading_of((4, 2, 3))])
    of_clip = {picture.name: picture for picture in attention_offset_plots(clip)}
    assert of_clip.keys() == {"attention_by_offset", "attention_by_time"}
    assert of_clip["attention_by_offset"].figure.axes[0].images[0].get_array().shape == (3, 5)
    assert all(smallest_label(picture) >= 8 for picture in of_clip.values())
    assert not list(attention_offset_plots(attention_on_grids(model, [reading_of((7,))])))


def test_the_share_of_a_frame_is_that_of_all_of_its_cells():
    """Attention that is alike for all keys gives each of 4 frames a quarter."""
    model = small_model(Encoder, "none")
    for block in model.blocks:
        torch.nn.init.zeros_(block.mixer.query.weight)
    shares = share_on_axis(attention_on_grids(model, [reading_of((4, 2, 3))]), "time")
    assert shares["attention"].tolist() == pytest.approx([0.25] * len(shares))
    assert sorted(set(shares["time"])) == list(range(-3, 4))
