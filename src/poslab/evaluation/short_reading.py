"""Short texts that a model reads token by token, for pictures with the text of each token.

Dimension letters: B batch, S tokens of a source, T tokens of a text or target.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from poslab.evaluation.subject import Subject, on_device
from poslab.generation.beam_search import beam_search
from poslab.models import ForwardPass

SHORT = 32
"""Longest text, in tokens, that is shown token by token."""


class ShortReading(NamedTuple):
    """A short text, or a source and a target, that a model reads; `labels` are of queries and keys, by stack.

    A picture has no labels: its patches stand in no line of text.
    """

    read: ForwardPass
    labels: Mapping[str, tuple[list[str], list[str]]]


def short_reading(one: Subject, text: str | None) -> ShortReading:
    """Return the first tokens of a text (None is the subject's own), at most `SHORT`, as its model reads them.

    A model with a source reads the text as its source. The target is what it writes or, of its own data, what is to be
    written. A model of pictures reads a whole one.

    Raises:
        ValueError: for a text that is empty, or has other symbols than those of the task, and for any with pictures.
    """
    if one.reads_patches:
        if text is not None:
            raise ValueError(f"text must be null for runs on {one.recipe.source.kind.name} data, got {text!r:.40}")
        batch = _short_example(one)
        return ShortReading(lambda model: one.task.hidden_states(model, batch), {})
    if "source" in one.model.capabilities:
        source_BS, target_BT = _short_pair(one, text)
        source, target = (token_labels(one, tokens[0]) for tokens in (source_BS, target_BT))
        labels = {"encoder": (source, source), "self": (target, target), "cross": (target, source)}
        return ShortReading(lambda model: model(source_BS, target_BT), labels)
    tokens_T = short_text(one, text)
    own = token_labels(one, tokens_T)
    return ShortReading(lambda model: model.hidden_states(tokens_T.unsqueeze(0)), {"self": (own, own)})


def short_text(one: Subject, text: str | None) -> Tensor:
    """Return the tokens of `short_reading`, (T,), for a model that reads one text."""
    if text is not None:
        ids = _encoded(one, text)
    elif one.text is not None:
        ids = one.text.tokens
    else:
        ids = _short_example(one).tokens[0].cpu().numpy()
    return _tensor(one, ids[:SHORT][: one.model.max_length])


def token_labels(one: Subject, tokens_T: Tensor) -> list[str]:
    """Return the text of each token; `<0>`, `<1>` ... for those that stand for no text."""
    return [_label(one, token) for token in tokens_T.tolist()]


def _label(one: Subject, token: int) -> str:
    if (beyond := token - one.tokenizer.vocab_size) >= 0:
        return f"<{beyond}>"
    return one.tokenizer.decode([token]) or ("<end>" if token == one.tokenizer.end_id else "<answer>")


def _short_pair(one: Subject, text: str | None) -> tuple[Tensor, Tensor]:
    """Return a source and a target, (1, S) and (1, T)."""
    end, most = one.tokenizer.end_id, min(SHORT, one.model.max_length or SHORT)
    if text is None:
        batch = _short_example(one)
        return batch.source[:, :most], batch.target[:, :most]
    source_BS = _tensor(one, np.append(_encoded(one, text)[: most - 1], end)).unsqueeze(0)
    first = torch.full((1, 1), end, device=one.device)
    with torch.no_grad():
        (written,) = beam_search(one.model.begin(source_BS), first, max_new_tokens=most - 1, end_id=end)
    return source_BS, torch.cat([first[0], written]).unsqueeze(0)


def _short_example(one: Subject) -> Any:
    """Return the batch of the example whose number of tokens is nearest to `SHORT`."""
    of_lengths = [one.data.held_out(one.split, length) for length in one.trained_lengths]
    items = min(of_lengths, key=lambda items: np.abs(items.num_tokens - SHORT).min())
    nearest = int(np.abs(items.num_tokens - SHORT).argmin())
    return on_device(items.__getitems__([nearest]), one.device)


def _encoded(one: Subject, text: str) -> np.ndarray:
    try:
        ids = one.tokenizer.encode(text)
    except ValueError as error:
        raise ValueError(f"text: {error}") from error
    if not len(ids):
        raise ValueError("text must hold something, got an empty one")
    return ids


def _tensor(one: Subject, ids: np.ndarray) -> Tensor:
    return torch.from_numpy(ids.astype(np.int64)).to(one.device)
