"""Wavelengths of a rotary encoding, along each axis of pictures; for texts also the bound on its base."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from poslab.evaluation.evaluated_run import Ability, EvaluatedRun
from poslab.evaluation.evaluation import Evaluation
from poslab.evaluation.grids import Grid
from poslab.evaluation.rotary.axes import axis_figures, axis_rotations, axis_sentence
from poslab.evaluation.rotary.diagnostics import rotary_diagnostics
from poslab.evaluation.settings import Settings
from poslab.evaluation.side_by_side import lengths_of, remark_on_positions, titled
from poslab.report.figures import ReportFigure
from poslab.report.page import Section

PLACE = 6
NEEDS: frozenset[Ability] = frozenset({"rotation"})


def make(runs: Sequence[EvaluatedRun], settings: Settings) -> Evaluation:
    """Return the section for the first encoding of each model that turns queries and keys, or for all that read axes.

    Of the latter, what is true of each axis is among the remarks.
    """
    figures: list[ReportFigure] = []
    remarks: list[str] = []
    for run in runs:
        if not run.abilities >= NEEDS:
            continue
        grids = _grids(run, settings)
        turns = axis_rotations(run.model.encodings, grids) if grids else pd.DataFrame()
        if len(turns):
            figures += titled(run, runs, axis_figures(run.model.encodings, grids, turns))
            remarks.append(axis_sentence(run.name, turns, grids))
            continue
        turning = next((x for x in run.model.encodings if x.spectrum(run.training_length) is not None), None)
        if turning is not None:
            lengths = lengths_of(runs, settings)
            diagnostics = rotary_diagnostics(turning, run.model.encodings.shape.head_dim, run.training_length, lengths)
            figures += titled(run, runs, diagnostics)
    if not figures:
        return Evaluation(left_out={"rotary": "no encoding turns pairs of channels"})
    text = "\n\n".join(remarks) if remarks else None
    made = section(figures, text)
    return Evaluation([replace(made, text=made.text + remark_on_positions(runs))], remarks=remarks)


def section(figures: list[ReportFigure], more: str | None = None) -> Section:
    """Return the section of the figures of `rotary_diagnostics`, with what is said of axes."""
    text = "The speed at which each pair of channels turns, and whether the base is large enough for the lengths."
    if more is not None:
        text = f"The speed at which each pair of channels turns along each axis.\n\n{more}"
    return Section("Rotary diagnostics", text, figures)


def _grids(run: EvaluatedRun, settings: Settings) -> dict[str, Grid]:
    """Return the grid of training by its size in words, and those of longer lengths; nothing for a text."""
    if run.grid is None:
        return {}
    lengths = settings.lengths or run.data.lengths_of(run.split)
    longer = {run.place_of(n): run.grid_at(n) for n in sorted(lengths) if n > run.longest_trained}
    return {
        run.place_of(run.trained_lengths[-1]): run.grid,
        **{name: x for name, x in longer.items() if x is not None},
    }
