"""Sentence vectors of encoders: their likeness to those of another model, and retrieval in long texts.

Dimension letters: N texts, T tokens of a text, M model dim.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import normalize

from poslab.configuration.labels import written
from poslab.data.tokenizers import Tokenizer
from poslab.evaluation.retrieval.prompts import insert_needles, stretch
from poslab.models import Model
from poslab.models.pooling import Pooling, pooled
from poslab.report.figures import Plot, legend_columns, new_figure, style
from poslab.runs.recipe import Recipe
from poslab.tasks.task import device_of

TEXTS = 32
"""Held-out texts of each length, and questions, each of which one text answers."""

TOKENS_AT_ONCE = 8192
"""Tokens of a batch, which has at least one text."""

FIRST = ("Ada", "Boris", "Carla", "David", "Emma", "Felix", "Grace", "Henry")
LAST = ("Adler", "Brown", "Clark", "Dunn", "Evans", "Fischer", "Gray", "Hill")
SENTENCES = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again. "


def sentence_vectors(
    model: Model,
    texts: Sequence[np.ndarray],
    pooling: Pooling = "mean",
    check_cancelled: Callable[[], None] = lambda: None,
) -> np.ndarray:
    """Return the pooled hidden states of texts, each divided by its norm, (N, M) float32.

    Only texts of equal length are read together, so that none is padded.

    Args:
        model: in evaluation mode.
        texts: token ids of each, (T,), none longer than the model reads.
        pooling: as of `SequenceModel`.
        check_cancelled: called before each batch; may raise an error to stop.
    """
    vectors: dict[int, np.ndarray] = {}
    by_length = sorted(range(len(texts)), key=lambda number: len(texts[number]))
    for length, alike in itertools.groupby(by_length, key=lambda number: len(texts[number])):
        waiting, rows = list(alike), max(1, TOKENS_AT_ONCE // length)
        for numbers in (waiting[start : start + rows] for start in range(0, len(waiting), rows)):
            check_cancelled()
            tokens_NT = torch.from_numpy(np.stack([texts[number] for number in numbers]).astype(np.int64))
            with torch.no_grad():
                hidden_NTM = model.hidden_states(tokens_NT.to(device_of(model)))
            vectors |= dict(zip(numbers, unit_vectors(hidden_NTM, None, pooling), strict=True))
    return np.stack([vectors[number] for number in range(len(texts))])


def unit_vectors(hidden_NTM: Tensor, real: Tensor | None, pooling: Pooling) -> np.ndarray:
    """Return pooled hidden states divided by their norms, (N, M) float32; arguments as of `pooled`."""
    return normalize(pooled(hidden_NTM, real, pooling).float(), dim=-1).cpu().numpy()


def pooling_of(model: Model, recipe: Recipe) -> Pooling:
    """Return the pooling of texts: that of a model of classes, else `model.pooling` of the configuration, or "mean"."""
    pooling: Pooling = model.pooling or recipe.config["model"].get("pooling") or "mean"
    return pooling


def likeness(vectors_NM: np.ndarray, others_NM: np.ndarray) -> tuple[float, float]:
    """Return the mean cosine of the vectors of each text in two models, and of the others' between different texts.

    The second says how much the first means: in many encoders all texts have vectors alike.
    """
    between_NN = others_NM @ others_NM.T
    different = ~np.eye(len(others_NM), dtype=bool)
    return float((vectors_NM * others_NM).sum(-1).mean()), float(between_NN[different].mean())


def framed(tokenizer: Tokenizer, ids: np.ndarray) -> np.ndarray:
    """Return tokens of a text between those that its model reads around one, if there are any."""
    frame = getattr(tokenizer, "framed", None)
    return ids if frame is None else frame(ids)


def passkey_texts(
    tokenizer: Tokenizer, length: int, count: int, seed: int
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return questions, and for each the text of `length` tokens that answers it.

        What is the pass key for Ada Gray?
        ... The sky is blue. Ada Gray's pass key is 58213. Remember it. The sun is yellow. ...

    Questions, keys and places are the same at every length.

    Args:
        tokenizer: of the model.
        length: tokens of a text, those around it included.
        count: of texts, at most 64.
        seed: of names, keys and places.

    Raises:
        ValueError: for a length without room for a key.

    Source: the form of Zhu et al., "LongEmbed" (EMNLP 2024), section 3; names and sentences are not theirs.
    """
    generator = np.random.default_rng(seed)
    people = [f"{first} {last}" for first, last in itertools.product(FIRST, LAST)]
    chosen = [people[number] for number in generator.permutation(len(people))[:count]]
    filler = tokenizer.encode(SENTENCES)
    questions, texts = [], []
    for person in chosen:
        key, depth = int(generator.integers(10_000, 100_000)), generator.random()
        needle = tokenizer.encode(f"{person}'s pass key is {key}. Remember it. ")
        room = length - len(framed(tokenizer, needle))
        start = np.random.default_rng([seed, key])
        if room < 0:
            raise ValueError(f"lengths must be at least {length - room} tokens for embeddings, got {length}")
        texts.append(framed(tokenizer, insert_needles(stretch(filler, room, start), [(depth, needle)])))
        questions.append(framed(tokenizer, tokenizer.encode(f"What is the pass key for {person}?")))
    return questions, texts


def found_own(questions_NM: np.ndarray, texts_NM: np.ndarray) -> np.ndarray:
    """Return whether the text of each question is the nearest to it, (N,) bool: nDCG@1 where one text answers."""
    return np.asarray(np.argmax(questions_NM @ texts_NM.T, axis=1) == np.arange(len(texts_NM)))


def found_plot(rows: pd.DataFrame, training_lengths: Mapping[str, int], chance: float) -> Plot:
    """Draw the share of texts found over their length, from columns `model`, `length` and `value`."""
    figure = new_figure(7.0, 4.0)
    panel = figure.subplots()
    for place, (model, line) in enumerate(rows.groupby("model", sort=False)):
        panel.plot(line["length"], line["value"], markersize=4, label=written(str(model)), **style(place))
    for length in sorted(set(training_lengths.values())):
        panel.axvline(length, color="0.6", linestyle=":")
    panel.axhline(chance, color="0.6", linewidth=0.8)
    panel.set_xscale("log", base=2)
    panel.xaxis.set_major_formatter("{x:g}")
    panel.set(xlabel="tokens of a text", ylabel="nDCG@1 (%)", ylim=(0, 103))
    labels = panel.get_legend_handles_labels()[1]
    figure.legend(loc="outside lower center", ncols=legend_columns(labels, 8.0), frameon=False, fontsize="small")
    return Plot(
        name="embedding_passkey",
        title="Texts found by a pass key",
        caption="Share of questions whose own text is nearest; the grey line is a guess, and the dotted one the length "
        "that the authors of the model trained it at. A line ends where the positions do.",
        source="Zhu et al., LongEmbed (EMNLP 2024), section 3",
        figure=figure,
    )
