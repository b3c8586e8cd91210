"""Models side by side: the lengths that they share, and names for the metrics and figures of each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from poslab.evaluation.settings import Settings
from poslab.evaluation.subject import Subject
from poslab.report.figures import ReportFigure

MULTIPLES = (1, 2, 4, 8, 16)
"""Multiples of the training length that are the default lengths."""


def lengths_of(subjects: Sequence[Subject], settings: Settings) -> list[int]:
    """Return the window lengths of the settings, or the default ones, ascending; see `with_pretrained_lengths`.

    Of a task without a text they are multiples of the training length up to the longest item.

    Raises:
        ValueError: for one that the text does not fill, or if no model reaches any of them.
    """
    held = min(one.longest_item + 1 for one in subjects)
    training_length = max(one.training_length for one in subjects)
    if any(one.text is None for one in subjects):
        return [training_length, *(m * training_length for m in MULTIPLES[1:] if m * training_length <= held)]
    if settings.lengths is None:
        lengths = [multiple * training_length for multiple in MULTIPLES if multiple * training_length < held]
        if not lengths:
            raise ValueError(f"tokens must be more than the training length, {training_length}, got {held}")
        return with_pretrained_lengths(lengths, subjects, settings)
    for length in settings.lengths:
        if not 1 <= length < held:
            raise ValueError(f"lengths must lie between 1 and {held - 1:,}, which the text fills, got {length}")
    ends = [one.model.max_length for one in subjects]
    if all(end is not None and end < min(settings.lengths) for end in ends):
        raise ValueError(
            f"lengths must begin at no more than {max(end for end in ends if end is not None)} tokens, "
            f"where the encoding ends, got {list(settings.lengths)}"
        )
    return with_pretrained_lengths(sorted(set(settings.lengths)), subjects, settings)


def with_pretrained_lengths(lengths: Sequence[int], subjects: Sequence[Subject], settings: Settings) -> list[int]:
    """Return lengths with those at which pretrained models were trained, if there are longer ones, ascending.

    A model that is stretched may lose in short texts what it gains in long ones, so both stand in one table. A length
    below the stride of sliding windows is left out.
    """
    of_authors = {one.pretrained_length for one in subjects if one.pretrained_length is not None}
    shorter = {n for n in of_authors if (settings.stride or 1) <= n < max(lengths)}
    return sorted({*lengths, *shorter}) if shorter else list(lengths)


def training_lengths(subjects: Sequence[Subject]) -> dict[str, int]:
    """Return the longest length of training in the measure of the figures by length, by the name of the model."""
    return {one.name: one.longest_trained for one in subjects}


def remark_on_positions(subjects: Sequence[Subject]) -> str:
    """Return a sentence on each encoding under which attention does not count tokens; "" if it always does."""
    encodings = (encoding for one in subjects for stack in one.model.stacks.values() for encoding in stack)
    others = {type(encoding).__name__: encoding.counts for encoding in encodings if encoding.counts != "tokens"}
    return "".join(
        f" Attention under {name} counts {counted}, not tokens, and so do the distances, wavelengths and lengths of "
        f"this section: a text has fewer {counted} than tokens."
        for name, counted in others.items()
    )


def tag(one: Subject, subjects: Sequence[Subject], metric: str) -> str:
    """Return the tag of a metric, with the name of its model if there are several."""
    return f"{one.name}/{metric}" if len(subjects) > 1 else metric


def titled(one: Subject, subjects: Sequence[Subject], figures: Iterable[ReportFigure]) -> Iterator[ReportFigure]:
    """Yield the figures of a model, with its name in their names and titles if there are several models."""
    slugs = [slug_of(other.name) for other in subjects]
    place = [other.name for other in subjects].index(one.name)
    slug = slugs[place] if slugs.count(slugs[place]) == 1 else f"{slugs[place]}_{place}"
    return named(figures, slug, one.name) if len(subjects) > 1 else iter(figures)


def named(figures: Iterable[ReportFigure], slug: str, name: str) -> Iterator[ReportFigure]:
    """Yield figures with a slug at the end of their names and a name at that of their titles; none if it is empty."""
    for figure in figures:
        yield replace(figure, name=f"{figure.name}_{slug}", title=f"{figure.title}: {name}") if name else figure


def slug_of(text: str) -> str:
    """Return a text as part of the name of a figure."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
