"""Further training of a model under settings for longer texts, as runs that resume."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from poslab.data.tokenizers import Tokenizer
from poslab.evaluation.benchmarks import prompts
from poslab.evaluation.benchmarks.long_text import outside
from poslab.evaluation.benchmarks.subjects import Subject
from poslab.experiments.extend.plan import BATCH, EPOCHS, MIN_STEPS, ExtendRequest
from poslab.experiments.extend.settings import OWN, Setting, defaults
from poslab.experiments.run import train_or_resume
from poslab.io.files import patterns_of, read_json, write_atomically
from poslab.runs.directory import RunDirectory
from poslab.training.checking import check

ConfigOf = Callable[[Setting, Sequence[str]], dict[str, Any]]
"""Returns the configuration of a run that trains the model under a setting, with further words of a command line."""

NO_POSITIONS = Setting({"encoding": "none"})
"""The setting of DroPE. Gelberg et al. (2025), arXiv 2512.12167."""

FIXED_BY_LENGTH = ("rope_dynamic_ntk", "self_extend", "dual_chunk")
"""Settings that are not trained: they are the model's own positions within its context, where it is trained."""


def write_text(subject: Subject, windows: np.ndarray, files: Any, folder: Path) -> int:
    """Write the text of files outside windows that are measured, a file for each piece; return its number of tokens."""
    tokens, own = 0, subject.tokenizer
    decode = own.decode if isinstance(own, Tokenizer) else partial(own.decode, skip_special_tokens=True)
    folder.mkdir(parents=True, exist_ok=True)
    for number, ids in enumerate(outside(prompts.called(subject.tokenizer), windows, files, "text")):
        if piece := decode(ids):  # some tokenizers have no text for a space at the beginning
            write_atomically(folder / f"{number:05}.txt", piece)
            tokens += len(ids)
    return tokens


def steps_of(file: Path, affordable: int, tokens: int, context: int) -> int:
    """Return the number of steps, which a file keeps: at most `EPOCHS` passes over the text; 0 if it is too short."""
    if not file.exists():
        steps = min(affordable, EPOCHS * tokens // (BATCH * context))
        write_atomically(file, json.dumps({"steps": steps if steps >= MIN_STEPS else 0}))
    kept = read_json(file).get("steps")
    if type(kept) is not int or not 0 <= kept < 1e9:
        raise ValueError(f"{file} is damaged: it must have the number of steps")
    return kept


def words_of(request: ExtendRequest, setting: Setting, context: int, steps: int, files: Sequence[str]) -> list[str]:
    """Return the choices of a run, without its model: texts of the old context at positions of the new one (PoSE).

    They stay where they are without positions, and without a setting for longer texts.
    """
    far = ["positions=pose", f"positions.target_length={request.to}"]
    return [
        "dataset=text",
        f"dataset.files={json.dumps([*files])}",
        f"dataset.sequence_length={context}",
        f"dataset.batch_size={BATCH}",
        f"dataset.length_multiples=[1,{math.ceil(request.to / context)}]",
        *request.adapt,
        f"trainer.max_steps={steps}",
        "trainer.validations=2",
        *([] if setting in (NO_POSITIONS, OWN) else far),
    ]


def check_training(config_of: ConfigOf, request: ExtendRequest, stretch: float, context: int) -> None:
    """Raise ValueError for a model or a choice of weights that cannot be trained, before hours of search."""
    for setting in (*defaults(["yarn"], stretch), *([NO_POSITIONS] if request.drope else [])):
        check(config_of(setting, words_of(request, setting, context, MIN_STEPS, patterns_of("text", request.text))))


def trained(config_of: ConfigOf, setting: Setting, words: Sequence[str], output: Path) -> Setting:
    """Train the model under a setting, unless it has been; return the setting with its run."""
    digest = hashlib.sha256(setting.identity.encode()).hexdigest()[:8]
    run = RunDirectory(output / "runs" / f"{setting.type}_{digest}")
    train_or_resume(run, config_of(setting, words), lambda *_: None, lambda: None)
    return replace(setting, run=str(run.path))
