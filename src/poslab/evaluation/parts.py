"""The parts of an evaluation, each a section of the report, for one model or several side by side."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from poslab.encodings import StackEncodings
from poslab.evaluation.attention_pictures import (
    attention_maps,
    attention_overview,
    distance_picture,
    divergence_picture,
    statistics_picture,
)
from poslab.evaluation.attention_statistics import attention_by_distance, attention_divergence, attention_statistics
from poslab.evaluation.content_positions import content_positions, content_positions_picture
from poslab.evaluation.evaluation import Evaluation, Settings
from poslab.evaluation.extrapolation import NON_OVERLAPPING, extrapolation
from poslab.evaluation.extrapolation_exhibits import extrapolation_exhibits
from poslab.evaluation.learned_curves import DRAWN, bias_picture, learned_bias
from poslab.evaluation.learned_parameters import learned_parameters, norms_picture, parameters_table, table_norms
from poslab.evaluation.receptive_field import reach, receptive_field, receptive_field_picture
from poslab.evaluation.retrieval import retrieval, retrieval_exhibits
from poslab.evaluation.rotary_diagnostics import rotary_diagnostics
from poslab.evaluation.subjects import Subject
from poslab.models import build_model
from poslab.report.exhibits import Exhibit, Table
from poslab.report.page import Section

MULTIPLES = (1, 2, 4, 8, 16)
ROTARY = "How fast each pair of channels turns, and whether the base is large enough for the lengths."

WINDOWS = 8
"""How many windows of the text attention and gradients are averaged over."""

PROMPTS, SHORTEST_PROMPT, FURTHEST_PROMPT = 4, 256, 4
"""Prompts of each task, length and depth; tokens of the shortest; and the longest over the training length."""

TOKENS_OF_MAPS = 32
LAYERS_OF_MAPS = 6
"""Up to how many layers each gets attention maps with labels."""


def evaluate(subjects: Sequence[Subject], settings: Settings, told: Callable[[str], None] = print) -> Evaluation:
    """Evaluates trained models side by side.

    Args:
        subjects: what is evaluated, under different names and on the same text.
        settings: how.
        told: is called with each section's name before it is made.

    Raises:
        ValueError: for a part that does not exist, or lengths that the text does not fill.
    """
    for part in settings.parts:
        if part not in PARTS:
            raise ValueError(f"parts must be of {', '.join(PARTS)}, got {part}")
    evaluation = Evaluation()
    for part in PARTS:
        if part in settings.parts:
            told(part)
            PARTS[part](subjects, settings, evaluation)
    return evaluation


def lengths_of(subjects: Sequence[Subject], settings: Settings) -> list[int]:
    """The window lengths that are asked for, ascending.

    Raises:
        ValueError: for one that the text does not fill, or where no model reaches any of them.
    """
    held = min(len(one.tokens) for one in subjects)
    if settings.lengths is None:
        training_length = max(one.training_length for one in subjects)
        lengths = [multiple * training_length for multiple in MULTIPLES if multiple * training_length < held]
        if not lengths:
            raise ValueError(f"tokens must be more than the training length, {training_length}, got {held}")
        return lengths
    for length in settings.lengths:
        if not 1 <= length < held:
            raise ValueError(f"lengths must lie between 1 and {held - 1:,}, which the text fills, got {length}")
    ends = [one.model.max_length for one in subjects]
    if all(end is not None and end < min(settings.lengths) for end in ends):
        raise ValueError(
            f"lengths must begin at no more than {max(end for end in ends if end is not None)} tokens, "
            f"where the encoding ends, got {list(settings.lengths)}"
        )
    return sorted(set(settings.lengths))


def _extrapolation(subjects: Sequence[Subject], settings: Settings, evaluation: Evaluation) -> None:
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
            for figure in ("loss", "bits_per_byte", "perplexity", "accuracy"):
                tag = f"{protocol}{figure}@{row['length']}"
                evaluation.metrics[_tag(one, subjects, tag)] = row[figure]
    evaluation.frames["per_position"] = pd.concat(by_position, names=["model"]).reset_index("model")
    exhibits = extrapolation_exhibits(by_length, by_position, _training_lengths(subjects))
    text = "The same text, read in windows of several lengths, most of which the model has never seen in training."
    evaluation.sections.append(Section("Length extrapolation", text, exhibits))


def _attention(subjects: Sequence[Subject], settings: Settings, evaluation: Evaluation) -> None:
    exhibits: list[Exhibit] = []
    frames = []
    for one in subjects:
        windows_BT = _windows(one, one.training_length)
        statistics = attention_statistics(one.model, windows_BT)
        frames.append(statistics.assign(model=one.name))
        maps = [
            statistics_picture(statistics),
            distance_picture(attention_by_distance(one.model, windows_BT), one.training_length),
        ]
        tokens_T, labels = _text(one, settings.text)
        maps.append(attention_overview(one.model, tokens_T))
        if len(one.model.blocks) <= LAYERS_OF_MAPS:
            maps += attention_maps(one.model, tokens_T, labels)
        exhibits += _of(one, subjects, maps)
    if len(subjects) > 1 and len({len(one.model.blocks) for one in subjects}) == 1:
        shortest = min(one.training_length for one in subjects)
        windows_BT = _windows(subjects[0], shortest)
        divergence = attention_divergence({one.name: one.model for one in subjects}, windows_BT)
        exhibits.append(divergence_picture(divergence))
    together = pd.concat(frames)
    exhibits.append(
        Table(
            name="attention_by_head",
            title="Every head in numbers",
            how_to_read="Means over the queries of windows as long as in training: entropy in nats, distance in "
            "tokens, and the shares of the first token, of the query's own and of the one before it.",
            source="",
            frame=together[["model", *(column for column in together.columns if column != "model")]],
        )
    )
    text = "What each head looks at, in windows as long as those of training, and token by token in a short text."
    evaluation.sections.append(Section("What the heads look at", text, exhibits))


def _retrieval(subjects: Sequence[Subject], settings: Settings, evaluation: Evaluation) -> None:
    """Of the lengths asked for, those up to four times the training length that have room for every task."""
    frames = {}
    for one in subjects:
        lengths = [
            length
            for length in lengths_of(subjects, settings)
            if SHORTEST_PROMPT <= length <= max(SHORTEST_PROMPT, FURTHEST_PROMPT * one.training_length)
        ]
        if not lengths:
            continue
        frames[one.name] = retrieval(
            one.model,
            one.tokenizer,
            lengths=lengths,
            depths=(0.0, 0.5, 1.0),
            samples=PROMPTS,
            seed=settings.seed,
            filler=one.tokens,
        )
        for task, rows in frames[one.name].groupby("task"):
            for length, own in rows.groupby("length"):
                evaluation.metrics[_tag(one, subjects, f"{task}_accuracy@{length}")] = own["accuracy"].mean()
    if frames:
        text = "Whether the model finds again what stands somewhere in its window, in prompts up to four times as long "
        text += "as a training window. A small model of text finds little: its loss beside that of guessing says more."
        evaluation.sections.append(Section("Retrieval", text, retrieval_exhibits(frames)))


def _receptive_field(subjects: Sequence[Subject], settings: Settings, evaluation: Evaluation) -> None:
    fields = {}
    for one in subjects:
        fields[one.name] = receptive_field(one.model, _windows(one, 2 * one.training_length, more=1))
        evaluation.metrics[_tag(one, subjects, "receptive_field")] = reach(fields[one.name])
    picture = receptive_field_picture(fields, _training_lengths(subjects))
    text = "How far back a prediction feels the tokens before it, in windows twice as long as those of training."
    evaluation.sections.append(Section("Receptive field", text, [picture]))


def _encoding(subjects: Sequence[Subject], settings: Settings, evaluation: Evaluation) -> None:
    exhibits: list[Exhibit] = []
    for one in subjects:
        exhibits += _of(one, subjects, _learned(one, settings))
    if exhibits:
        text = "What the encoding itself is after training, beside what it began with unless it was swapped in."
        for one in subjects:
            if not one.swap and _start(one) is None:
                text += f" What {one.name} began with is not known: its run began with the weights of another one, and "
                text += "has kept no start."
        evaluation.sections.append(Section("The encoding", text, exhibits))


def _rotary(subjects: Sequence[Subject], settings: Settings, evaluation: Evaluation) -> None:
    """Of the first encoding of each model that turns queries and keys."""
    exhibits: list[Exhibit] = []
    for one in subjects:
        turning = next((x for x in one.model.encodings if x.spectrum(one.training_length) is not None), None)
        if turning is not None:
            lengths = lengths_of(subjects, settings)
            exhibits += _of(
                one, subjects, rotary_diagnostics(turning, one.model.head_dim, one.training_length, lengths)
            )
    if exhibits:
        evaluation.sections.append(Section("Rotary diagnostics", ROTARY, exhibits))


def _start(one: Subject) -> StackEncodings | None:
    """Return what the encodings of a run began with, as it has kept it; None where nobody can tell.

    Raises:
        ValueError: where what was kept is of another model.
    """
    if one.start is None and one.config.get("init_from") is not None:
        return None
    torch.manual_seed(one.config["seed"])  # as earlier versions, which kept nothing, began
    model = build_model(one.config, one.tokenizer.vocab_size, digits=one.tokenizer.digits)
    start = model.encodings.to(one.model.embedding.weight.dtype)
    if one.start is not None:
        try:
            start.load_state_dict(one.start)
        except (RuntimeError, TypeError, AttributeError) as error:
            raise ValueError(f"the checkpoint of {one.run.path} keeps the start of another encoding") from error
    return start


def _learned(one: Subject, settings: Settings) -> Iterator[Exhibit]:
    encodings = one.model.encodings
    start = None if one.swap else _start(one)
    length = one.model.max_length or 2 * one.training_length
    bias = learned_bias(encodings, length, start, DRAWN)
    if len(bias):
        yield bias_picture(bias, one.training_length)
    norms = table_norms(encodings, start)
    if len(norms):
        yield norms_picture(norms)
    parameters = learned_parameters(encodings, start)
    if len(parameters):
        yield parameters_table(parameters)
    tokens_T, labels = _text(one, settings.text)
    positions = content_positions(one.model, tokens_T)
    if len(positions):
        yield content_positions_picture(positions, labels)


def _windows(one: Subject, length: int, more: int = 0) -> Tensor:
    """(B, length + more) windows of the text, as far as it and the encoding go; within documents if kept apart."""
    length = min(length, one.model.max_length or length, len(one.tokens) - more)
    starts = np.arange(0, len(one.tokens) - length - more + 1, length)
    if one.keep_documents_apart:
        ends = np.cumsum(one.tokens == one.tokenizer.end_id)
        inside = [start for start in starts if ends[start] == ends[start + length + more - 1]]
        starts = np.array(inside) if inside else starts
    starts = starts[:WINDOWS]
    windows = one.tokens[starts[:, None] + np.arange(length + more)].astype(np.int64)
    return torch.from_numpy(windows).to(one.device)


def _text(one: Subject, text: str | None) -> tuple[Tensor, list[str]]:
    """The tokens of a short text and what each of them reads."""
    ids = one.tokens[:TOKENS_OF_MAPS] if text is None else one.tokenizer.encode(text)[:TOKENS_OF_MAPS]
    if not len(ids):
        raise ValueError("text must hold something, got an empty one")
    ids = ids[: one.model.max_length]
    labels = [one.tokenizer.decode([token]) for token in ids]
    return torch.from_numpy(ids.astype(np.int64)).to(one.device), labels


def _of(one: Subject, subjects: Sequence[Subject], exhibits: Iterable[Exhibit]) -> Iterator[Exhibit]:
    """Exhibits of one of several models, which say so."""
    slugs = [re.sub(r"[^a-z0-9]+", "_", other.name.lower()).strip("_") for other in subjects]
    place = [other.name for other in subjects].index(one.name)
    slug = slugs[place] if slugs.count(slugs[place]) == 1 else f"{slugs[place]}_{place}"
    for exhibit in exhibits:
        if len(subjects) > 1:
            exhibit = replace(exhibit, name=f"{exhibit.name}_{slug}", title=f"{exhibit.title}: {one.name}")
        yield exhibit


def _training_lengths(subjects: Sequence[Subject]) -> dict[str, int]:
    return {one.name: one.training_length for one in subjects}


def _tag(one: Subject, subjects: Sequence[Subject], tag: str) -> str:
    return f"{one.name}/{tag}" if len(subjects) > 1 else tag


PARTS: dict[str, Callable[[Sequence[Subject], Settings, Evaluation], None]] = {
    "extrapolation": _extrapolation,
    "retrieval": _retrieval,
    "attention": _attention,
    "receptive_field": _receptive_field,
    "encoding": _encoding,
    "rotary": _rotary,
}
"""The parts of an evaluation in the order of the report."""
