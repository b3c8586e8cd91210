"""Axes of parameters and colours of trials, shared by the pictures of a sweep."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from matplotlib import pyplot, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from poslab.experiments.tuning.space import Parameter
from poslab.report.figures import COLOURS

BEST, DEFAULT, OTHER = COLOURS[1], COLOURS[0], "0.55"
"""The best trial, the default, and all others."""


def place_of(parameter: Parameter, value: Any) -> float:
    """Return the place of a value on an axis: the index of a choice, or the logarithm in a logarithmic range."""
    distribution = parameter.distribution
    if isinstance(distribution, CategoricalDistribution):
        return float(distribution.to_internal_repr(value))
    return math.log10(value) if getattr(distribution, "log", False) else float(value)


def ends_of(parameter: Parameter) -> tuple[float, float]:
    """Return the ends of the searched values on an axis, never the same place twice."""
    places = [place_of(parameter, end) for end in parameter.ends]
    return (min(places), max(places)) if min(places) < max(places) else (min(places) - 0.5, max(places) + 0.5)


def scale_axis(axes: Axes, parameter: Parameter) -> None:
    """Set the ticks and the name of the horizontal axis for a parameter."""
    distribution = parameter.distribution
    if isinstance(distribution, CategoricalDistribution):
        axes.set_xticks(range(len(distribution.choices)), [str(choice) for choice in distribution.choices])
        if sum(len(str(choice)) for choice in distribution.choices) > 24:
            axes.tick_params(axis="x", rotation=30)
    elif getattr(distribution, "log", False):
        assert isinstance(distribution, FloatDistribution | IntDistribution)
        ticks = _logarithmic_ticks(distribution.low, distribution.high)
        axes.set_xticks([math.log10(tick) for tick in ticks], tick_texts(ticks))
    axes.tick_params(axis="x", labelsize=8)  # the numbers at the ends do not reach those of the next panel
    axes.set_xlabel(parameter.name, fontsize=9)


def _logarithmic_ticks(low: float, high: float) -> list[float]:
    """Return round numbers of a range: powers of ten, with multiples of these if they are few."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1,) if high / low >= 1000 else (1, 3) if high / low >= 30 else (1, 2, 5)
    return [step * 10.0**exponent for exponent in exponents for step in steps if low <= step * 10.0**exponent <= high]


def tick_texts(numbers: Sequence[float]) -> list[str]:
    """Return the labels of the numbers of an axis, all of one form: with a power of ten if one would be long.

    tick_texts([100, 1000]) == ["100", "1,000"] and tick_texts([1000, 1e6]) == ["1e3", "1e6"]
    """
    if all(not number or 1e-3 <= abs(number) < 1e5 for number in numbers):
        return [f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.4g}" for number in numbers]
    parts = [f"{number:.3e}".split("e") for number in numbers]
    return [f"{float(mantissa):g}e{int(exponent)}".replace("-", "−") for mantissa, exponent in parts]


def texts_at(parameter: Parameter, places: Sequence[float]) -> list[str]:
    """Return the labels of places on a parameter's axis."""
    distribution = parameter.distribution
    if isinstance(distribution, CategoricalDistribution):
        return [str(distribution.choices[round(place)]) for place in places]
    return tick_texts([float(10**place if getattr(distribution, "log", False) else place) for place in places])


def drawn_by_optuna(draw: Callable[[], Any], width: float, height: float) -> tuple[Figure, Axes]:
    """Return a figure of this size in inches that a function of Optuna draws, without a title.

    The style of Optuna does not leak into later figures.
    """
    with rc_context():
        axes: Axes = draw()
    figure = axes.figure
    assert isinstance(figure, Figure)
    pyplot.close(figure)
    for place in ("left", "center"):
        axes.set_title("", loc=place)
    figure.set_size_inches(width, height)
    figure.set_layout_engine("tight")
    return figure, axes
