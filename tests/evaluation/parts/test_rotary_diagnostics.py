from __future__ import annotations

import copy
from functools import partial

import pytest

from poslab.encodings import Alibi, PoPE, Rotary, XPos
from poslab.encodings.rotary.scalings import hope, rope_dynamic_ntk
from poslab.encodings.rotary.yarn import yarn
from poslab.evaluation.parts.rotary import rotary_diagnostics
from poslab.report.figures import Plot, ReportFigure, Table, set_width

OF_EVERY_ROTATION = ["rotary_turns", "rotary_wavelengths"]
OF_ROTARY = [*OF_EVERY_ROTATION, "rotary_base_bound", "rotary_sum_of_cosines"]


def names(figures: list[ReportFigure]) -> list[str]:
    return [figure.name for figure in figures]


def bound_of(figures: list[ReportFigure]) -> Table:
    (table,) = (figure for figure in figures if figure.name == "rotary_base_bound")
    assert isinstance(table, Table)
    return table


def test_a_head_of_64_at_base_10_000_fails_at_1024_and_holds_at_its_training_length():
    figures = rotary_diagnostics(Rotary(64), 64, 256, [1024])
    frame = bound_of(figures).frame.set_index("length")
    assert names(figures) == OF_ROTARY
    assert frame["bound holds"].to_dict() == {256: True, 1024: False}
    # 10,000 is above the smallest base that holds, and fails: bases that hold are no interval.
    assert frame["smallest base that holds"][1024] < 10_000


@pytest.mark.parametrize("encoding", [XPos(16), PoPE(16, 2)], ids=lambda encoding: type(encoding).__name__)
def test_rotations_that_do_more_than_turn_have_wavelengths_alone(encoding):
    assert names(rotary_diagnostics(encoding, 16, 256, [512])) == OF_EVERY_ROTATION


@pytest.mark.parametrize("scaling", [yarn, hope])
def test_a_spectrum_that_is_not_plain_has_no_smallest_base(scaling):
    rotary = Rotary(64, scaling=partial(scaling, training_length=256))
    figures = rotary_diagnostics(rotary, 64, 256, [512])
    assert names(figures) == OF_ROTARY
    assert bound_of(figures).frame["smallest base that holds"].isna().all()


def test_each_length_is_judged_by_its_own_spectrum():
    """Dynamic NTK gives them a larger base, so that the bound holds where it would not without."""
    plain, dynamic = Rotary(64), Rotary(64, scaling=partial(rope_dynamic_ntk, training_length=256, factor=2.0))
    of_plain, of_dynamic = (bound_of(rotary_diagnostics(x, 64, 256, [1024])).frame for x in (plain, dynamic))
    assert list(of_plain["bound holds"]) == [True, False]
    assert list(of_dynamic["bound holds"]) == [True, True]
    assert of_dynamic["base"][1] == pytest.approx(10_000 * 7 ** (64 / 62), rel=1e-5)


def test_channels_that_do_not_turn_count_in_the_bound():
    """Where half of the channels stand still their cosines of 1 outweigh all others."""
    half, all_of_it = Rotary(64, fraction=0.5), Rotary(32)
    assert bound_of(rotary_diagnostics(half, 64, 256, [4096])).frame["bound holds"].all()
    assert not bound_of(rotary_diagnostics(all_of_it, 32, 256, [4096])).frame["bound holds"].all()


def test_every_figure_explains_itself():
    for figure in rotary_diagnostics(Rotary(64), 64, 256, [512]):
        assert figure.title
        assert figure.caption.endswith(".")
        assert figure.source


def test_what_is_no_rotation_or_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"^encoding must"):
        rotary_diagnostics(Alibi(4), 64, 256, [512])
    with pytest.raises(ValueError, match=r"^head_dim must .*got 32"):
        rotary_diagnostics(Rotary(64), 32, 256, [512])


def test_no_letter_of_its_pictures_leaves_the_page_of_a_column():
    figures = rotary_diagnostics(Rotary(64), 64, 256, [256, 1024])
    for picture in (figure for figure in figures if isinstance(figure, Plot)):
        narrow = copy.deepcopy(picture.figure)
        set_width(narrow, 3.25)
        narrow.draw_without_rendering()
        drawn = narrow.get_tightbbox()  # in inches
        assert drawn.x0 >= -0.02 and drawn.x1 <= 3.27, (picture.name, drawn)
