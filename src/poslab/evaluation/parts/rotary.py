"""Wavelengths of a rotary encoding, along each axis of pictures; for texts also the bound on its base."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from poslab.evaluation.evaluation import Evaluation
from poslab.evaluation.grids import Grid
from poslab.evaluation.rotary.axes import axis_figures, axis_rotations, axis_sentence
from poslab.evaluation.rotary.diagnostics import rotary_diagnostics
from poslab.evaluation.settings import Settings
from poslab.evaluation.side_by_side import lengths_of, remark_on_positions, titled
from poslab.evaluation.subject import Ability, Subject
from poslab.report.figures import ReportFigure
from poslab.report.page import Section

PLACE = 6
NEEDS: frozenset[Ability] = frozenset({"rotation"})


def make(subjects: Sequence[Subject], settings: Settings) -> Evaluation:
    """Return the section for the first encoding of each model that turns queries and keys, or for all that read axes.

    Of the latter, what is true of each axis is among the remarks.
    """
    figures: list[ReportFigure] = []
    remarks: list[str] = []
    for one in subjects:
        if not one.abilities >= NEEDS:
            continue
        grids = _grids(one, settings)
        turns = axis_rotations(one.model.encodings, grids) if grids else pd.DataFrame()
        if len(turns):
            figures += titled(one, subjects, axis_figures(one.model.encodings, grids, turns))
            remarks.append(axis_sentence(one.name, turns, grids))
            continue
        turning = next((x for x in one.model.encodings if x.spectrum(one.training_length) is not None), None)
        if turning is not None:
            lengths = lengths_of(subjects, settings)
            diagnostics = rotary_diagnostics(turning, one.model.encodings.shape.head_dim, one.training_length, lengths)
            figures += titled(one, subjects, diagnostics)
    if not figures:
        return Evaluation(left_out={"rotary": "no encoding turns pairs of channels"})
    text = "\n\n".join(remarks) if remarks else None
    made = section(figures, text)
    return Evaluation([replace(made, text=made.text + remark_on_positions(subjects))], remarks=remarks)


def section(figures: list[ReportFigure], more: str | None = None) -> Section:
    """Return the section of the figures of `rotary_diagnostics`, with what is said of axes."""
    text = "The speed at which each pair of channels turns, and whether the base is large enough for the lengths."
    if more is not None:
        text = f"The speed at which each pair of channels turns along each axis.\n\n{more}"
    return Section("Rotary diagnostics", text, figures)


def _grids(one: Subject, settings: Settings) -> dict[str, Grid]:
    """Return the grid of training by its size in words, and those of longer lengths; nothing for a text."""
    if one.grid is None:
        return {}
    lengths = settings.lengths or one.data.lengths_of(one.split)
    longer = {one.place_of(n): one.grid_at(n) for n in sorted(lengths) if n > one.longest_trained}
    return {one.place_of(one.trained_lengths[-1]): one.grid, **{name: x for name, x in longer.items() if x is not None}}
