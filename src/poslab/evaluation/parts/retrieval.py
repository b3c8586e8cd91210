"""Accuracy of answers to questions about facts in the prompt, and of copying, by length and depth.

Dimension letters: B prompts, T tokens of a prompt, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from torch import nn

from poslab.configuration.labels import written
from poslab.data.tokenizers import Tokenizer
from poslab.evaluation.benchmarks.fitting import TooShortError
from poslab.evaluation.by_length import length_name
from poslab.evaluation.evaluated_run import Ability, EvaluatedRun
from poslab.evaluation.evaluation import Evaluation, lengths_of, tag
from poslab.evaluation.retrieval import (
    DEFAULT_TASKS,
    TASKS,
    TOKENS_AT_ONCE,
    Haystack,
    RetrievalTask,
    require_tasks,
    score_answers,
)
from poslab.evaluation.settings import Settings, StepRunner, at_once
from poslab.report.figures import WIDTH, Plot, ReportFigure, Section, Table, panel_grid
from poslab.report.text import listed

ORDER = 2
NEEDS: frozenset[Ability] = frozenset({"next_tokens"})

DEPTHS = (0.0, 0.5, 1.0)

PROMPTS = 4
"""Prompts of each task, length and depth."""

MIN_PROMPT, MAX_MULTIPLE = 256, 4
"""Tokens of the shortest prompt, and the longest prompt as a multiple of the training length."""

CLEARLY = 0.9
"""Largest share of the loss of a guess at which a model clearly knows more than the form of answers."""

METRICS = ("accuracy", "token_accuracy", "loss", "chance_loss")


def make(runs: Sequence[EvaluatedRun], settings: Settings) -> Evaluation:
    """Return the section, and an accuracy for each task and length.

    Lengths that are not chosen are as in the settings, up to `MAX_MULTIPLE` times the training length, as far as they
    have room for a task.
    """
    evaluation, chosen = Evaluation(), settings.retrieval
    depths, samples = chosen.depths or DEPTHS, chosen.prompts or PROMPTS
    lengths_by_name: dict[str, Sequence[int]] = {}
    for run in runs:
        longest = max(MIN_PROMPT, MAX_MULTIPLE * run.training_length)
        lengths = chosen.lengths or [n for n in lengths_of(runs, settings) if MIN_PROMPT <= n <= longest]
        lengths_by_name |= {run.name: lengths} if lengths else {}
    try:
        require_tasks(chosen.tasks or ())
    except ValueError as error:
        raise ValueError(f"retrieval.{error}") from error
    tasks = [TASKS[name] for name in chosen.tasks or DEFAULT_TASKS]
    prompts = samples * sum(len(depths) if task.has_depth else 1 for task in tasks)
    settings.progress.begin("retrieval", prompts * sum(sum(lengths) for lengths in lengths_by_name.values()))
    frames = {}
    for run in (run for run in runs if run.name in lengths_by_name):
        try:
            frame = retrieval(
                run.model,
                run.tokenizer,
                chosen.tasks,
                lengths=lengths_by_name[run.name],
                depths=depths,
                samples=samples,
                seed=settings.seed,
                filler=run.tokens,
                step=settings.progress.of(run.name),
            )
        except TooShortError as error:
            raise ValueError(f"retrieval.lengths: {error}") from error
        if frame.empty:
            continue
        frames[run.name] = frame
        for (task, length), rows in frame.groupby(["task", "length"]):
            evaluation.metrics[tag(run, runs, f"{task}_accuracy@{length}")] = rows["accuracy"].mean()
    if not frames:
        return evaluation
    words = listed([f"{length:,}" for length in sorted({n for frame in frames.values() for n in frame["length"]})])
    figures = retrieval_figures(frames)
    if not figures:
        evaluation.frames["retrieval"] = pd.concat(frames, names=["model"]).reset_index("model")
    text = (
        f"Questions about facts somewhere in the window, in prompts of {words} tokens. Answers are scored "
        f"teacher-forced: each token is predicted from the right ones before it.\n\n{at_chance(frames)}"
    )
    evaluation.sections.append(Section("Retrieval", text, figures))
    if settings.parts is not None:  # it was asked for
        evaluation.lead = Section("Conclusion", at_chance(frames), [_overview(frames)])
    return evaluation


def retrieval(
    model: nn.Module,
    tokenizer: Tokenizer,
    tasks: Sequence[str] | None = None,
    *,
    lengths: Sequence[int],
    depths: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0),
    samples: int = 10,
    seed: int = 0,
    filler: str | np.ndarray | None = None,
    tokens_at_once: int = TOKENS_AT_ONCE,
    step: StepRunner = at_once,
) -> pd.DataFrame:
    """Return how well a causal model answers retrieval prompts, by task, length and depth.

        retrieval(model, ByteTokenizer(), ["passkey"], lengths=[256, 1024], filler=test_text)

    A row depends only on its own task, length and depth. Of `passkey`, `json_kv` and `babilong` prompts of different
    lengths have the same facts and question.

    Args:
        model: tokens (B, T) in, logits (B, T, V) out; it is not run beyond its `max_length`, if it has one.
        tasks: names of `TASKS`; None is `DEFAULT_TASKS`, at the lengths that have room for them.
        lengths: most tokens of a prompt, the answer included.
        depths: depth of the fact, from 0 (the beginning) to 1 (right before the question). A task without a depth has
            one row for each length.
        samples: prompts of each row, at least 1.
        filler: text to hide facts in, as of `Haystack`, where a task has facts in a text.
        tokens_at_once: most tokens of a batch, which has at least one prompt; it bounds the memory.
        step: of a `Progress`, each of whose steps is a row, with its tokens as its work.

    Returns:
        Columns `task`; `length`; `depth` (NaN if the task has none); `samples`; `accuracy`, the share of prompts for
        which every token of the answer is the most probable one, and `token_accuracy`, the share of such tokens, both
        in per cent; `loss`, nats per token of the answers; `chance_loss`, the loss of a guess that knows the form of an
        answer but not the prompt. Beyond the end of a model, `samples` is 0 and the other numbers are NaN.

    Raises:
        ValueError: for another task, or a length without room for a task's facts, question and answer.
    """
    require_tasks(tasks or ())
    haystack, end = Haystack(tokenizer, filler), getattr(model, "max_length", None)
    cells: list[tuple[RetrievalTask, int, float]] = []
    for task, length in product((TASKS[name] for name in tasks or DEFAULT_TASKS), sorted(set(lengths))):
        try:
            task.prompts(haystack, length, samples=samples, seed=seed)
        except TooShortError:
            if tasks is not None:
                raise
        else:
            cells += [(task, length, depth) for depth in (sorted(set(depths)) if task.has_depth else [math.nan])]
    rows = []
    for task, length, depth in cells:
        row: dict[str, object] = {"task": task.name, "length": length, "depth": depth, "samples": 0}
        if end is None or length <= end:
            score = partial(_numbers, model, task, (haystack, length, depth, samples, seed), tokens_at_once)
            where = f" and depth {depth:g}" if task.has_depth else ""
            numbers = step(f"{task.name} at {length:,} tokens{where}", samples * length, score)
            row |= {"samples": samples, **dict(zip(METRICS, numbers.tolist(), strict=True))}
        rows.append(row)
    return pd.DataFrame(rows, columns=["task", "length", "depth", "samples", *METRICS])


def _numbers(model: nn.Module, task: RetrievalTask, of_prompts: tuple[Any, ...], tokens_at_once: int) -> np.ndarray:
    """Return the `METRICS` of the prompts that a task makes of these arguments, (4,) float64."""
    prompts = task.prompts(*of_prompts)
    scores = score_answers(model, prompts, tokens_at_once)
    tokens = scores["tokens"].sum()
    choices = sum(prompt.log_choices for prompt in prompts)
    accuracy, right = 100 * scores["correct"].mean(), 100 * scores["tokens_correct"].sum()
    return np.array([accuracy, right / tokens, scores["loss"].sum() / tokens, choices / tokens], np.float64)


def _overview(frames: Mapping[str, pd.DataFrame]) -> Table:
    """Return the accuracy of each task and length, for the beginning of the report and the terminal."""
    rows = pd.concat(frames, names=["model"])
    means = rows.groupby(["model", "task", "length"], sort=False)["accuracy"].mean().unstack()
    shown = means.map(lambda value: None if math.isnan(value) else f"{value:.1f}")
    shown = shown.rename(columns=length_name).rename_axis(columns=None).reset_index()
    shown["model"] = "retrieval accuracy (%)" + (": " + shown["model"] if len(frames) > 1 else "")
    caption = "Mean over depths. Columns are the tokens of a prompt. A dash is beyond the encoding, or too short."
    return Table("retrieval_overview", "Retrieval at a glance", caption, shown.rename(columns={"model": "metric"}))


def retrieval_figures(frames: Mapping[str, pd.DataFrame]) -> list[ReportFigure]:
    """Return a heat map for each task that some model does better than a guess, and a table of everything.

    The frames are from `retrieval`, by the name of the model, with the same tasks and depths. If no model does better
    than a guess in any task, nothing is returned.
    """
    together = pd.concat(frames, names=["model"]).reset_index("model")
    plots = [heat_map(rows, str(task)) for task, rows in together.groupby("task", sort=False) if is_above_chance(rows)]
    table = Table(
        name="retrieval",
        title="Retrieval at every length and depth",
        caption="In per cent, accuracy counts answers that are right in every token, token accuracy single tokens; "
        "a loss (nats per token) below chance loss means that the model has learned something, even if no answer is "
        "right.",
        frame=together,
        decimals={"depth": 2, "accuracy": 1, "token_accuracy": 1, "loss": 3, "chance_loss": 3},
    )
    return [*plots, table] if plots else []


def is_above_chance(rows: pd.DataFrame) -> bool:
    """Return whether a model does a task clearly better than a guess which knows only the form of answers.

    It does if it answers a prompt right, of which guesses have almost no chance, or if its loss at some length is at
    most `CLEARLY` times the loss of the guess. The rows are as in `retrieval` for one task, with a column `model`.
    """
    of_length = rows.groupby(["model", "length"])[["loss", "chance_loss"]].mean()
    return bool((rows["accuracy"] > 0).any() or (of_length["loss"] <= CLEARLY * of_length["chance_loss"]).any())


def at_chance(frames: Mapping[str, pd.DataFrame]) -> str:
    """Return a line on the tasks that no model does better than a guess; empty if there is none."""
    together = pd.concat(frames, names=["model"]).reset_index("model")
    by_task = together.groupby("task", sort=False)
    silent = {str(task).replace("_", " "): rows for task, rows in by_task if not is_above_chance(rows)}
    if not silent:
        return ""
    ratios = pd.concat(rows["loss"] / rows["chance_loss"] for rows in silent.values())
    return (
        f"No better than a guess that knows only the form of an answer: {', '.join(silent)} (loss {ratios.min():.1f} "
        f"to {ratios.max():.1f} times the loss of the guess)."
    )


def heat_map(rows: pd.DataFrame, task: str) -> Plot:
    """Draw length against depth, with accuracy in each cell, or loss over chance if no answer is right at all.

    The rows are as in `retrieval` for one task, with a column `model`. A task without a depth has a row for each
    model, and a task outside of `TASKS` has no source.
    """
    known, samples = TASKS.get(task), int(rows["samples"].max())
    by_loss = bool((rows["accuracy"] == 0).any() and not (rows["accuracy"] > 0).any())
    has_depth = bool(rows["depth"].notna().any())
    lengths, models = sorted(set(rows["length"])), list(dict.fromkeys(rows["model"]))
    panel_names = models if has_depth else [""]
    lines = sorted(set(rows["depth"])) if has_depth else models
    rows = rows.assign(
        panel=rows["model"] if has_depth else "",
        line=rows["depth"] if has_depth else rows["model"],
        value=rows["loss"] / rows["chance_loss"] if by_loss else rows["accuracy"],
    )
    height = 0.7 + 0.36 * len(lines)
    # A few lengths of one model need little room: cells much wider than high look like bars.
    names = 0.08 * max(len(written(str(line))) for line in lines)
    width = min(WIDTH, 3.0 + names + 0.8 * len(lengths))
    labels = {"xlabel": "length (tokens)", "ylabel": "depth" if has_depth else ""}
    figure, panels = panel_grid(len(panel_names), 1, width, height, 1.0, sharex=True, sharey=True, **labels)
    # Brighter is better. The scale of losses ends at 4, so that a few outliers do not flatten the rest.
    colours = matplotlib.colormaps["viridis_r" if by_loss else "viridis"].with_extremes(bad="0.92")
    scale = Normalize(0, np.clip(rows["value"].max(), 2, 4) if by_loss else 100)
    for panel, name in zip(panels.flat, panel_names, strict=False):
        cells = rows[rows["panel"] == name].pivot(index="line", columns="length", values="value")
        cells = cells.reindex(index=lines, columns=lengths)
        image = panel.imshow(cells, aspect="auto", cmap=colours, norm=scale)
        for (row, column), value in np.ndenumerate(cells.to_numpy()):
            red, green, blue, _ = image.to_rgba(value)
            colour = "white" if 0.3 * red + 0.59 * green + 0.11 * blue < 0.5 else "black"
            text = "–" if np.isnan(value) else f"{value:.{2 if by_loss else 0}f}"
            panel.text(column, row, text, ha="center", va="center", fontsize="small", color=colour)
        panel.set_xticks(range(len(lengths)), [f"{length:,}" for length in lengths], rotation=45, ha="right")
        panel.set_yticks(range(len(lines)), [f"{line:g}" if has_depth else written(str(line)) for line in lines])
        if len(panel_names) > 1:
            panel.set_title(written(str(name)), fontsize="medium")
    label, extend = ("loss / chance", "max") if by_loss else ("accuracy (%)", "neither")
    figure.colorbar(ScalarMappable(scale, colours), ax=list(panels.flat), label=label, extend=extend)
    title = task.replace("_", " ").capitalize()
    cell = "No answer is right: loss of the answers over the loss of a guess which knows only their form, " * by_loss
    cell = cell or "Share of prompts whose whole answer the model predicts, in per cent, "
    return Plot(
        name=f"retrieval_{task}",
        title=f"{title}: loss over chance" if by_loss else f"{title}: accuracy",
        caption=f"{f'{known.about} ' if known else ''}{cell}over {samples} prompts a cell. A depth of 0 is the "
        "beginning of the text, 1 its end; a dash is beyond the end of the encoding.",
        source=known.source if known else "",
        figure=figure,
    )
