"""Greedy decoding without a cache: an oracle of text that models write."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


def greedy(model: nn.Module, prompt: Sequence[int], count: int, end: int | None = None) -> list[int]:
    """Return the tokens behind a prompt, up to an end, for each of which everything is read anew."""
    written: list[int] = []
    while len(written) < count:
        with torch.no_grad():
            token = int(model(torch.tensor([[*prompt, *written]]))[0, -1].argmax())
        if token == end:
            break
        written.append(token)
    return written
