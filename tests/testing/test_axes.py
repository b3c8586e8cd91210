"""`check_encoding` finds what is wrong with an encoding that reads several axes, and says what."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch

from poslab.encodings import Alibi, LayerPattern, PositionalEncoding, Rotary
from poslab.encodings.rotary.allocations import Spectra, axial, sections
from poslab.testing import CHECKS, Subject, axes


class Misplaced(Rotary):
    """Axial rotary whose coordinates are changed."""

    def __init__(self, head_dim: int) -> None:
        super().__init__(head_dim, allocation=axial)

    def prepare(self, query_positions, key_positions):
        return super().prepare(self.changed(query_positions), self.changed(key_positions))

    def changed(self, positions):
        if positions.places is None:
            return positions
        return replace(positions, places=self.misplaced(positions.places, positions))


class RefusesGrids(Misplaced):
    def misplaced(self, places, positions):
        raise ValueError("positions must be those of a text")


class FeelsAShift(Misplaced):
    def misplaced(self, places, positions):
        return places.at(places.coordinates**2)


class FeelsTheOrderInStorage(Misplaced):
    def misplaced(self, places, positions):
        return places.at(places.coordinates + positions.ids.unsqueeze(-1))


class FeelsTheLargestOfTheBatch(Misplaced):
    def misplaced(self, places, positions):
        return places.at(places.coordinates / places.sizes.amax())


class FeelsTheTextThatFollows(Misplaced):
    def misplaced(self, places, positions):
        return places.at(places.coordinates * (1 + places.grids.amax()))


class CountsWhatHasNoPlace(Misplaced):
    def misplaced(self, places, positions):
        if places.without_position is None:
            return places
        ids = torch.where(places.without_position, positions.ids, 0)
        return replace(places, coordinates=places.coordinates + ids.unsqueeze(-1))


class FeelsWhatHasNoPlace(Misplaced):
    def misplaced(self, places, positions):
        return places if places.without_position is None else places.at(2 * places.coordinates)


class IgnoresRowsOfGrids(PositionalEncoding):
    reads_axes = True

    def prepare(self, query_positions, key_positions):
        return key_positions.places

    def pair_bias(self, rows):
        start, stop, _ = rows.rows.indices(100)
        return torch.arange(stop - start).float().view(1, 1, -1, 1) * rows.tables.cells[..., rows.keys, 0]


def height_alone(pairs: int, axes: int) -> Spectra:
    return Spectra([2 * pairs] * axes, [(0, k) for k in range(pairs)])


@pytest.mark.parametrize(
    ("encoding", "check", "said"),
    [
        (RefusesGrids, "it_serves_grids_if_it_reads_axes", "serves grids.*of three axes"),
        (partial(Rotary, allocation=height_alone), "every_axis_is_felt", "a step along.*is not felt"),
        (FeelsAShift, "a_relative_encoding_feels_no_shift_of_an_axis", "a shift along.*by 3: off by"),
        (
            LayerPattern([Rotary, FeelsTheOrderInStorage]),
            "the_order_in_storage_does_not_matter_in_an_encoder",
            "tokens in.*order: off by",
        ),
        (
            FeelsTheLargestOfTheBatch,
            "grids_of_several_sizes_in_a_batch_are_each_alone",
            r"grid \(4, 3\) in.*alone: off by",
        ),
        (FeelsTheTextThatFollows, "decoding_after_a_grid_is_the_full_pass", "decoding after a grid, in 15 parts"),
        (IgnoresRowsOfGrids, "routes_and_blocks_agree_on_grids", "blocks of.*all of them"),
        (CountsWhatHasNoPlace, "tokens_without_a_place_change_no_distance", "two tokens without a place, exchanged"),
        (FeelsWhatHasNoPlace, "tokens_without_a_place_change_no_distance", "a grid behind.*are not seen"),
    ],
)
def test_what_does_not_keep_a_claim_on_axes_is_found_by_its_check(encoding, check, said):
    with pytest.raises(AssertionError, match=said):
        CHECKS[f"check_{check}"](Subject(encoding))


def test_an_encoding_is_checked_on_the_numbers_of_axes_that_it_serves_and_others_not_at_all():
    assert Subject(Alibi).grids == Subject(Rotary).grids == []
    assert Subject(partial(Rotary, allocation=axial)).grids == [(4, 5), (2, 5, 2)]
    assert Subject(partial(Rotary, allocation=sections)).grids == [(2, 5, 2)]
    for name, check in vars(axes).items():
        if name.startswith("check_"):
            check(Subject(Alibi))


def test_a_pattern_of_layers_is_held_to_the_claims_where_a_layer_reads_axes():
    for check in ("the_order_in_storage_does_not_matter_in_an_encoder", "every_axis_is_felt"):
        CHECKS[f"check_{check}"](Subject(LayerPattern([partial(Rotary, allocation=axial), Alibi])))
