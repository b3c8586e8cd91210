"""Loss by window length, and by place in the window."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from poslab.evaluation.evaluation import Evaluation
from poslab.evaluation.extrapolation import NON_OVERLAPPING, extrapolation
from poslab.evaluation.extrapolation_figures import extrapolation_figures
from poslab.evaluation.settings import Settings
from poslab.evaluation.side_by_side import lengths_of, tag, training_lengths
from poslab.evaluation.subjects import Subject
from poslab.report.page import Section

PLACE = 1


def make(subjects: Sequence[Subject], settings: Settings) -> Evaluation:
    """Return the section, the metrics at every length, and the table of losses by position."""
    evaluation = Evaluation()
    by_length: dict[str, pd.DataFrame] = {}
    by_position: dict[str, pd.DataFrame] = {}
    lengths = lengths_of(subjects, settings)
    for one in subjects:
        by_length[one.name], by_position[one.name] = extrapolation(
            one.model,
            one.tokens,
            lengths,
            one.training_length,
            one.tokenizer.end_id,
            one.bytes_per_token,
            settings.stride,
            one.keep_documents_apart,
            settings.seed,
        )
        for row in by_length[one.name].to_dict("records"):
            protocol = "" if row["protocol"] == NON_OVERLAPPING else "sliding_"
            for metric in ("loss", "bits_per_byte", "perplexity", "accuracy"):
                evaluation.metrics[tag(one, subjects, f"{protocol}{metric}@{row['length']}")] = row[metric]
    evaluation.frames["per_position"] = pd.concat(by_position, names=["model"]).reset_index("model")
    figures = extrapolation_figures(by_length, by_position, training_lengths(subjects))
    text = "The same text, read in windows of several lengths, most of which did not occur in training."
    evaluation.sections.append(Section("Length extrapolation", text, figures))
    return evaluation
