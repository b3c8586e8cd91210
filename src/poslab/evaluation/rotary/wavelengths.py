"""Wavelengths of the rotary frequencies, against the lengths of training and test texts.

Dimension letters: P pairs of channels, L tokens of a text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from matplotlib.axis import Axis
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from poslab.encodings import PositionalEncoding
from poslab.report.figures import COLOURS, WIDTH, Plot, Table, new_figure

Floats = NDArray[np.float64]

SOURCE = "Peng et al., YaRN: Efficient Context Window Extension of Large Language Models (2023), section 3.2"


def wavelengths(encoding: PositionalEncoding | ArrayLike, training_length: int, lengths: Sequence[int]) -> Table:
    """Return the wavelength of each pair of channels, and its number of turns in texts of each length.

        wavelength = 2 pi / theta,    turns in L tokens = theta L / 2 pi

    Under a scaling that depends on the length, frequency and wavelength are those at the training length, and the turns
    at each length those in a text of that length.

    Args:
        encoding: an encoding or inverse frequencies, as for `spectrum_of`.
        training_length: tokens of a text in training.
        lengths: test lengths in tokens.

    Raises:
        ValueError: as `spectrum_of`, or for a length below 1.
    """
    _check_lengths(training_length, lengths)
    spectrum = spectrum_of(encoding, training_length)
    turns = _turns(spectrum, training_length)
    columns: dict[str, Floats | NDArray[np.bool_] | NDArray[np.int_]] = {
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
        caption=(
            "Each row is a pair of channels that turns with position. A pair that completes a turn within the "
            f"{training_length:,} tokens of training has met all of its angles there, and any other meets new ones in "
            "longer texts. A pair of infinite wavelength stands still and encodes no position."
        ),
        source=SOURCE,
        frame=pd.DataFrame(columns),
    )


def wavelengths_plot(encoding: PositionalEncoding | ArrayLike, training_length: int, lengths: Sequence[int]) -> Plot:
    """Draw the wavelength of each pair of channels, with the training and test lengths as lines.

    Under a scaling that depends on the length, points are at the training length and a curve is at the longest one.
    Arguments and errors are those of `wavelengths`.
    """
    _check_lengths(training_length, lengths)
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
        axes.plot([], [], " ", label=f"stands still, no wavelength ({(turns == 0).sum()} of {len(spectrum)})")
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
        caption=(
            "Each point is a pair of channels at the number of tokens of a full turn. Pairs above the line of the "
            f"training length of {training_length:,} tokens did not meet all of their angles in training, and meet new "
            "ones in longer texts."
        ),
        source=SOURCE,
        figure=figure,
    )


def draw_lengths(
    line: Callable[..., Line2D], opposite: Axis, training_length: int, lengths: Sequence[int], rotation: float = 0.0
) -> None:
    """Draw a line at each length, with its number, rotated by degrees, on the axis opposite to the one of tokens.

    `line` is `axhline` or `axvline` of the axes, and `opposite` the x or y axis of a secondary axis on the other side.
    """
    test_lengths = sorted(set(lengths) - {training_length})
    line(training_length, color="black", lw=1, zorder=1, label="training length")
    for place, length in enumerate(test_lengths):
        line(length, color="grey", ls="--", lw=1, zorder=1, label=None if place else "test lengths")
    every = [training_length, *test_lengths]
    opposite.set_minor_locator(NullLocator())
    opposite.set_ticks(every, labels=[f"{length:,}" for length in every], fontsize="small", rotation=rotation)


def spectrum_of(encoding: PositionalEncoding | ArrayLike, length: int) -> Floats:
    """Return the inverse frequencies by which queries and keys turn, in radians per token, (P,) float64.

    Args:
        encoding: one that turns queries and keys (its `spectrum` is called), or the inverse frequencies themselves.
        length: of the text, on which some scalings depend.

    Raises:
        ValueError: for an encoding that does not turn queries and keys, or frequencies that are negative or none.
    """
    frequencies = encoding.spectrum(length) if isinstance(encoding, PositionalEncoding) else encoding
    if frequencies is None:
        name = type(encoding).__name__
        raise ValueError(f"encoding must turn queries and keys, as rotary, xPos and PoPE do, got {name}")
    if isinstance(frequencies, Tensor):
        frequencies = frequencies.detach().cpu().numpy()
    spectrum = np.asarray(frequencies, dtype=np.float64)
    if spectrum.ndim != 1 or not spectrum.size or not (spectrum >= 0).all():
        raise ValueError(f"encoding must have a list of frequencies of at least 0, got {spectrum}")
    return spectrum


def _wavelengths(spectrum: Floats) -> Floats:
    """Return the tokens of a full turn; infinite for a pair that stands still."""
    with np.errstate(divide="ignore"):
        return 2 * np.pi / spectrum


def _turns(spectrum: Floats, length: int) -> Floats:
    return spectrum * (length / (2 * np.pi))


def _check_lengths(training_length: int, lengths: Sequence[int]) -> None:
    if not training_length >= 1:
        raise ValueError(f"training_length must be at least 1, got {training_length}")
    for length in lengths:
        if not length >= 1:
            raise ValueError(f"lengths must be at least 1, got {length}")
