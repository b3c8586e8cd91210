"""Metrics by length, and for text the loss by position in the window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from poslab.data.corpus import TextSplits
from poslab.evaluation import extrapolation
from poslab.evaluation.by_length import ALL, metrics_by_length, metrics_figures, overview_table
from poslab.evaluation.evaluated_run import Ability, EvaluatedRun
from poslab.evaluation.evaluation import Evaluation, lengths_of, tag, training_lengths, with_pretrained_lengths
from poslab.evaluation.scores.intervals import interval
from poslab.evaluation.scores.items import MeasuredRun
from poslab.evaluation.scores.measure import scored
from poslab.evaluation.scores.tokens import CONTEXT_GAIN
from poslab.evaluation.settings import Settings
from poslab.evaluation.summary import (
    WITHIN,
    SummaryMetric,
    comparison_table,
    longer_context_table,
    why_unlearned,
    within_tolerance,
)
from poslab.report.figures import Section, Table

ORDER = 1
NEEDS: frozenset[Ability] = frozenset({"predictions"})

BITS = {extrapolation.NON_OVERLAPPING: "bits per byte", extrapolation.SLIDING: "bits per byte, sliding"}

CAPTION = "A dash is beyond the end of the encoding."
WITHIN_CAPTION = (
    f"'{WITHIN}' is the longest length up to which a model is, with 95% certainty, at most 5% worse than at its "
    "training length."
)


def make(runs: Sequence[EvaluatedRun], settings: Settings) -> Evaluation:
    """Return the conclusion, the section, and the metrics at every length."""
    return _of_text(runs, settings) if runs[0].text is not None else _of_items(runs, settings)


def _of_text(runs: Sequence[EvaluatedRun], settings: Settings) -> Evaluation:
    evaluation = Evaluation()
    results: dict[str, extrapolation.Extrapolation] = {}
    lengths = lengths_of(runs, settings)
    windows = extrapolation.windows_of
    kinds = ((run.model, *kind) for run in runs for kind in windows(len(run.tokens), lengths, settings.stride))
    settings.progress.begin("extrapolation", sum(extrapolation.work_of(*kind) for kind in kinds))
    for run in runs:
        assert run.text is not None and isinstance(run.data.splits, TextSplits)
        results[run.name] = extrapolation.extrapolate(
            run.model,
            run.text.tokens,
            lengths,
            run.training_length,
            run.tokenizer.end_id,
            run.text.bytes_per_token,
            settings.stride,
            run.text.documents_apart,
            settings.seed,
            run.data.splits.unigram,
            settings.progress.of(run.name),
            run.tokenizer.sizes(run.text.tokens[1:]),
        )
        for row in results[run.name].by_length.to_dict("records"):
            protocol = "" if row["protocol"] == extrapolation.NON_OVERLAPPING else "sliding_"
            for metric in ("loss", "bits_per_byte", "perplexity", "accuracy"):
                evaluation.metrics[tag(run, runs, f"{protocol}{metric}@{row['length']}")] = row[metric]
        for (kind, length), gain in results[run.name].items.items():
            if kind == CONTEXT_GAIN:
                ends = interval(gain, False, settings.seed)
                for suffix, value in zip(("", "_low", "_high"), (gain.value, *ends), strict=True):
                    evaluation.metrics[tag(run, runs, f"{CONTEXT_GAIN}{suffix}@{length}")] = value
    by_length = {name: result.by_length for name, result in results.items()}
    by_position = {name: result.by_position for name, result in results.items()}
    evaluation.frames["per_position"] = pd.concat(by_position, names=["model"]).reset_index("model")
    trained = training_lengths(runs)
    figures = extrapolation.extrapolation_figures(by_length, by_position, trained)
    text = "The same text in windows of several lengths, most of which did not occur in training."
    evaluation.sections.append(Section("Length extrapolation", text, figures))
    scores = {
        name: {
            length: items
            for (protocol, length), items in result.items.items()
            if protocol == extrapolation.NON_OVERLAPPING
        }
        for name, result in results.items()
    }
    verdicts = {name: why_unlearned(result.items, trained[name]) for name, result in results.items()}
    unlearned = {name: verdict for name, verdict in verdicts.items() if verdict is not None}
    summary = SummaryMetric(BITS[extrapolation.NON_OVERLAPPING], False, scores, trained, settings.seed, unlearned)
    rows = pd.concat(by_length, names=["model"]).reset_index("model")
    rows = rows.assign(metric=rows["protocol"].map(BITS), value=rows["bits_per_byte"])
    caption = f"Lower is better. Columns are window lengths in tokens. {CAPTION}"
    table = overview_table(rows, dict.fromkeys(BITS.values(), 3), caption)
    longer = longer_context_table(summary, {name: result.items for name, result in results.items()})
    evaluation.lead = _conclusion(table, summary, longer)
    return evaluation


def _conclusion(overview: Table, summary: SummaryMetric, longer: Table | None = None) -> Section:
    """Return the section that a report starts with: every length at a glance with a verdict, and a comparison.

    Where a table of longer context has the verdicts, the overview has none.
    """
    if longer is None and (verdicts := within_tolerance(summary)):
        frame = overview.frame.assign(**{WITHIN: overview.frame["model"].map(verdicts)})
        if "metric" in frame:
            frame[WITHIN] = frame[WITHIN].where(frame["metric"] == summary.name)
        overview = replace(overview, frame=frame, caption=f"{overview.caption} {WITHIN_CAPTION}")
    figures = (overview, comparison_table(summary), longer)
    return Section("Conclusion", "", [figure for figure in figures if figure is not None])


def _of_items(runs: Sequence[EvaluatedRun], settings: Settings) -> Evaluation:
    evaluation = Evaluation()
    task, data = runs[0].task, runs[0].data
    lengths = settings.lengths
    if not task.aggregate_lengths:
        lengths = with_pretrained_lengths(lengths or data.lengths_of(runs[0].split), runs, settings)
    measured = {}
    for run in runs:
        with run.autocast():
            measured[run.name] = scored(run, lengths, MeasuredRun(run.name, run.split, {}, {}))
    rows = metrics_by_length(measured, task.open_ended, settings.seed)
    for run in runs:
        for row in rows[rows["model"] == run.name].to_dict("records"):
            suffix = "" if row["length"] == ALL else f"@{row['length']}"
            evaluation.metrics[tag(run, runs, f"{row['metric']}{suffix}")] = row["value"]
    if len(set(rows["length"]) - {ALL}) == 1:  # which is all
        rows = rows[rows["length"] != ALL]
    # Not those which follow from another, as perplexity does.
    independent = rows[rows["low"].notna() | ~rows["metric"].isin(task.open_ended) | (rows["metric"] == "loss")]
    shown = [metric for metric in task.shown if metric in set(independent["metric"])]
    trained = training_lengths(runs)
    # The whole of an image or a sound has a size, so that a multiple of the training size says how much larger it is.
    multiples_of = max(trained.values()) if runs[0].reads_patches and len(set(trained.values())) == 1 else None
    figures = metrics_figures(rows, shown, task.open_ended, trained, data.splits.length_means, multiples_of)
    text = f"The items of the {runs[0].split} split at each length. A length is the {data.splits.length_means}."
    evaluation.sections.append(Section("Metrics by length", text, figures))
    scores = {
        name: {
            length or ALL: items
            for (metric, length), items in measured_run.scores.items()
            if metric == task.headline and (length or ALL) in set(rows["length"])
        }
        for name, measured_run in measured.items()
    }
    is_share, name = task.headline not in task.open_ended, task.headline.replace("_", " ")
    summary = SummaryMetric(name, is_share, scores, trained, settings.seed, multiples_of=multiples_of)
    decimals = {metric: 3 if metric in task.open_ended else 1 for metric in shown}
    caption = f"Columns are lengths: the {data.splits.length_means}. {CAPTION}"
    table = overview_table(rows[rows["metric"].isin(shown)], decimals, caption, multiples_of)
    evaluation.lead = _conclusion(table, summary)
    return evaluation
