"""All parts of an evaluation, one after another, with models side by side, and their results in one report."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from poslab.evaluation import parts
from poslab.evaluation.evaluated_run import ABILITIES, EvaluatedRun
from poslab.evaluation.settings import Settings
from poslab.report.figures import Plot, ReportFigure, Section, write_figures, write_report
from poslab.report.text import file_name


@dataclass
class Evaluation:
    """Results of an evaluation.

    Sections of the report, of which `lead` is the first; numbers by tag; tables for separate files, by name; and why
    parts have nothing to show, by the name of the part.
    """

    sections: list[Section] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    frames: dict[str, pd.DataFrame] = field(default_factory=dict)
    lead: Section | None = None
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def every_section(self) -> list[Section]:
        """The sections of the report, its lead first."""
        return [*([] if self.lead is None else [self.lead]), *self.sections]

    def add(self, part: Evaluation) -> None:
        """Append the results of a part."""
        self.sections += part.sections
        self.metrics |= part.metrics
        self.frames |= part.frames
        if self.lead is not None and part.lead is not None:
            self.lead = replace(self.lead, figures=[*self.lead.figures, *part.lead.figures])
        self.lead = self.lead or part.lead
        self.left_out |= part.left_out

    def write(
        self, directory: Path, title: str, facts: Mapping[str, str], figure_width: float | None = None
    ) -> dict[str, bytes]:
        """Write metrics.json, the figures, the frames and report.html; return the contents of the figures by file.

        The width is as of `write_figures`.
        """
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"output={directory} cannot be made: {error.strerror}") from error
        drawn = write_figures(directory, self.every_section, figure_width)
        for name, frame in self.frames.items():
            frame.to_csv(directory / f"{name}.csv", index=False)
        known = {tag: value for tag, value in self.metrics.items() if math.isfinite(value)}
        text = json.dumps(known, indent=2, default=float)  # which turns NumPy's numbers into ones of Python
        (directory / "metrics.json").write_text(f"{text}\n", encoding="utf-8")
        write_report(directory / "report.html", title, facts, self.sections, drawn, self.lead)
        return drawn

    def show_in_tensorboard(self, directory: Path, drawn: Mapping[str, bytes], prefix: str, step: int) -> None:
        """Add what `write` has drawn to the TensorBoard curves of a run, instead of an earlier evaluation.

        Tags start with the prefix; the step is the training step of the model.
        """
        from torch.utils.tensorboard import SummaryWriter

        suffix = f".{prefix}"
        for earlier in directory.glob(f"events.out.tfevents.*{suffix}"):
            earlier.unlink()
        with SummaryWriter(str(directory), filename_suffix=suffix) as writer:
            for plot in (x for section in self.sections for x in section.figures if isinstance(x, Plot)):
                image = np.asarray(Image.open(io.BytesIO(drawn[f"{plot.name}.png"])))
                writer.add_image(f"{prefix}/{plot.name}", image, step, dataformats="HWC")


def evaluate(runs: Sequence[EvaluatedRun], settings: Settings) -> Evaluation:
    """Evaluate trained models side by side, under different names and on the same data.

    A part that needs what no model has is left out. ValueError is raised for lengths that the data does not have.
    """
    chosen = parts.names() if settings.parts is None else settings.parts
    modules = {part: import_module(f"{parts.__name__}.{part}") for part in chosen}
    evaluation = Evaluation()
    for part in sorted(modules, key=lambda part: (modules[part].ORDER, part)):
        needs = modules[part].NEEDS
        if needs and not any(needs <= run.abilities for run in runs):
            evaluation.left_out[part] = "needs " + " and ".join(ABILITIES[need] for need in sorted(needs))
            continue
        settings.progress.begin(part)
        evaluation.add(modules[part].make(runs, settings))
    if evaluation.lead is not None:
        doubts = [f"Take care: {warning}." for run in runs for warning in run.warnings]
        text = "\n\n".join(filter(None, [*doubts, evaluation.lead.text]))
        evaluation.lead = replace(evaluation.lead, text=text)
    return evaluation


MULTIPLES = (1, 2, 4, 8, 16)  # multiples of the training length that are the default lengths


def lengths_of(runs: Sequence[EvaluatedRun], settings: Settings) -> list[int]:
    """Return the window lengths of the settings, or the default ones, ascending; see `with_pretrained_lengths`.

    Of a task without a text they are multiples of the training length up to the longest item. ValueError for one that
    the text does not fill, or if no model reaches any of them.
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
    """Return lengths with the lengths at which pretrained models were trained, if there are longer ones, ascending.

    A model that is stretched may lose in short texts what it gains in long ones, so both are in one table. A length
    below the stride of sliding windows is left out.
    """
    of_authors = {run.pretrained_length for run in runs if run.pretrained_length is not None}
    shorter = {n for n in of_authors if (settings.stride or 1) <= n < max(lengths)}
    return sorted({*lengths, *shorter}) if shorter else list(lengths)


def training_lengths(runs: Sequence[EvaluatedRun]) -> dict[str, int]:
    """Return the longest training length in the measure of the figures by length, by the name of the model."""
    return {run.name: run.data.longest_trained for run in runs}


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
    slugs = [file_name(other.name) for other in runs]
    number = [other.name for other in runs].index(run.name)
    slug = slugs[number] if slugs.count(slugs[number]) == 1 else f"{slugs[number]}_{number}"
    return named(figures, run.name, slug) if len(runs) > 1 else iter(figures)


def named(figures: Iterable[ReportFigure], name: str, slug: str = "") -> Iterator[ReportFigure]:
    """Yield figures with a slug, or the name, at the end of their names and a name at the end of titles, if any."""
    end = slug or file_name(name)
    for figure in figures:
        yield replace(figure, name=f"{figure.name}_{end}", title=f"{figure.title}: {name}") if name else figure
