"""Metrics by length, and for text the loss by place in the window."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from poslab.evaluation.evaluated_run import Ability, EvaluatedRun
from poslab.evaluation.evaluation import Evaluation
from poslab.evaluation.extrapolation.conclusion import SummaryMetric, conclusion, why_unlearned
from poslab.evaluation.extrapolation.length_figures import ALL, overview_table
from poslab.evaluation.extrapolation.task_figures import metrics_by_length, metrics_figures, metrics_shown
from poslab.evaluation.extrapolation.text import (
    NON_OVERLAPPING,
    SLIDING,
    Extrapolation,
    extrapolate,
    windows_of,
    work_of,
)
from poslab.evaluation.extrapolation.text_figures import extrapolation_figures
from poslab.evaluation.scores.items import MeasuredRun
from poslab.evaluation.scores.measure import measure, scored
from poslab.evaluation.settings import Settings
from poslab.evaluation.side_by_side import lengths_of, tag, training_lengths, with_pretrained_lengths
from poslab.report.page import Section

PLACE = 1
NEEDS: frozenset[Ability] = frozenset({"predictions"})

BITS = {NON_OVERLAPPING: "bits per byte", SLIDING: "bits per byte, sliding"}

ONE_SEED = "Intervals are over the items of the test: another seed of the training can change an order."


def make(runs: Sequence[EvaluatedRun], settings: Settings) -> Evaluation:
    """Return the conclusion, the section, and the metrics at every length."""
    return _of_text(runs, settings) if runs[0].text is not None else _of_items(runs, settings)


def _of_text(runs: Sequence[EvaluatedRun], settings: Settings) -> Evaluation:
    evaluation = Evaluation()
    found: dict[str, Extrapolation] = {}
    lengths = lengths_of(runs, settings)
    work = 0.0
    for run in runs:
        windows = windows_of(len(run.tokens), lengths, settings.stride)
        work += sum(work_of(run.model, own) for _, own in windows)
    settings.progress.begin("extrapolation", work)
    for run in runs:
        assert run.text is not None
        found[run.name] = extrapolate(
            run.model,
            run.text.tokens,
            lengths,
            run.training_length,
            run.tokenizer.end_id,
            run.text.bytes_per_token,
            settings.stride,
            run.text.documents_apart,
            settings.seed,
            run.unigram,
            settings.progress.of(run.name),
        )
        for row in found[run.name].by_length.to_dict("records"):
            protocol = "" if row["protocol"] == NON_OVERLAPPING else "sliding_"
            for metric in ("loss", "bits_per_byte", "perplexity", "accuracy"):
                evaluation.metrics[tag(run, runs, f"{protocol}{metric}@{row['length']}")] = row[metric]
    by_length = {name: own.by_length for name, own in found.items()}
    by_position = {name: own.by_position for name, own in found.items()}
    evaluation.frames["per_position"] = pd.concat(by_position, names=["model"]).reset_index("model")
    figures = extrapolation_figures(by_length, by_position, training_lengths(runs))
    text = "The same text, read in windows of several lengths, most of which did not occur in training."
    evaluation.sections.append(Section("Length extrapolation", text, figures))
    scores = {
        name: {length: items for (protocol, length), items in own.items.items() if protocol == NON_OVERLAPPING}
        for name, own in found.items()
    }
    trained = training_lengths(runs)
    unlearned = {name: reason for name, own in found.items() if (reason := why_unlearned(own.items, trained[name]))}
    words = runs[0].task.length_words
    headline = SummaryMetric("{} bits per byte", False, scores, trained, words, settings.seed, unlearned)
    rows = pd.concat(by_length, names=["model"]).reset_index("model")
    rows = rows.assign(metric=rows["protocol"].map(BITS), value=rows["bits_per_byte"])
    caption = "Lower is better. Columns are window lengths in tokens, and a dash is beyond the end of the encoding. "
    caption += ONE_SEED
    table = overview_table(rows, "metric", dict.fromkeys(BITS.values(), 3), caption)
    evaluation.lead = Section("Conclusion", "\n\n".join(conclusion(headline)), [table])
    return evaluation


def _measured(run: EvaluatedRun, lengths: Sequence[int] | None) -> MeasuredRun:
    if run.directory is not None:
        return measure(run.path, lengths, run.split, run.device, run.directory.trust)
    return scored(
        run.model,
        run.task,
        run.data,
        run.recipe,
        lengths,
        MeasuredRun(run.name, run.split, {}, {}),
    )


def _of_items(runs: Sequence[EvaluatedRun], settings: Settings) -> Evaluation:
    evaluation = Evaluation()
    task, data = runs[0].task, runs[0].data
    lengths = settings.lengths
    if not task.aggregate_lengths:
        lengths = with_pretrained_lengths(lengths or data.lengths_of(runs[0].split), runs, settings)
    measured = {run.name: _measured(run, lengths) for run in runs}
    rows = metrics_by_length(measured, task.open_ended, settings.seed)
    for run in runs:
        for row in rows[rows["model"] == run.name].to_dict("records"):
            place = "" if row["length"] == ALL else f"@{row['length']}"
            evaluation.metrics[tag(run, runs, f"{row['metric']}{place}")] = row["value"]
    if len(set(rows["length"]) - {ALL}) == 1:  # which is all
        rows = rows[rows["length"] != ALL]
    shown = metrics_shown(rows, task)
    trained = training_lengths(runs)
    # The whole of a picture or a sound has a size, so that a multiple of that of training says how much larger it is.
    multiples_of = max(trained.values()) if runs[0].reads_patches and len(set(trained.values())) == 1 else None
    figures = metrics_figures(rows, shown, task.open_ended, trained, data.length_means, multiples_of)
    text = f"The items of the {runs[0].split} split at each length. A length is the {data.length_means}."
    evaluation.sections.append(Section("Metrics by length", text, figures))
    scores = {
        name: {
            length or ALL: items
            for (metric, length), items in own.scores.items()
            if metric == task.headline and (length or ALL) in set(rows["length"])
        }
        for name, own in measured.items()
    }
    is_share = task.headline not in task.open_ended
    form = f"an {task.headline} of {{}} %" if is_share else f"a {task.headline} of {{}}"
    headline = SummaryMetric(form, is_share, scores, trained, task.length_words, settings.seed)
    caption = f"Columns are lengths: the {data.length_means}. A dash is beyond the end of the encoding. {ONE_SEED}"
    decimals = {metric: 3 if metric in task.open_ended else 1 for metric in shown}
    table = overview_table(rows[rows["metric"].isin(shown)], "metric", decimals, caption, multiples_of)
    evaluation.lead = Section("Conclusion", "\n\n".join(conclusion(headline)), [table])
    return evaluation
