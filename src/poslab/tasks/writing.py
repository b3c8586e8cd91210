"""Texts that a model writes token by token.

Dimension letters: B texts, T tokens, S source tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from poslab.data.tokenizers import Tokenizer
from poslab.generation.beam_search import Continuation, beam_search
from poslab.models import Model
from poslab.tasks.task import Prediction, Search, device_of


@torch.no_grad()
def written(model: Model, tokenizer: Tokenizer, source: Sequence[int], search: Search) -> Prediction:
    """Return the text that a model writes from a source.

    Args:
        model: in evaluation mode; one that declares `source` reads it, any other continues it.
        tokenizer: of the model.
        source: token ids, with the token that ends it.
        search: settings of the search for the most probable text.

    Raises:
        ValueError: if the source leaves no room in the positions of the model.
    """
    read = torch.tensor([[*source]], device=device_of(model))
    has_source, most = "source" in model.capabilities, search.max_new_tokens
    if model.max_length is not None:
        room = model.max_length - (0 if has_source else read.shape[1])
        if room < 1 or read.shape[1] > model.max_length:
            raise ValueError(
                f"prompt must leave room in the {model.max_length} positions at which the model's encoding ends, "
                f"got {read.shape[1]} tokens"
            )
        most = min(most, room)
    end = tokenizer.end_id
    decoding = model.begin(read) if has_source else Continuation(model)
    first = torch.full((1, 1), end, device=read.device) if has_source else read
    (tokens,) = beam_search(
        decoding, first, beams=search.beams, length_penalty=search.length_penalty, max_new_tokens=most, end_id=end
    )
    return Prediction(tokenizer.decode(tokens.tolist()).strip())


def encoded(tokenizer: Any, text: str) -> list[int]:
    """Return the tokens of a prompt; ValueError for symbols that its task does not have."""
    try:
        tokens: list[int] = tokenizer.encode(text).tolist()
    except ValueError as error:
        raise ValueError(f"prompt: {error}") from error
    return tokens
