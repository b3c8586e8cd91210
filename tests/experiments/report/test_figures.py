"""Figures of a comparison where values are missing, infinite or few."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from poslab.experiments.criteria import Criterion
from poslab.experiments.report import figures

CRITERION = Criterion("perplexity@4x", "minimize", 0.1)
STYLES = figures.styles_of(["a", "b"])


@pytest.mark.parametrize(
    "values", [[1.0, np.nan, 2.0, 3.0], [np.nan] * 4, [1.0, np.inf, 1.0, 1.0], [5.0, 5.0, 5.0, 5.0]]
)
def test_every_seed_is_drawn_and_those_that_diverged_are_counted(values):
    rows = pd.DataFrame({"encoding": ["a", "a", "b", "b"], "value": values})
    plot = figures.every_seed("seeds", CRITERION, rows, STYLES)
    assert plot.drawn("png")
    labels = [label.get_text() for label in plot.figure.axes[0].get_yticklabels()]
    lost = [int((~np.isfinite(part)).sum()) for part in (values[:2], values[2:])]
    expected = [f"{name} ({n} of 2 diverged)" if n else name for name, n in zip("ab", lost, strict=True)]
    assert labels == expected[::-1]


@pytest.mark.filterwarnings("error")
def test_a_figure_grows_with_the_legend_of_many_encodings():
    names = [f"encoding_{place}" for place in range(60)]
    rows = pd.DataFrame({"encoding": names, "length": 8, "value": 2.0, "metric": "loss"})
    plot = figures.curves("curves", "t", rows, "it", None, figures.styles_of(names), "minimize")
    assert plot.drawn("png")
    assert plot.figure.axes[0].get_window_extent().height > 200


@pytest.mark.parametrize(("direction", "best"), [("minimize", range(10)), ("maximize", range(20, 30))])
def test_of_very_many_curves_the_best_and_those_of_the_reader_have_a_name(direction, best):
    names = ["baseline", "none", *(f"encoding_{place}" for place in range(30))]
    values = [(name, length, way * place) for place, name in enumerate(names) for length, way in ((8, -1.0), (16, 1.0))]
    rows = pd.DataFrame(values, columns=["encoding", "length", "value"]).assign(metric="loss")
    styles = figures.named_styles(figures.styles_of(names), rows, names[:2], direction)
    assert set(styles) == {"baseline", "none", *(f"encoding_{place}" for place in best)}
    plot = figures.curves("curves", "t", rows, "it", None, styles, direction)
    assert len(plot.figure.axes[0].lines) == len(names)
    assert len(plot.figure.legends[0].get_texts()) == len(styles)
    assert "all others are pale" in plot.caption


def test_up_to_a_dozen_curves_all_have_a_name():
    names = [f"encoding_{place}" for place in range(12)]
    rows = pd.DataFrame({"encoding": names * 2, "length": [8] * 12 + [16] * 12, "value": 2.0, "metric": "loss"})
    styles = figures.named_styles(figures.styles_of(names), rows, names[:1], "minimize")
    plot = figures.curves("curves", "t", rows, "it", None, styles, "minimize")
    assert len(plot.figure.legends[0].get_texts()) == 12 and "pale" not in plot.caption


@pytest.mark.parametrize(("trained", "lines"), [(8, 2), (None, 1)])
def test_curves_mark_the_longest_length_of_training_where_there_was_any(trained, lines):
    rows = pd.DataFrame({"encoding": "a", "length": [8, 16], "value": [2.0, 3.0], "metric": "loss"})
    plot = figures.curves("curves", "title", rows, "the text", trained, STYLES, "minimize")
    assert len(plot.figure.axes[0].lines) == lines
    assert ("dotted" in plot.caption) == (trained is not None)


@pytest.mark.parametrize(
    ("values", "scale"),
    [([2.0, 3.0, 2.0, 4.0], "linear"), ([2.0, 3.0, 2.0, 900.0], "log"), ([0.0, 3.0, 0.0, 90.0], "linear")],
)
def test_curves_leave_out_what_is_not_finite_and_have_a_logarithmic_axis_only_for_numbers_above_zero(values, scale):
    rows = pd.DataFrame({"encoding": list("aabbb"), "length": [8, 16, 8, 16, 32], "value": [*values, np.inf]})
    plot = figures.curves(
        "curves", "title", rows.assign(metric="perplexity"), "a side in pixels", 8, STYLES, "minimize"
    )
    assert plot.drawn("png")
    assert plot.figure.axes[0].get_xlabel() == "length of a side in pixels"
    assert plot.figure.axes[0].get_yscale() == scale
    assert all(np.isfinite(line.get_ydata()).all() for line in plot.figure.axes[0].lines[1:])
