"""Sentence vectors of encoders: search by a pass key in long texts, and a linear probe of frozen vectors.

Dimension letters: N texts, T tokens of a text, M model dim, C classes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax
from torch import Tensor
from torch.nn.functional import normalize

from poslab.data.tokenizers import Tokenizer
from poslab.models import Model
from poslab.models.model import Pooling, pooled
from poslab.runs.recipe import Recipe
from poslab.tasks.task import device_of

TEXTS = 32  # held-out texts of each length, and questions, each of which one text answers
TOKENS_AT_ONCE = 8192  # tokens of a batch, which has at least one text

FIRST = ("Ada", "Boris", "Carla", "David", "Emma", "Felix", "Grace", "Henry")
LAST = ("Adler", "Brown", "Clark", "Dunn", "Evans", "Fischer", "Gray", "Hill")
SENTENCES = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again. "


def sentence_vectors(
    model: Model,
    texts: Sequence[np.ndarray],
    pooling: Pooling = "mean",
    check_cancelled: Callable[[], None] = lambda: None,
) -> np.ndarray:
    """Return the pooled hidden states of texts, (T,) token ids each, divided by their norms: (N, M) float32.

    Only texts of equal length are read together, so that none is padded. `check_cancelled` is called before each batch,
    and may raise an error to stop.
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
    """Return the pooling of texts: of a model of classes, else `model.pooling` of the configuration, or "mean"."""
    return model.pooling or recipe.config["model"].get("pooling") or "mean"


def passkey_texts(
    tokenizer: Tokenizer, length: int, count: int, seed: int
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return `count` questions, at most 64, and for each the text of `length` tokens that answers it.

        What is the pass key for Ada Gray?
        ... The sky is blue. Ada Gray's pass key is 58213. Remember it. The sun is yellow. ...

    Questions, keys and depths are the same at every length. ValueError for a length without room for a key.


    Source: the form of Zhu et al., "LongEmbed" (EMNLP 2024), section 3; with other names and sentences.
    """
    generator = np.random.default_rng(seed)
    people = [f"{first} {last}" for first, last in itertools.product(FIRST, LAST)]
    chosen = [people[number] for number in generator.permutation(len(people))[:count]]
    filler = tokenizer.encode(SENTENCES)
    questions, texts = [], []
    for person in chosen:
        key, depth = int(generator.integers(10_000, 100_000)), generator.random()
        needle = tokenizer.encode(f"{person}'s pass key is {key}. Remember it. ")
        room = length - len(tokenizer.framed(needle))
        start = np.random.default_rng([seed, key])
        if room < 0:
            raise ValueError(f"lengths must be at least {length - room} tokens for a pass key, got {length}")
        first, end = int(start.integers(len(filler))), round(depth * room)
        sentences = filler.take(np.arange(first, first + room), mode="wrap")
        texts.append(tokenizer.framed(np.concatenate([sentences[:end], needle, sentences[end:]])))
        questions.append(tokenizer.framed(tokenizer.encode(f"What is the pass key for {person}?")))
    return questions, texts


def nearest_answers(questions_NM: np.ndarray, texts_NM: np.ndarray) -> np.ndarray:
    """Return whether the text of each question is the nearest to it, (N,) bool: nDCG@1 where one text answers."""
    return np.asarray(np.argmax(questions_NM @ texts_NM.T, axis=1) == np.arange(len(texts_NM)))


def fitted_probe(vectors_NM: np.ndarray, classes_N: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from vectors to the numbers of their classes, by logistic regression on (N, M) vectors.

        minimise over W, b   sum over i of  -log softmax(W z_i + b)[c_i]  +  |W|^2 / 2

    z_i are the vectors with a mean of 0 and a spread of 1 in each dimension, and c_i their classes, 0 to C - 1. The
    minimum is unique, but for one number that may be added to all of b and changes no class.
    """
    mean_M, spread_M = vectors_NM.mean(0), vectors_NM.std(0)
    scale_M = np.where(spread_M > 0, spread_M, 1.0)

    def standardised(texts_NM: np.ndarray) -> np.ndarray:
        """Return standardised vectors with a column of ones for b, (N, M + 1)."""
        z_NM = (texts_NM - mean_M) / scale_M
        return np.concatenate([z_NM, np.ones((len(z_NM), 1))], axis=1)

    z_NM, num_classes = standardised(vectors_NM), int(classes_N.max()) + 1
    actual_NC = np.eye(num_classes)[classes_N]

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weight_MC = flat.reshape(z_NM.shape[1], num_classes)
        penalised_MC = weight_MC.copy()
        penalised_MC[-1] = 0
        log_p_NC = log_softmax(z_NM @ weight_MC, axis=1)
        loss = -(actual_NC * log_p_NC).sum() + (penalised_MC**2).sum() / 2
        return loss, (z_NM.T @ (np.exp(log_p_NC) - actual_NC) + penalised_MC).ravel()

    start = np.zeros(z_NM.shape[1] * num_classes)
    minimum = minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": 1000})
    weight_MC = minimum.x.reshape(z_NM.shape[1], num_classes)
    return lambda texts_NM: (standardised(texts_NM) @ weight_MC).argmax(1)
