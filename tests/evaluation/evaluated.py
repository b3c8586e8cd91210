"""Runs that are evaluated together, and the figures of a report by their names."""

from __future__ import annotations

from typing import Any

from poslab.evaluation.evaluation import Evaluation, evaluate
from poslab.evaluation.opening import open_run, with_different_names
from poslab.evaluation.settings import Settings
from poslab.report.figures import ReportFigure
from poslab.runs.directory import RunDirectory


def evaluated(*runs: RunDirectory, **settings: Any) -> Evaluation:
    """The evaluation of runs under these settings."""
    evaluated = with_different_names([open_run(run.path) for run in runs], [str(run.path) for run in runs])
    return evaluate(evaluated, Settings(**settings))


def figures_of(evaluation: Evaluation) -> dict[str, ReportFigure]:
    """All figures of a report by name."""
    return {figure.name: figure for section in evaluation.every_section for figure in section.figures}
