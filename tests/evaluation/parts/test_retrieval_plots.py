"""The pictures of retrieval show what was measured."""

from __future__ import annotations

import math

import pandas as pd

from poslab.evaluation.parts.retrieval import at_chance, heat_map, retrieval_figures
from poslab.report.figures import WIDTH, Plot, Table
from tests.report.phone import smallest_label


def measured(task: str, accuracies: dict[tuple[int, float], float], loss: float = 1.0) -> pd.DataFrame:
    """The result of `retrieval` with these accuracies by length and depth; chance is a loss of 2."""
    rows = [
        {"task": task, "length": length, "depth": depth, "samples": 8, "accuracy": accuracy}
        | {"token_accuracy": accuracy, "loss": loss, "chance_loss": 2.0}
        for (length, depth), accuracy in accuracies.items()
    ]
    return pd.DataFrame(rows)


def numbers(picture: Plot, panel: int = 0) -> list[list[str]]:
    """The numbers of a panel's cells as they are seen, row by row."""
    texts = picture.figure.axes[panel].texts
    shown = {(round(text.get_position()[1]), round(text.get_position()[0])): text.get_text() for text in texts}
    rows, columns = (1 + max(position[axis] for position in shown) for axis in (0, 1))
    return [[shown[row, column] for column in range(columns)] for row in range(rows)]


def test_a_cell_shows_the_accuracy_of_its_length_and_depth():
    frame = measured("passkey", {(512, 1.0): 25.0, (256, 0.0): 100.0, (512, 0.0): 50.0, (256, 1.0): 0.0})
    picture = heat_map(frame.assign(model="rotary"), "passkey")
    assert numbers(picture) == [["100", "50"], ["0", "25"]]
    panel = picture.figure.axes[0]
    assert [label.get_text() for label in panel.get_xticklabels()] == ["256", "512"]
    assert [label.get_text() for label in panel.get_yticklabels()] == ["0", "1"]
    assert picture.title == "Passkey: accuracy"


def test_where_no_answer_is_right_it_is_the_loss_over_chance_and_the_title_says_so():
    frame = measured("multi_key", {(256, 0.0): 0.0, (512, 0.0): 0.0})
    frame.loc[1, "loss"] = 3.0
    picture = heat_map(frame.assign(model="rotary"), "multi_key")
    assert numbers(picture) == [["0.50", "1.50"]]
    assert picture.title == "Multi key: loss over chance"


def test_a_length_beyond_the_end_of_a_model_is_a_dash():
    frame = measured("passkey", {(256, 0.0): 100.0, (512, 0.0): math.nan})
    assert numbers(heat_map(frame.assign(model="learned"), "passkey")) == [["100", "–"]]


def test_a_task_without_depth_has_a_row_for_each_model():
    frames = [
        measured("copying", {(256, math.nan): long, (512, math.nan): short}).assign(model=model)
        for model, long, short in (("t5", 75.0, 12.6), ("none", 50.0, 0.0))
    ]
    picture = heat_map(pd.concat(frames), "copying")
    assert numbers(picture) == [["75", "13"], ["50", "0"]]
    assert [label.get_text() for label in picture.figure.axes[0].get_yticklabels()] == ["T5", "None (NoPE)"]


def test_models_stand_side_by_side_and_one_right_answer_makes_it_accuracy_for_all():
    good, bad = (measured("needle", {(256, 0.0): accuracy, (512, 0.0): 0.0}) for accuracy in (50.0, 0.0))
    picture, table = retrieval_figures({"rotary": good, "none": bad})
    assert isinstance(picture, Plot) and isinstance(table, Table)
    assert picture.title == "Needle: accuracy"
    assert [numbers(picture, panel) for panel in (0, 1)] == [[["50", "0"]], [["0", "0"]]]
    assert [panel.get_title() for panel in picture.figure.axes[:2]] == ["Rotary (RoPE)", "None (NoPE)"]
    assert table.frame["model"].tolist() == ["rotary", "rotary", "none", "none"]


def test_every_task_has_a_picture_of_its_own_name():
    frame = pd.concat([measured(task, {(256, 0.0): 100.0}) for task in ("passkey", "of_my_own")])
    names = [figure.name for figure in retrieval_figures({"rotary": frame})]
    assert names == ["retrieval_passkey", "retrieval_of_my_own", "retrieval"]


def test_a_map_of_one_length_is_narrow_and_one_of_several_as_wide_as_other_pictures():
    item, many = (
        measured("passkey", {(256, 0.0): 100.0}),
        measured("passkey", {(256 * n, 0.0): 1.0 for n in range(1, 9)}),
    )
    widths = [heat_map(frame.assign(model="m"), "passkey").figure.get_figwidth() for frame in (item, many)]
    assert widths[0] < 4.5 and widths[1] == WIDTH


def test_a_task_that_no_model_does_better_than_a_guess_has_no_picture_but_a_line():
    at = {(256, 0.0): 0.0, (512, 0.0): 0.0}
    silent = {task: measured(task, at, loss=loss) for task, loss in (("needle", 5.0), ("multi_key", 3.0))}
    frame = pd.concat([measured("passkey", at, loss=1.7), *silent.values()])
    assert [figure.name for figure in retrieval_figures({"rotary": frame, "none": frame})] == [
        *("retrieval_passkey", "retrieval")
    ]
    line = at_chance({"rotary": frame, "none": frame})
    assert "needle, multi key" in line and "1.5 to 2.5" in line and "passkey" not in line
    assert retrieval_figures({"rotary": pd.concat(silent.values())}) == []
    assert at_chance({"rotary": measured("passkey", at)}) == ""


def test_one_right_answer_of_one_model_shows_the_picture_of_all():
    right, wrong = (measured("needle", {(256, 0.0): accuracy}, loss=6.0) for accuracy in (12.5, 0.0))
    assert [figure.name for figure in retrieval_figures({"a": wrong, "b": right})] == ["retrieval_needle", "retrieval"]


def test_numbers_can_be_read_on_a_phone():
    frame = measured("passkey", {(length, depth): 50.0 for length in (64, 128, 256, 512, 1024) for depth in (0.0, 1.0)})
    both = pd.concat([frame.assign(model=model) for model in ("rotary", "none")])
    assert smallest_label(heat_map(both, "passkey")) >= 8
