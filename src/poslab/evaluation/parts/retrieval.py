"""Accuracy of passkeys, needles and copying, by distance."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from poslab.evaluation.evaluation import Evaluation
from poslab.evaluation.retrieval import at_chance, retrieval, retrieval_figures
from poslab.evaluation.settings import Settings
from poslab.evaluation.side_by_side import lengths_of, tag
from poslab.evaluation.subject import Ability, Subject
from poslab.report.page import Section
from poslab.report.sentences import listed

PLACE = 2
NEEDS: frozenset[Ability] = frozenset({"next_tokens"})

PROMPTS = 4
"""Prompts of each task, length and depth."""

SHORTEST_PROMPT, FURTHEST_PROMPT = 256, 4
"""Tokens of the shortest prompt, and the longest prompt as a multiple of the training length."""


def make(subjects: Sequence[Subject], settings: Settings) -> Evaluation:
    """Return the section, and an accuracy for each task and each length that has room for every task.

    Lengths are those of the settings, up to `FURTHEST_PROMPT` times the training length.
    """
    evaluation = Evaluation()
    frames = {}
    for one in subjects:
        longest = max(SHORTEST_PROMPT, FURTHEST_PROMPT * one.training_length)
        lengths = [length for length in lengths_of(subjects, settings) if SHORTEST_PROMPT <= length <= longest]
        if not lengths:
            continue
        frames[one.name] = retrieval(
            one.model,
            one.tokenizer,
            lengths=lengths,
            depths=(0.0, 0.5, 1.0),
            samples=PROMPTS,
            seed=settings.seed,
            filler=one.tokens,
        )
        for task, rows in frames[one.name].groupby("task"):
            for length, own in rows.groupby("length"):
                evaluation.metrics[tag(one, subjects, f"{task}_accuracy@{length}")] = own["accuracy"].mean()
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
    return evaluation
