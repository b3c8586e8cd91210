"""The work of `python -m src.extend`: from a model with RoPE to a setting for longer texts, its price and its files."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path

from poslab.configuration.build import is_pretrained
from poslab.evaluation.benchmarks.subjects import RunSubject, Subject
from poslab.evaluation.benchmarks.tasks import quieten_harness
from poslab.experiments.extend.fine_tuning import ConfigOf, check_training
from poslab.experiments.extend.plan import ExtendRequest
from poslab.experiments.extend.search import ranked
from poslab.experiments.extend.settings import OWN, Setting
from poslab.experiments.extend.steps import STUDY, Steps, SubjectOf, require_same
from poslab.experiments.jobs import one_at_a_time
from poslab.experiments.report.write import print_table
from poslab.experiments.storage import claim, naming_storage, open_output
from poslab.experiments.storage_url import Stored
from poslab.io.terminal import HarmlessConsole

Export = Callable[[Setting, Path], Iterable[str]]
"""Writes the model under a setting to a new directory, and returns sentences on it."""


def run_extend(subject_of: SubjectOf, config_of: ConfigOf, export: Export, request: ExtendRequest) -> None:
    """Find a setting for longer texts, measure its price, and write the model; the same command resumes.

    Raises:
        ValueError: for a model without RoPE, a target that is not longer, texts that are too short, a budget that has
            no time for a search, or an output that belongs to another command.
    """
    quieten_harness()
    console = HarmlessConsole()
    own = subject_of(OWN, "own")
    require_extensible(own, request.to)
    output = Path(request.output or f"outputs/{datetime.now():%Y-%m-%d_%H-%M-%S}_extend")
    open_output(output)
    if (output / "model").exists() and not (output / "extend.json").exists():  # it would be replaced
        raise ValueError(f"output={output} contains a model already: give this extension its own directory")
    claim(output, STUDY, "runs")
    stored = Stored(name=STUDY, question="", output=str(output))
    with one_at_a_time(output, wait=False), naming_storage(stored):
        require_same(output / "extend.json", {"model": own.identity, **request.identity})
        steps = Steps(subject_of, config_of, request, output, console)
        plan = steps.plan()
        if plan.steps:
            check_training(config_of, request, steps.stretch, steps.context)
        print_table(console, f"from {own.training_length:,} to {request.to:,} tokens in {request.budget}", plan.table())
        if request.dry_run:
            return
        sets = steps.sets(plan)
        candidates = steps.search(sets["search"], plan)
        finalists = steps.decide(sets["decision"], candidates)
        finalists += steps.fine_tune(finalists, sets, plan)
        summary, answer = steps.report(finalists, sets["report"])
        print_table(console, f"{request.to:,} tokens, on texts that decided nothing", summary)
        for line in itertools.chain(answer, export(ranked(finalists, request.margin)[0].setting, output / "model")):
            console.print(line, soft_wrap=True)


def require_extensible(own: Subject, to: int) -> None:
    """Raise ValueError for a model without plain RoPE, or a context that is not longer than its own."""
    if isinstance(own, RunSubject) and is_pretrained(own.config["model"]):
        raise ValueError(
            f"{own.path} is a run of a pretrained model: write its directory with `poslab export`, and name that by "
            "model.path="
        )
    if own.rope == "none":
        raise ValueError(f"{own.path} must have RoPE: other positions have no setting for longer texts")
    if own.rope == "scaled":
        raise ValueError(
            f"{own.path} must have RoPE without a scaling, and its own is scaled already: change its factor by "
            "encodings= of poslab bench, and compare"
        )
    if to <= own.training_length:
        raise ValueError(f"to must be above the context of the model, {own.training_length:,} tokens, got {to:,}")
