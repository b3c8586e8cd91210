"""Checks of encodings that read several axes: grids of any shape and order, text after them, tokens without a place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from poslab.encodings import Positions, StackEncodings
from poslab.encodings.places import Places
from poslab.testing.routes import compare_blocks, compare_routes
from poslab.testing.subject import LENGTH, AttentionCase, Subject, assert_near, attended, decoded_in_parts, some_tokens


def check_it_serves_grids_if_it_reads_axes(subject: Subject) -> None:
    """Require that an encoding that reads axes supports grids of two axes or of three."""
    reads = any(encoding.reads_axes for encoding in subject.stack())
    assert bool(subject.grids) == reads, "it reads axes, and serves grids neither of two nor of three axes"


def check_every_axis_is_felt(subject: Subject) -> None:
    """Move a token by one cell along each axis, and require another output for it."""
    for sizes in subject.grids:
        for causal in subject.directions:
            encodings, places = subject.stack(causal), _places(Positions.grid(*sizes))
            before = attended(subject, encodings, Positions.grid(*sizes), causal)
            for axis, name in enumerate(places.axes):
                cells = places.cells.clone()
                cells[-1, axis] -= 1
                moved = replace(places, cells=cells, coordinates=cells)
                after = attended(subject, encodings, _at(moved), causal)
                for layer in _reading_axes(encodings):
                    change = (after[layer] - before[layer])[:, -1].abs().max()
                    assert change > 1e-6, f"a step along the {name} is not felt"


def check_a_relative_encoding_feels_no_shift_of_an_axis(subject: Subject) -> None:
    """Shift all coordinates on one axis by 3 and by 1,000, and allow only the rounding of angles there."""
    for sizes in subject.grids:
        for causal in subject.directions:
            encodings, places = subject.stack(causal), _places(Positions.grid(*sizes))
            at_0 = attended(subject, encodings, Positions.grid(*sizes), causal)
            for axis, name in enumerate(places.axes):
                for shift in (3, 1_000):
                    coordinates = places.cells + shift * (torch.arange(len(sizes)) == axis)
                    shifted = attended(subject, encodings, _at(places.at(coordinates)), causal)
                    for layer in _reading_axes(encodings):
                        if encodings.layer(layer).relative:
                            tolerance = 2e-6 + shift * 2.0**-25
                            assert_near(shifted[layer], at_0[layer], tolerance, f"a shift along the {name} by {shift}")


def check_the_order_in_storage_does_not_matter_in_an_encoder(subject: Subject) -> None:
    """Permute tokens and their places, and require outputs in that order."""
    if subject.directions == [True]:
        return
    order = torch.randperm(LENGTH, generator=torch.Generator().manual_seed(11))
    for sizes in subject.grids:
        encodings, positions = subject.stack(causal=False), Positions.grid(*sizes)
        stored = attended(subject, encodings, positions, False)
        permuted = _at(_places(positions).take(order))
        ours = attended(subject, encodings, permuted, False, subject.inputs[:, order])
        for layer in _reading_axes(encodings):
            assert_near(ours[layer], stored[layer][:, order], 1e-5, "tokens in another order")


def check_grids_of_several_sizes_in_a_batch_are_each_alone(subject: Subject) -> None:
    """Compare grids of two sizes, the smaller one padded, with each of them by itself."""
    for sizes in [] if subject.depends_on_length else subject.grids:
        both = torch.tensor([sizes, [sizes[0], sizes[1] - 2, *sizes[2:]]])
        counts = both.prod(-1)
        real = torch.arange(LENGTH) < counts.unsqueeze(-1)
        for causal in subject.directions:
            encodings = subject.stack(causal)
            padded = attended(subject, encodings, Positions.grids(both.unsqueeze(1), LENGTH, sizes), causal, real=real)
            for row, count in enumerate(counts.tolist()):
                inputs = subject.inputs[row : row + 1, :count]
                alone = attended(subject, encodings, Positions.grid(*both[row].tolist()), causal, inputs)
                for layer in _reading_axes(encodings):
                    ours = padded[layer][row : row + 1, :count]
                    assert_near(ours, alone[layer], 1e-5, f"grid {tuple(both[row].tolist())} in a batch against alone")


def check_decoding_after_a_grid_is_the_full_pass(subject: Subject) -> None:
    """Compare decoding of a grid and the text after it, in parts, with a full pass over both."""
    tokens = some_tokens()
    for sizes in subject.grids if subject.is_causal else []:
        decoder = subject.model()
        if subject.depends_on_length or decoder.max_length is not None:
            return
        for grid in _beginnings(sizes):
            first = grid.length
            whole = decoder(tokens, grid.followed_by(grid.continuation(LENGTH - first)))
            for parts in ([first, *[1] * (LENGTH - first)], [first, 5, LENGTH - first - 5]):
                actual = decoded_in_parts(decoder, tokens, parts, grid)
                assert_near(actual, whole, 1e-5, f"decoding after a grid, in {len(parts)} parts")


def check_routes_and_blocks_agree_on_grids(subject: Subject) -> None:
    """Compare each route, and blocks of query rows, with the dense route: on a grid, among text and padded."""
    for sizes in subject.grids:
        for causal in subject.directions:
            for case in _cases(sizes, causal):
                compare_routes(subject, case)
                compare_blocks(subject, case)


def check_tokens_without_a_place_change_no_distance(subject: Subject) -> None:
    """Put two tokens without a place before a grid: unseen, they change nothing, and seen, their order does not matter.

    Their order in storage matters to causal attention and to encodings of one axis.
    """
    inputs = torch.cat([subject.inputs[:, -2:], subject.inputs], dim=1)
    for sizes in subject.grids:
        positions = Positions.grid(*sizes)
        real = (torch.arange(LENGTH + 2) > 1).expand(len(inputs), -1)
        for causal in subject.directions:
            encodings = subject.stack(causal)
            alone = attended(subject, encodings, positions, causal)
            behind = attended(subject, encodings, positions.behind(2), causal, inputs, real)
            for layer in _reading_axes(encodings):
                assert_near(behind[layer][:, 2:], alone[layer], 1e-5, "a grid behind tokens that are not seen")
            if causal:
                continue
            order = torch.tensor([1, 0, *range(2, LENGTH + 2)])
            seen = attended(subject, encodings, positions.behind(2), causal, inputs)
            swapped = attended(subject, encodings, positions.behind(2), causal, inputs[:, order])
            for layer in _reading_axes(encodings):
                assert_near(swapped[layer], seen[layer][:, order], 1e-5, "two tokens without a place, exchanged")


def _beginnings(sizes: tuple[int, ...]) -> Iterator[Positions]:
    """Yield a small grid, and text before one, at coordinates that continue as in text."""
    small = (*[2] * (len(sizes) - 1), 3)
    yield Positions.grid(*small)
    parts = torch.tensor([[1] * len(sizes), [1] * len(sizes), small])
    length = 2 + int(parts[-1].prod())
    positions = Positions.grids(parts, length, small)
    yield replace(positions, places=_places(positions).in_storage_order())


def _cases(sizes: tuple[int, ...], causal: bool) -> Iterator[AttentionCase]:
    """Yield a grid, two grids of which one is padded, and text around a grid at its own cells and in storage order."""
    yield AttentionCase(Positions.grid(*sizes), causal)
    smaller = [sizes[0], sizes[1] - 2, *sizes[2:]]
    both = torch.tensor([[sizes], [smaller]])
    real = torch.arange(LENGTH) < both.prod(-1)
    yield AttentionCase(Positions.grids(both, LENGTH, sizes), causal, real=real)
    text = [1] * len(sizes)
    sequence = Positions.grids(torch.tensor([text, text, smaller, *[text] * LENGTH]), LENGTH, sizes)
    yield AttentionCase(sequence, causal)
    yield AttentionCase(replace(sequence, places=_places(sequence).in_storage_order()), causal, window=4)


def _reading_axes(encodings: StackEncodings) -> list[int]:
    """Return the layers whose encoding reads axes."""
    return [layer for layer in range(len(encodings.windows)) if encodings.layer(layer).reads_axes]


def _places(positions: Positions) -> Places:
    assert positions.places is not None
    return positions.places


def _at(places: Places) -> Positions:
    """Return the positions of tokens in this order of storage."""
    return replace(Positions.range(places.length), places=places)
