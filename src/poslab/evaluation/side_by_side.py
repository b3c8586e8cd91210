"""Models side by side: the lengths that they share, and names for the metrics and figures of each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from poslab.evaluation.evaluated_run import EvaluatedRun
from poslab.evaluation.settings import Settings
from poslab.report.figures import ReportFigure

MULTIPLES = (1, 2, 4, 8, 16)
"""Multiples of the training length that are the default lengths."""


def lengths_of(runs: Sequence[EvaluatedRun], settings: Settings) -> list[int]:
    """Return the window lengths of the settings, or the default ones, ascending; see `with_pretrained_lengths`.

    Of a task without a text they are multiples of the training length up to the longest item.

    Raises:
        ValueError: for one that the text does not fill, or if no model reaches any of them.
    """
    held = min(run.longest_item + 1 for run in runs)
    training_length = max(run.training_length for run in runs)
    if any(run.text is None for run in runs):
        return [training_length, *(m * training_length for m in MULTIPLES[1:] if m * training_length <= held)]
    if settings.lengths is None:
        lengths = [multiple * training_length for multiple in MULTIPLES if multiple * training_length < held]
        if not lengths:
            raise ValueError(f"tokens must be more than the training length, {training_length}, got {held}")
        return with_pretrained_lengths(lengths, runs, settings)
    for length in settings.lengths:
        if not 1 <= length < held:
            raise ValueError(f"lengths must lie between 1 and {held - 1:,}, which the text fills, got {length}")
    ends = [run.model.max_length for run in runs]
    if all(end is not None and end < min(settings.lengths) for end in ends):
        raise ValueError(
            f"lengths must begin at no more than {max(end for end in ends if end is not None)} tokens, "
            f"where the encoding ends, got {list(settings.lengths)}"
        )
    return with_pretrained_lengths(sorted(set(settings.lengths)), runs, settings)


def with_pretrained_lengths(lengths: Sequence[int], runs: Sequence[EvaluatedRun], settings: Settings) -> list[int]:
    """Return lengths with those at which pretrained models were trained, if there are longer ones, ascending.

    A model that is stretched may lose in short texts what it gains in long ones, so both are in one table. A length
    below the stride of sliding windows is left out.
    """
    of_authors = {run.pretrained_length for run in runs if run.pretrained_length is not None}
    shorter = {n for n in of_authors if (settings.stride or 1) <= n < max(lengths)}
    return sorted({*lengths, *shorter}) if shorter else list(lengths)


def training_lengths(runs: Sequence[EvaluatedRun]) -> dict[str, int]:
    """Return the longest length of training in the measure of the figures by length, by the name of the model."""
    return {run.name: run.longest_trained for run in runs}


def remark_on_positions(runs: Sequence[EvaluatedRun]) -> str:
    """Return a sentence on each encoding under which attention does not count tokens; "" if it always does."""
    encodings = (encoding for run in runs for stack in run.model.stacks.values() for encoding in stack)
    others = {type(encoding).__name__: encoding.counts for encoding in encodings if encoding.counts != "tokens"}
    return "".join(
        f" Attention under {name} counts {counted}, not tokens, and so do the distances, wavelengths and lengths of "
        f"this section: a text has fewer {counted} than tokens."
        for name, counted in others.items()
    )


def tag(run: EvaluatedRun, runs: Sequence[EvaluatedRun], metric: str) -> str:
    """Return the tag of a metric, with the name of its model if there are several."""
    return f"{run.name}/{metric}" if len(runs) > 1 else metric


def titled(run: EvaluatedRun, runs: Sequence[EvaluatedRun], figures: Iterable[ReportFigure]) -> Iterator[ReportFigure]:
    """Yield the figures of a model, with its name in their names and titles if there are several models."""
    slugs = [slug_of(other.name) for other in runs]
    number = [other.name for other in runs].index(run.name)
    slug = slugs[number] if slugs.count(slugs[number]) == 1 else f"{slugs[number]}_{number}"
    return named(figures, slug, run.name) if len(runs) > 1 else iter(figures)


def named(figures: Iterable[ReportFigure], slug: str, name: str) -> Iterator[ReportFigure]:
    """Yield figures with a slug at the end of their names and a name at that of their titles; none if it is empty."""
    for figure in figures:
        yield replace(figure, name=f"{figure.name}_{slug}", title=f"{figure.title}: {name}") if name else figure


def slug_of(text: str) -> str:
    """Return a text as part of the name of a figure."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
