"""All parts of an evaluation, one after another, and their results in one report."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path

import pandas as pd

from poslab.evaluation import parts
from poslab.evaluation.evaluated_run import ABILITIES, EvaluatedRun
from poslab.evaluation.settings import Settings
from poslab.report.figures import Plot
from poslab.report.page import DOTS_PER_INCH, Section, write_figures, write_report


@dataclass
class Evaluation:
    """Results of an evaluation.

    Args:
        sections: of the report.
        metrics: numbers by tag.
        frames: tables for files of their own, by name.
        lead: section that the report begins with.
        left_out: reasons why parts have nothing to show, by the name of the part.
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
        """Add what `write` has drawn to the TensorBoard curves of a run, instead of those of an earlier evaluation.

        Tags begin with the prefix; the step is the training step of the model.
        """
        from tensorboard.compat.proto.summary_pb2 import Summary
        from torch.utils.tensorboard import SummaryWriter

        suffix = f".{prefix}"
        for earlier in directory.glob(f"events.out.tfevents.*{suffix}"):
            earlier.unlink()
        with SummaryWriter(str(directory), filename_suffix=suffix) as writer:
            for plot in (x for section in self.sections for x in section.figures if isinstance(x, Plot)):
                width, height = (round(DOTS_PER_INCH * inches) for inches in plot.figure.get_size_inches())
                png = drawn[f"{plot.name}.png"]
                image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=png)
                summary = Summary(value=[Summary.Value(tag=f"{prefix}/{plot.name}", image=image)])
                writer._get_file_writer().add_summary(summary, step)


def evaluate(runs: Sequence[EvaluatedRun], settings: Settings) -> Evaluation:
    """Evaluate trained models side by side, under different names and on the same data.

    A part that needs what no model has is left out.

    Raises:
        ValueError: for lengths that the data does not have.
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
