"""Figures of `extrapolation`, for one model or several side by side."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import fill

import pandas as pd

from poslab.configuration.labels import written
from poslab.evaluation.extrapolation.length_figures import lines_by_length
from poslab.evaluation.extrapolation.text import NON_OVERLAPPING, SLIDING
from poslab.evaluation.scores.bootstrap import FEWEST
from poslab.report.figures import (
    WIDTH,
    Plot,
    ReportFigure,
    Table,
    legend_columns,
    panel_grid,
    style,
    widen,
    without_marker,
)

FEW = 30
"""Fewest tokens whose mean loss is drawn: that of fewer depends more on the tokens than on their place."""

MIN_BITS, MIN_NATS = 0.05, 0.05
"""Least spans of the axes of bits per byte and of loss, so that noise does not look like a steep gain."""

SOURCE = "Press, Smith, Lewis, Train Short, Test Long (ICLR 2022), section 2 and appendix B"


def extrapolation_figures(
    by_length: Mapping[str, pd.DataFrame], by_position: Mapping[str, pd.DataFrame], training_lengths: Mapping[str, int]
) -> list[ReportFigure]:
    """Return pictures and a table of the two results of `extrapolation`, by the name of the model.

    Training lengths are tokens of a training window, here and below.
    """
    together = pd.concat(by_length, names=["model"]).reset_index("model")
    several = together["length"].nunique() > 1
    return [
        *([bits_by_length(together, training_lengths)] if several else []),
        loss_by_context(pd.concat(by_position, names=["model"]).reset_index("model"), training_lengths),
        Table(
            name="per_length",
            title="Every length",
            caption="Windows move by their stride, and predict so many tokens together. "
            "Low and high are a 95 % bootstrap interval over documents (pieces is their number), or over "
            "pieces of 1,024 tokens if there are fewer than 10 documents. Early loss is that of tokens with less than "
            "half a training window before them (in sliding windows, those of the first one only), tail loss that of "
            f"tokens with more than a whole one.{_dashes(together)}",
            source=SOURCE,
            frame=together,
        ),
    ]


def bits_by_length(together: pd.DataFrame, training_lengths: Mapping[str, int]) -> Plot:
    """Draw bits per byte over the window length, under either protocol, from tables with a column `model`."""
    figure = lines_by_length(
        together.assign(value=together["bits_per_byte"], low=together["bits_low"], high=together["bits_high"]),
        training_lengths,
        by="protocol",
        titles={protocol: f"{protocol} windows" for protocol in (NON_OVERLAPPING, SLIDING)},
        xlabel="window length (tokens)",
        ylabel="bits per byte",
        least=dict.fromkeys((NON_OVERLAPPING, SLIDING), MIN_BITS),
        sharey=True,
    )
    return Plot(
        name="bits_by_length",
        title="Prediction beyond the training length",
        caption="Lower is better; a line that stays flat to the right of its dotted training length belongs to a "
        f"model that reads longer texts as well as those it was trained on. {_interval(together)}",
        source=SOURCE,
        figure=figure,
    )


def loss_by_context(together: pd.DataFrame, training_lengths: Mapping[str, int]) -> Plot:
    """Draw the loss of a token over the number of tokens before it, from tables by position with a column `model`."""
    rows = together[together["protocol"] == NON_OVERLAPPING]
    models = list(rows["model"].unique())
    columns, labels = min(2, max(1, len(models))), {"xlabel": "tokens before it", "ylabel": "loss (nats)"}
    figure, panels = panel_grid(len(models), columns, WIDTH, 2.3, margin=0.9, sharex=True, sharey=True, **labels)
    lengths = sorted(set(rows["length"]))
    for panel, model in zip(panels.flat, models, strict=False):
        for place, length in enumerate(lengths):
            own = rows[(rows["model"] == model) & (rows["length"] == length)]
            middle = (own["context_from"] * own["context_to"]) ** 0.5
            loss = own["loss"].where(own["tokens"] >= FEW)
            panel.plot(middle, loss, linewidth=1.2, label=f"{length:,}", **without_marker(style(place)))
        panel.set_xscale("log", base=2)
        panel.xaxis.set_major_formatter("{x:,.0f}")
        panel.axvline(training_lengths[model], color="0.6", linestyle=":")
        panel.set_title(fill(written(str(model)), 40 // columns), fontsize="medium")
    widen(panels[0, 0], MIN_NATS)
    handles, names = panels.flat[0].get_legend_handles_labels()
    ncols = legend_columns(names, WIDTH)
    figure.legend(handles, names, title="window", loc="outside lower center", ncols=ncols, frameon=False)
    return Plot(
        name="loss_by_context",
        title="Loss by place in the window",
        caption="Each line is one length of non-overlapping windows: it falls while more context helps, and rises "
        "where a model meets distances that it has not learned; the dotted line is the training length. Means of fewer "
        "than 30 tokens are left out.",
        source="Press et al., appendix B: non-overlapping windows raise the loss, since the tokens at their beginning "
        "see little context",
        figure=figure,
    )


def _interval(together: pd.DataFrame) -> str:
    """Return a sentence on the intervals that are drawn, or why none is."""
    counts = sorted({int(count) for count in together["pieces"].dropna()})
    over = f"{' or '.join(map(str, counts)) or 'no'} documents or pieces of a document"
    if together["bits_low"].notna().any():
        return f"Shaded: 95 % bootstrap interval over {over}."
    return f"No interval is drawn: it needs at least {FEWEST}, and the text has {over}."


def _dashes(together: pd.DataFrame) -> str:
    """Return sentences on the missing values of the table by length, one for each reason that occurs."""
    scored = together[together["tokens"].notna()]
    known = scored[scored["loss"].notna()]
    reasons = {
        "A row of dashes is a length beyond the end of the encoding.": len(scored) < len(together),
        f"Low and high are dashes with fewer than {FEWEST} documents or pieces.": known["bits_low"].isna().any(),
        "A tail loss is a dash where no token has that many before it.": known["tail_loss"].isna().any(),
        "A loss is a dash where the model predicts what is not a number.": len(known) < len(scored),
    }
    return "".join(f" {sentence}" for sentence, occurs in reasons.items() if occurs)
