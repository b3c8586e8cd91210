"""All parts of an evaluation, one after another, in one report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module

from poslab.evaluation import parts
from poslab.evaluation.evaluated_run import ABILITIES, OF_PRETRAINED, EvaluatedRun
from poslab.evaluation.evaluation import Evaluation
from poslab.evaluation.settings import Settings


def evaluate(runs: Sequence[EvaluatedRun], settings: Settings) -> Evaluation:
    """Evaluate trained models side by side, under different names and on the same data.

    A part that needs what no model has is left out.

    Raises:
        ValueError: for lengths that the data does not have.
    """
    chosen = parts.names() if settings.parts is None else settings.parts
    modules = {part: import_module(f"{parts.__name__}.{part}") for part in chosen}
    evaluation = Evaluation()
    for part in sorted(modules, key=lambda part: (modules[part].PLACE, part)):
        needs = modules[part].NEEDS
        if needs and not any(needs <= one.abilities for one in runs):
            of_others = bool(needs & OF_PRETRAINED) and all(one.pretrained_length is None for one in runs)
            if of_others and settings.parts is None:
                continue
            evaluation.left_out[part] = "needs " + " and ".join(ABILITIES[need] for need in sorted(needs))
            continue
        settings.progress.begin(part)
        evaluation.add(modules[part].make(runs, settings))
    if evaluation.lead is not None:
        doubts = [f"Take care: {warning}." for one in runs for warning in one.warnings]
        text = "\n\n".join([*doubts, evaluation.lead.text, *evaluation.remarks])
        evaluation.lead = replace(evaluation.lead, text=text)
    return evaluation
