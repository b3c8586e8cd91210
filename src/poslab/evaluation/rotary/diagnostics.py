"""Diagnostics of a rotary encoding that need no trained model: its reach, and the reasons."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from poslab.encodings import PositionalEncoding
from poslab.evaluation.rotary.base_bound import Floats
from poslab.evaluation.rotary.base_bound_figures import bound_by_length, islands_plot, plain_base, sums_plot
from poslab.evaluation.rotary.wavelengths import spectrum_of, wavelengths, wavelengths_plot
from poslab.report.figures import ReportFigure


def rotary_diagnostics(
    encoding: PositionalEncoding,
    head_dim: int,
    training_length: int,
    lengths: Sequence[int],
    longest_search: int = 32_768,
) -> list[ReportFigure]:
    """Return figures of the wavelengths of an encoding that turns queries and keys, and of the bound on its base.

    The bound assumes that queries and keys only rotate (`is_pure_rotation`). xPos fades as well, and
    in PoPE no product of channels is negative where phases agree: both have wavelengths only. A pair of channels that
    does not turn adds to the sum of cosines with frequency 0.

    Args:
        encoding: one that `spectrum_of` accepts.
        head_dim: channels D of a head, including those that do not turn.
        training_length: tokens of a text in training.
        lengths: test lengths in tokens, beside the training length.
        longest_search: longest length for which the smallest base is searched. The default takes about two seconds at
            head_dim 128, and a length four times as large ten.

    Returns:
        `rotary_turns` and `rotary_wavelengths`; for an encoding that only turns also `rotary_base_bound`,
        `rotary_sum_of_cosines` (in a text of the longest length, if a scaling depends on it), and, if the spectrum is
        plain and a base was found, `rotary_islands` for the longest length searched.

    Raises:
        ValueError: for an encoding that does not turn queries and keys, a head_dim below the number of channels that
            turn, or a length below 1.
    """
    figures: list[ReportFigure] = [
        wavelengths(encoding, training_length, lengths),
        wavelengths_plot(encoding, training_length, lengths),
    ]
    if not encoding.is_pure_rotation:
        return figures
    every = sorted({training_length, *lengths})
    spectra = {length: _of_whole_head(spectrum_of(encoding, length), head_dim) for length in every}
    figures += [bound_by_length(spectra, longest_search), sums_plot(spectra[every[-1]], training_length, lengths)]
    searched = [length for length in every if length <= longest_search and plain_base(spectra[length]) is not None]
    if searched:
        picture = islands_plot(head_dim, searched[-1], plain_base(spectra[searched[-1]]))
        if picture is not None:
            figures.append(picture)
    return figures


def _of_whole_head(spectrum: Floats, head_dim: int) -> Floats:
    """Append frequency 0 for pairs of channels that do not turn; an odd last channel does not count."""
    still = head_dim // 2 - len(spectrum)
    if still < 0:
        raise ValueError(f"head_dim must be at least the {2 * len(spectrum)} channels that turn, got {head_dim}")
    return np.concatenate([spectrum, np.zeros(still)])
