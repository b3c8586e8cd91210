"""Axes of pictures over numbers of tokens."""

from __future__ import annotations

from collections.abc import Iterable

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullLocator


def window_axis(panel: Axes, lengths: Iterable[int], training_lengths: Iterable[int]) -> None:
    """Make x a logarithmic axis of window lengths, with a tick at each and a dotted line at each training length."""
    ticks = sorted(set(lengths))
    panel.set_xscale("log", base=2)
    panel.set_xticks(ticks, [f"{length:,}" for length in ticks], rotation=45, ha="right")
    panel.xaxis.set_minor_locator(NullLocator())
    for training_length in sorted(set(training_lengths)):
        panel.axvline(training_length, color="0.6", linestyle=":")


def token_axis(panel: Axes) -> None:
    """Make x a logarithmic axis of numbers of tokens, such as places in a window, with powers of two as ticks."""
    panel.set_xscale("log", base=2)
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
