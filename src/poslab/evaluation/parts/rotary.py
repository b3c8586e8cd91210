"""Wavelengths of a rotary encoding, along each axis of images; for texts also the bound on its base.

Dimension letters: P pairs of channels, L tokens of a text, A axes, H heads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike
from torch import Tensor

from poslab.encodings import PositionalEncoding, StackEncodings
from poslab.evaluation.base_bound import bound_by_length, draw_lengths, sums_plot
from poslab.evaluation.evaluated_run import Ability, EvaluatedRun, Grid
from poslab.evaluation.evaluation import Evaluation, lengths_of, remark_on_positions, titled
from poslab.evaluation.learned_bias import served
from poslab.evaluation.settings import Settings
from poslab.pretrained.inspection.spectrum import Floats
from poslab.report.figures import COLOURS, WIDTH, Plot, ReportFigure, Section, Table, new_figure

ORDER = 6
NEEDS: frozenset[Ability] = frozenset({"rotation"})

SOURCE = "Peng et al., YaRN: Efficient Context Window Extension of Large Language Models (2023), section 3.2"

MAX_SEARCHED = 32_768
"""Longest length for which the smallest base is searched: two seconds at head_dim 128; four times as large is ten."""

TEXT = "The speed at which each pair of channels rotates, and whether the base is large enough for the lengths."


def make(runs: Sequence[EvaluatedRun], settings: Settings) -> Evaluation:
    """Return the section for the first encoding of each model that rotates queries and keys, or all that read axes."""
    figures: list[ReportFigure] = []
    for run in runs:
        if not run.abilities >= NEEDS:
            continue
        grids: dict[str, Grid] = {}
        if run.grid is not None:  # the grid of training first
            lengths = sorted(settings.lengths or run.data.lengths_of(run.split))
            lengths = [run.trained_lengths[-1], *(length for length in lengths if length > run.data.longest_trained)]
            at = {run.at_length(length): run.grid_at(length) for length in lengths}
            grids = {name: grid for name, grid in at.items() if grid is not None}
        turns = axis_rotations(run.model.encodings, grids) if grids else pd.DataFrame()
        rotary = next((x for x in run.model.encodings if x.spectrum(run.training_length) is not None), None)
        if len(turns):
            figures += titled(run, runs, [axis_table(turns)])
        elif rotary is not None:
            head_dim, lengths = run.model.encodings.shape.head_dim, lengths_of(runs, settings)
            figures += titled(run, runs, rotary_diagnostics(rotary, head_dim, run.training_length, lengths))
    if not figures:
        return Evaluation(left_out={"rotary": "no encoding rotates pairs of channels"})
    return Evaluation([Section("Rotary diagnostics", TEXT + remark_on_positions(runs), figures)])


def rotary_diagnostics(
    encoding: PositionalEncoding, head_dim: int, training_length: int, lengths: Sequence[int]
) -> list[ReportFigure]:
    """Return figures of the wavelengths of an encoding that rotates queries and keys, and of the bound on its base.

    The bound assumes a pure rotation (`is_pure_rotation`). xPos fades as well, and in PoPE no product of channels is
    negative where phases agree, so both have wavelengths only. A pair of channels that does not rotate adds to the sum
    of cosines with frequency 0.

    Args:
        encoding: one that `spectrum_of` accepts.
        head_dim: channels D of a head, including those that do not rotate.
        training_length: tokens of a text in training.
        lengths: test lengths in tokens.

    Returns:
        `rotary_turns` and `rotary_wavelengths`; for a pure rotation also `rotary_base_bound` and
        `rotary_sum_of_cosines` (in a text of the longest length, if a scaling depends on it).

    Raises:
        ValueError: for an encoding that does not rotate queries and keys, a head_dim below the number of channels that
            rotate, or a length below 1.
    """
    figures: list[ReportFigure] = [
        wavelengths(encoding, training_length, lengths),
        wavelengths_plot(encoding, training_length, lengths),
    ]
    if not encoding.is_pure_rotation:
        return figures
    spectra = {}
    for length in sorted({training_length, *lengths}):
        spectrum = spectrum_of(encoding, length)
        still = head_dim // 2 - len(spectrum)  # pairs that do not rotate; an odd last channel does not count
        if still < 0:
            raise ValueError(f"head_dim must be at least the {2 * len(spectrum)} channels that rotate, got {head_dim}")
        spectra[length] = np.concatenate([spectrum, np.zeros(still)])
    figures += [bound_by_length(spectra, MAX_SEARCHED), sums_plot(spectra[length], training_length, lengths)]
    return figures


def wavelengths(encoding: PositionalEncoding | ArrayLike, training_length: int, lengths: Sequence[int]) -> Table:
    """Return the wavelength of each pair of channels, and its number of turns in texts of each length, in tokens.

        wavelength = 2 pi / theta,    turns in L tokens = theta L / 2 pi

    Under a scaling that depends on the length, frequency and wavelength are at the training length, and the turns at
    each length in a text of that length. Errors are as of `spectrum_of`.
    """
    spectrum = spectrum_of(encoding, training_length)
    turns = _turns(spectrum, training_length)
    columns = {
        "pair": np.arange(len(spectrum)),
        "frequency": spectrum,
        "wavelength in tokens": _wavelengths(spectrum),
        f"turns in {training_length} tokens": turns,
        "never completes a turn in training": turns < 1,
    }
    for length in sorted(set(lengths) - {training_length}):
        columns[f"turns in {length} tokens"] = _turns(spectrum_of(encoding, length), length)
    return Table(
        name="rotary_turns",
        title="Turns of the rotary frequencies",
        caption="Each row is a pair of channels that rotates with position. A pair that completes a turn within the "
        f"{training_length:,} tokens of training has met all of its angles there, and any other meets new ones in "
        "longer texts. A pair of infinite wavelength encodes no position.",
        source=SOURCE,
        frame=pd.DataFrame(columns),
    )


def wavelengths_plot(encoding: PositionalEncoding | ArrayLike, training_length: int, lengths: Sequence[int]) -> Plot:
    """Draw the wavelength of each pair of channels, with the training and test lengths as lines.

    Under a scaling that depends on the length, points are at the training length and a curve is at the longest one.
    Arguments and errors are as in `wavelengths`.
    """
    spectrum = spectrum_of(encoding, training_length)
    turns, pairs = _turns(spectrum, training_length), np.arange(len(spectrum))
    figure = new_figure(WIDTH, 4.5)
    axes = figure.add_subplot()
    axes.set_yscale("log")
    for colour, label, chosen in (
        (COLOURS[0], "completes a turn in training", turns >= 1),
        (COLOURS[1], "never completes a turn in training", (turns < 1) & (turns > 0)),
    ):
        if chosen.any():
            counted = f"{label} ({chosen.sum()} of {len(spectrum)})"
            axes.scatter(pairs[chosen], _wavelengths(spectrum[chosen]), s=22, color=colour, label=counted, zorder=3)
    if not turns.all():
        axes.plot([], [], " ", label=f"no wavelength ({(turns == 0).sum()} of {len(spectrum)})")
    longest = max([training_length, *lengths])
    at_longest = spectrum_of(encoding, longest)
    if not np.array_equal(at_longest, spectrum):
        axes.plot(pairs, _wavelengths(at_longest), color=COLOURS[2], zorder=2, label=f"in {longest:,} tokens")
    draw_lengths(axes.axhline, axes.secondary_yaxis("right").yaxis, training_length, lengths)
    axes.set(xlabel="pair of channels", ylabel="wavelength (tokens)", xlim=(-0.5, len(spectrum) - 0.5))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.legend(loc="upper left", fontsize="small")
    return Plot(
        name="rotary_wavelengths",
        title="Wavelengths of the rotary frequencies",
        caption="Each point is a pair of channels at the number of tokens of a full turn. Pairs above the line of the "
        f"training length of {training_length:,} tokens did not meet all of their angles in training, and meet new "
        "ones in longer texts.",
        source=SOURCE,
        figure=figure,
    )


def spectrum_of(encoding: PositionalEncoding | ArrayLike, length: int) -> Floats:
    """Return the inverse frequencies by which queries and keys rotate, in radians per token, (P,) float64.

    They are of an encoding (its `spectrum`), or given themselves. Some scalings depend on the length of the text.
    ValueError for an encoding that does not rotate queries and keys, frequencies that are negative or none, or a length
    below 1.
    """
    if not length >= 1:
        raise ValueError(f"length must be at least 1, got {length}")
    frequencies = encoding.spectrum(length) if isinstance(encoding, PositionalEncoding) else encoding
    if frequencies is None:
        name = type(encoding).__name__
        raise ValueError(f"encoding must rotate queries and keys, as rotary, xPos and PoPE do, got {name}")
    if isinstance(frequencies, Tensor):
        frequencies = frequencies.detach().cpu().numpy()
    spectrum = np.asarray(frequencies, dtype=np.float64)
    if spectrum.ndim != 1 or not spectrum.size or not (spectrum >= 0).all():
        raise ValueError(f"encoding must have a list of frequencies of at least 0, got {spectrum}")
    return spectrum


def _wavelengths(spectrum: Floats) -> Floats:
    """Return the tokens of a full turn; infinite for a pair that does not rotate."""
    with np.errstate(divide="ignore"):
        return 2 * np.pi / spectrum


def _turns(spectrum: Floats, length: int) -> Floats:
    return spectrum * (length / (2 * np.pi))


def axis_rotations(encodings: StackEncodings, grids: Mapping[str, Grid]) -> pd.DataFrame:
    """Return how far each pair of channels rotates along each axis that it reads, from edge to edge of a grid.

        turns = |F[a, h, p]| span_a / 2 pi,    wavelength in cells = (n_a - 1) / turns

    F are the inverse frequencies (`spectrum_on_axes`), and span_a the difference of the coordinates of the last and the
    first of n_a cells. Grids are by their size in words; the first one is the grid of training, whose wavelengths are
    returned.

    Returns:
        Columns `layers`, `head` (NaN where all heads are alike), `pair`, `axis`, `frequency` (with its sign),
        `wavelength in cells`, `turns SIZE` for each grid, and `never completes a turn in training`. A pair that does
        not rotate has no row, and neither has an axis of one cell. No rows if nothing rotates by coordinates.
    """
    rows = []
    trained, *_ = grids.values()
    for layers, encoding, _ in served(encodings):
        by_grid = [encoding.spectrum_on_axes(grid.lengths) for grid in grids.values()]
        spectra = [x.detach().double().cpu().numpy() for x in by_grid if x is not None]
        if not spectra:
            continue
        for head, pair in np.ndindex(spectra[0].shape[1:]):
            for axis in np.flatnonzero(spectra[0][:, head, pair]):
                if trained.sizes[axis] == 1:
                    continue
                pairs = zip(spectra, grids.values(), strict=True)
                turns = [abs(f[axis, head, pair]) * grid.span[axis] / (2 * np.pi) for f, grid in pairs]
                with np.errstate(divide="ignore"):
                    wavelength = np.float64(trained.sizes[axis] - 1) / turns[0]
                row = {"layers": layers, "head": head if spectra[0].shape[1] > 1 else np.nan, "pair": pair}
                row |= {"axis": trained.axes[axis], "frequency": spectra[0][axis, head, pair]}
                row |= {"wavelength in cells": wavelength}
                row |= {f"turns {size}": turn for size, turn in zip(grids, turns, strict=True)}
                rows.append(row | {"never completes a turn in training": turns[0] < 1})
    return pd.DataFrame(rows)


def axis_table(turns: pd.DataFrame) -> Table:
    """Return the table of `axis_rotations`, of at least one row."""
    shown = turns if turns["head"].notna().any() else turns.drop(columns="head")
    return Table(
        name="rotary_axes",
        title="Turns of the rotary frequencies along each axis",
        caption="Each row is a pair of channels and an axis that it reads. Turns are counted from edge to edge of the "
        "grid of the first example. A pair that completes none in training meets new angles in larger grids.",
        source="Heo et al., Rotary Position Embedding for Vision Transformer (ECCV 2024), section 3",
        frame=shown if shown["layers"].nunique() > 1 else shown.drop(columns="layers"),
    )
