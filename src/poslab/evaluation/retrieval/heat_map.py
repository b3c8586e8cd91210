"""Figures of `retrieval`: length against depth, for one model or several side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from poslab.configuration.labels import written
from poslab.evaluation.retrieval.measurement import TASKS
from poslab.report.figures import WIDTH, Plot, ReportFigure, Table, panel_grid

CLEARLY = 0.9
"""Largest share of the loss of a guess at which a model clearly knows more than the form of answers."""


def retrieval_figures(frames: Mapping[str, pd.DataFrame]) -> list[ReportFigure]:
    """Return a heat map for each task that some model does better than a guess, and a table of everything.

    The frames are from `retrieval`, by the name of the model, with the same tasks and depths. If no model does better
    than a guess in any task, nothing is returned.
    """
    together = pd.concat(frames, names=["model"]).reset_index("model")
    pictures, said = [], set[str]()
    for task, rows in together.groupby("task", sort=False):
        if not is_above_chance(rows):
            continue
        sentences = [sentence for sentence in explanation(rows) if sentence not in said]
        said.update(sentences)
        pictures.append(heat_map(rows, str(task), sentences or ["Its cells are as above."]))
    table = Table(
        name="retrieval",
        title="Retrieval at every length and depth",
        caption="In per cent, accuracy counts answers that are right in every token, token accuracy single tokens; "
        "a loss (nats per token) below chance loss means that the model has learned something, even if no answer is "
        "right.",
        frame=together,
        decimals={"depth": 2, "accuracy": 1, "token_accuracy": 1, "loss": 3, "chance_loss": 3},
    )
    return [*pictures, table] if pictures else []


def is_above_chance(rows: pd.DataFrame) -> bool:
    """Return whether a model does a task clearly better than a guess which knows only the form of answers.

    It does if it answers a prompt right, of which guesses have almost no chance, or if its loss at some length is at
    most `CLEARLY` times that of the guess. The rows are those of `retrieval` for one task, with a column `model`.
    """
    of_length = rows.groupby(["model", "length"])[["loss", "chance_loss"]].mean()
    return bool((rows["accuracy"] > 0).any() or (of_length["loss"] <= CLEARLY * of_length["chance_loss"]).any())


def at_chance(frames: Mapping[str, pd.DataFrame]) -> str:
    """Return a sentence on the tasks that no model does better than a guess; empty if there is none."""
    together = pd.concat(frames, names=["model"]).reset_index("model")
    silent = {str(task): rows for task, rows in together.groupby("task", sort=False) if not is_above_chance(rows)}
    if not silent:
        return ""
    ratios = pd.concat(rows["loss"] / rows["chance_loss"] for rows in silent.values())
    *before, last = [task.replace("_", " ") for task in silent]
    tasks = f"{', '.join(before)} or {last}" if before else last
    subject = "No run" if len(frames) > 1 else "The run does not"
    does = "does" if len(frames) > 1 else "do"
    return (
        f"{subject} {does} {tasks} better than a guess that knows only the form of an answer: no answer is right, and "
        f"the loss is {ratios.min():.1f} to {ratios.max():.1f} times that of the guess."
    )


def explanation(rows: pd.DataFrame) -> list[str]:
    """Return sentences that explain the cells of `heat_map`, which may be the same for other tasks."""
    samples = int(rows["samples"].max())
    prompts = f"{samples} prompts" if samples != 1 else "one prompt"
    sentences = [
        f"Each cell is of {prompts}, and no answer is right at all, so it is the loss of the answers over that of a "
        "guess which knows only their form: below 1, the model knows more."
        if _by_loss(rows)
        else f"Each cell is the share of {prompts} whose whole answer the model predicts, in per cent: one of them "
        f"makes {100 / max(samples, 1):.3g}."
    ]
    if rows["depth"].notna().any():
        sentences.append("A depth of 0 is the beginning of the text, 1 its end.")
    if rows["accuracy"].isna().any() or len(set(map(frozenset, rows.groupby("model")["length"].unique()))) > 1:
        sentences.append("A dash is a length without a measurement, or beyond the end of the encoding.")
    return sentences


def _by_loss(rows: pd.DataFrame) -> bool:
    return bool((rows["accuracy"] == 0).any() and not (rows["accuracy"] > 0).any())


def heat_map(rows: pd.DataFrame, task: str, sentences: Sequence[str] | None = None) -> Plot:
    """Draw length against depth, with accuracy in each cell, or loss over chance if no answer is right at all.

    The rows are those of `retrieval` for one task, with a column `model`. A task without a depth has a row for each
    model, and a task outside of `TASKS` has no source. The caption ends with the sentences; None is `explanation`.
    """
    known = TASKS.get(task)
    by_loss, caption = _by_loss(rows), " ".join(explanation(rows) if sentences is None else sentences)
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
        panel.imshow(cells, aspect="auto", cmap=colours, norm=scale)
        _numbers(panel, cells.to_numpy(), decimals=2 if by_loss else 0)
        panel.set_xticks(range(len(lengths)), [f"{length:,}" for length in lengths], rotation=45, ha="right")
        panel.set_yticks(range(len(lines)), [f"{line:g}" if has_depth else written(str(line)) for line in lines])
        if len(panel_names) > 1:
            panel.set_title(written(str(name)), fontsize="medium")
    label, extend = ("loss / chance", "max") if by_loss else ("accuracy (%)", "neither")
    figure.colorbar(ScalarMappable(scale, colours), ax=list(panels.flat), label=label, extend=extend)
    title = task.replace("_", " ").capitalize()
    return Plot(
        name=f"retrieval_{task}",
        title=f"{title}: loss over chance" if by_loss else f"{title}: accuracy",
        caption=f"{known.about} {caption}" if known else caption,
        source=known.source if known else "",
        figure=figure,
    )


def _numbers(panel: Axes, cells: np.ndarray, decimals: int) -> None:
    """Write the number of each cell, light on dark and dark on light; a dash if it has none."""
    image = panel.get_images()[0]
    for (row, column), value in np.ndenumerate(cells):
        red, green, blue, _ = image.to_rgba(value)
        dark = 0.3 * red + 0.59 * green + 0.11 * blue < 0.5
        text = "–" if np.isnan(value) else f"{value:.{decimals}f}"
        panel.text(column, row, text, ha="center", va="center", fontsize="small", color="white" if dark else "black")
