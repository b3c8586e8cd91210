"""Accuracy of passkeys, needles and copying, by distance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from poslab.evaluation.evaluated_run import Ability, EvaluatedRun
from poslab.evaluation.evaluation import Evaluation
from poslab.evaluation.extrapolation.length_figures import length_name
from poslab.evaluation.retrieval import TASKS, at_chance, retrieval, retrieval_figures
from poslab.evaluation.settings import Settings
from poslab.evaluation.side_by_side import lengths_of, tag
from poslab.report.figures import Table
from poslab.report.page import Section
from poslab.report.sentences import listed

PLACE = 2
NEEDS: frozenset[Ability] = frozenset({"next_tokens"})

DEPTHS = (0.0, 0.5, 1.0)

PROMPTS = 4
"""Prompts of each task, length and depth."""

SHORTEST_PROMPT, FURTHEST_PROMPT = 256, 4
"""Tokens of the shortest prompt, and the longest prompt as a multiple of the training length."""


def make(runs: Sequence[EvaluatedRun], settings: Settings) -> Evaluation:
    """Return the section, and an accuracy for each task and each length that has room for every task.

    Lengths are those of the settings, up to `FURTHEST_PROMPT` times the training length.
    """
    evaluation = Evaluation()
    frames = {}
    lengths_by_name: dict[str, list[int]] = {}
    for run in runs:
        longest = max(SHORTEST_PROMPT, FURTHEST_PROMPT * run.training_length)
        lengths = [length for length in lengths_of(runs, settings) if SHORTEST_PROMPT <= length <= longest]
        lengths_by_name |= {run.name: lengths} if lengths else {}
    prompts = PROMPTS * sum(len(DEPTHS) if task.has_depth else 1 for task in TASKS.values())
    settings.progress.begin("retrieval", prompts * sum(sum(lengths) for lengths in lengths_by_name.values()))
    for run in (run for run in runs if run.name in lengths_by_name):
        frames[run.name] = retrieval(
            run.model,
            run.tokenizer,
            lengths=lengths_by_name[run.name],
            depths=DEPTHS,
            samples=PROMPTS,
            seed=settings.seed,
            filler=run.tokens,
            step=settings.progress.of(run.name),
        )
        for task, rows in frames[run.name].groupby("task"):
            for length, own in rows.groupby("length"):
                evaluation.metrics[tag(run, runs, f"{task}_accuracy@{length}")] = own["accuracy"].mean()
    if frames:
        lengths = sorted({length for frame in frames.values() for length in frame["length"]})
        words = listed([f"{length:,}" for length in lengths])
        text = f"Questions about facts somewhere in the window, in prompts of {words} tokens."
        figures = retrieval_figures(frames)
        if figures:
            text += " A small model of text answers few: its loss beside that of guessing says more."
        else:
            evaluation.frames["retrieval"] = pd.concat(frames, names=["model"]).reset_index("model")
        evaluation.sections.append(Section("Retrieval", f"{text}\n\n{at_chance(frames)}", figures))
        if settings.parts is not None:  # it was asked for
            evaluation.lead = Section("Conclusion", at_chance(frames), [_at_a_glance(frames)])
    return evaluation


def _at_a_glance(frames: Mapping[str, pd.DataFrame]) -> Table:
    """Return the accuracy of each task and length, for the beginning of the report and the terminal."""
    rows = pd.concat(frames, names=["model"])
    means = rows.groupby(["model", "task", "length"], sort=False)["accuracy"].mean().unstack()
    shown = means.map(lambda value: None if math.isnan(value) else f"{value:.1f}")
    shown = shown.rename(columns=length_name).rename_axis(columns=None).reset_index()
    shown["model"] = "retrieval accuracy (%)" + (": " + shown["model"] if len(frames) > 1 else "")
    caption = "Mean over depths. Columns are the tokens of a prompt, and a dash is beyond the end of the encoding."
    return Table("retrieval_overview", "Retrieval at a glance", caption, shown.rename(columns={"model": "metric"}))
