"""Metrics by length: what a table at a glance and a picture show."""

import math

import numpy as np
import pandas as pd

from poslab.evaluation.by_length import ALL, lines_by_length, metrics_figures, overview_table

COLUMNS = ["metric", "model", "length", "value", "low", "high", "items"]


def rows(*lines: tuple[str, str, int, float]) -> pd.DataFrame:
    return pd.DataFrame([(*line, line[-1] - 1, line[-1] + 1, 9) for line in lines], columns=COLUMNS)


def test_the_table_at_a_glance_has_a_row_for_each_run_and_a_column_for_each_length_and_all_at_last():
    frame = rows(
        *[("accuracy", "T5", ALL, 71.26), ("accuracy", "T5", 2048, 50.0), ("accuracy", "T5", 16, 92.5)],
        *[("accuracy", "none", 16, 12.5), ("accuracy", "none", ALL, np.nan), ("mcc", "none", 16, -3.25)],
    )
    table = overview_table(frame, {"accuracy": 1, "mcc": 1}, "").frame
    assert list(table.columns) == ["metric", "model", "16", "2,048", "all"]
    assert table.fillna("–").values.tolist() == [
        ["accuracy", "T5", "92.5", "50.0", "71.3"],
        ["accuracy", "none", "12.5", "–", "–"],
        ["mcc", "T5", "–", "–", "–"],
        ["mcc", "none", "−3.2", "–", "–"],
    ]


def test_the_name_of_a_metric_is_left_out_if_there_is_only_one():
    two = rows(("loss", "T5", 16, 1.0), ("loss", "none", 16, 2.0))
    assert overview_table(two, {"loss": 3}, "").frame.to_dict("records") == [
        {"model": "T5", "16": "1.000"},
        {"model": "none", "16": "2.000"},
    ]


def picture(*lengths: int):
    frame = rows(*(("loss", model, length, float(length)) for model in ("T5", "none") for length in lengths))
    return lines_by_length(
        frame, {"T5": 4, "none": 8}, by="metric", titles={"loss": "loss"}, xlabel="tokens", least={"loss": 0.05}
    )


def test_a_line_for_each_run_over_the_lengths_and_one_dotted_at_each_training_length():
    (panel,) = picture(4, 8, 16).axes
    drawn = {line.get_label(): line.get_xdata().tolist() for line in panel.lines if line.get_marker() in ("o", "s")}
    assert drawn == {"T5": [4, 8, 16], "None (NoPE)": [4, 8, 16]}
    assert [line.get_xdata()[0] for line in panel.lines if line.get_linestyle() == ":"] == [4, 8]
    assert len(panel.collections) == 2  # the intervals


def test_lengths_that_double_have_a_logarithmic_axis_and_others_a_plain_one():
    assert picture(4, 8, 16).axes[0].get_xscale() == "log"
    assert picture(*range(1, 30)).axes[0].get_xscale() == "linear"


def test_a_metric_that_is_the_same_at_every_length_has_no_panel():
    alike = [("bleu", "T5", 16, 0.001), ("bleu", "T5", 32, 0.04)]
    frame = rows(*alike, ("loss", "T5", 16, 1.0), ("loss", "T5", 32, 2.0))
    figure, table = metrics_figures(frame, ["bleu", "loss"], {"loss"}, {"T5": 16}, "tokens")
    assert [panel.get_title() for panel in figure.figure.axes if panel.axison] == ["loss"]
    assert list(table.frame["metric"]) == ["bleu", "bleu", "loss", "loss"]
    assert [figure.name for figure in metrics_figures(rows(*alike), ["bleu"], {"loss"}, {}, "")] == ["per_length"]


def test_a_single_length_has_no_picture():
    frame = rows(("loss", "T5", 16, 1.0), ("loss", "T5", ALL, 1.0))
    figures = metrics_figures(frame, ["loss"], {"loss"}, {"T5": 16}, "tokens")
    assert [figure.name for figure in figures] == ["per_length"]
    assert [*figures[0].frame["length"]] == ["16", "all"]


def test_panels_that_share_an_axis_show_every_point_of_both():
    """The first spans less than the axis has to; the second lies elsewhere."""
    values = {"loss": (7.49, 7.50), "sliding": (7.40, 7.80)}
    points = [
        (name, "T5", length, value) for name, pair in values.items() for length, value in zip((4, 8), pair, strict=True)
    ]
    frame = rows(*points).assign(low=math.nan, high=math.nan)
    titles = {name: name for name in values}
    figure = lines_by_length(
        frame, {"T5": 4}, by="metric", titles=titles, xlabel="", least=dict.fromkeys(values, 0.05), sharey=True
    )
    for panel in figure.axes:
        low, high = panel.get_ylim()
        assert low <= 7.40 and high >= 7.80
