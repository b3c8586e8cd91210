"""Wavelengths of a rotary encoding, and the bound on its base."""

from __future__ import annotations

from collections.abc import Sequence

from poslab.evaluation.evaluation import Evaluation
from poslab.evaluation.rotary_diagnostics import rotary_diagnostics
from poslab.evaluation.settings import Settings
from poslab.evaluation.side_by_side import lengths_of, titled
from poslab.evaluation.subjects import Ability, Subject
from poslab.report.figures import ReportFigure
from poslab.report.page import Section

PLACE = 6
NEEDS: frozenset[Ability] = frozenset({"rotation"})


def make(subjects: Sequence[Subject], settings: Settings) -> Evaluation:
    """Return the section for the first encoding of each model that turns queries and keys."""
    figures: list[ReportFigure] = []
    for one in subjects:
        if one.abilities >= NEEDS:
            turning = next(x for x in one.model.encodings if x.spectrum(one.training_length) is not None)
            lengths = lengths_of(subjects, settings)
            diagnostics = rotary_diagnostics(turning, one.model.encodings.shape.head_dim, one.training_length, lengths)
            figures += titled(one, subjects, diagnostics)
    return Evaluation([section(figures)])


def section(figures: list[ReportFigure]) -> Section:
    """Return the section of the figures of `rotary_diagnostics`."""
    text = "The speed at which each pair of channels turns, and whether the base is large enough for the lengths."
    return Section("Rotary diagnostics", text, figures)
