"""Short texts that a model reads token by token, for plots with the text of each token.

Dimension letters: B batch, S tokens of a source, T tokens of a text or target.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from poslab.evaluation.evaluated_run import EvaluatedRun, on_device
from poslab.generation.decoding import beam_search
from poslab.models import ForwardPass

SHORT = 32
"""Longest text, in tokens, that is shown token by token."""


class ShortExample(NamedTuple):
    """A forward pass of a short text, or a source and a target; `labels` are of queries and keys, by stack.

    An image has no labels: its patches have no text.
    """

    forward: ForwardPass
    labels: Mapping[str, tuple[list[str], list[str]]]


def short_example(run: EvaluatedRun, text: str | None) -> ShortExample:
    """Return the first tokens of a text (None is the run's own), at most `SHORT`, as its model reads them.

    A model with a source reads the text as its source. The target is what it writes or, of its own data, what is to be
    written. A model of images reads a whole one.

    Raises:
        ValueError: for a text that is empty, or has other symbols than those of the task, and for any with images.
    """
    if run.reads_patches:
        if text is not None:
            raise ValueError(f"text must be null for runs on {run.recipe.source.kind.name} data, got {text!r:.40}")
        batch = _short_example(run)
        return ShortExample(lambda model: run.task.hidden_states(model, batch), {})
    if "source" in run.model.capabilities:
        end, most = run.tokenizer.end_id, min(SHORT, run.model.max_length or SHORT)
        if text is None:
            batch = _short_example(run)
            source_BS, target_BT = batch.source[:, :most], batch.target[:, :most]
        else:
            source_BS = _tensor(run, np.append(_encoded(run, text)[: most - 1], end)).unsqueeze(0)
            first = torch.full((1, 1), end, device=run.device)
            with torch.no_grad():
                (written,) = beam_search(run.model.begin(source_BS), first, max_new_tokens=most - 1, end_id=end)
            target_BT = torch.cat([first[0], written]).unsqueeze(0)
        source, target = (token_labels(run, tokens[0]) for tokens in (source_BS, target_BT))
        labels = {"encoder": (source, source), "self": (target, target), "cross": (target, source)}
        return ShortExample(lambda model: model(source_BS, target_BT), labels)
    tokens_T = short_text(run, text)
    texts = token_labels(run, tokens_T)
    return ShortExample(lambda model: model.hidden_states(tokens_T.unsqueeze(0)), {"self": (texts, texts)})


def short_text(run: EvaluatedRun, text: str | None) -> Tensor:
    """Return the tokens of `short_example`, (T,), for a model that reads one text."""
    if text is not None:
        ids = _encoded(run, text)
    elif run.text is not None:
        ids = run.text.tokens
    else:
        ids = _short_example(run).tokens[0].cpu().numpy()
    return _tensor(run, ids[:SHORT][: run.model.max_length])


def token_labels(run: EvaluatedRun, tokens_T: Tensor) -> list[str]:
    """Return the text of each token; `<0>`, `<1>` ... for those of no text."""
    labels, size = [], run.tokenizer.vocab_size
    for token in tokens_T.tolist():
        text = f"<{token - size}>" if token >= size else run.tokenizer.decode([token])
        labels.append(text or ("<end>" if token == run.tokenizer.end_id else "<answer>"))
    return labels


def _short_example(run: EvaluatedRun) -> Any:
    """Return the batch of the example whose number of tokens is nearest to `SHORT`."""
    of_lengths = [run.data.held_out(run.split, length) for length in run.trained_lengths]
    items = min(of_lengths, key=lambda items: np.abs(items.num_tokens - SHORT).min())
    nearest = int(np.abs(items.num_tokens - SHORT).argmin())
    return on_device(items.__getitems__([nearest]), run.device)


def _encoded(run: EvaluatedRun, text: str) -> np.ndarray:
    try:
        ids = run.tokenizer.encode(text)
    except ValueError as error:
        raise ValueError(f"text: {error}") from error
    if not len(ids):
        raise ValueError("text must hold something, got an empty one")
    return ids


def _tensor(run: EvaluatedRun, ids: np.ndarray) -> Tensor:
    return torch.from_numpy(ids.astype(np.int64)).to(run.device)
