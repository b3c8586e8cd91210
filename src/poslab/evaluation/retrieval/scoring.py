"""Scores of a model's answers, from one forward pass over question and answer together.

Dimension letters: B prompts, T tokens of a prompt, A tokens of the longest answer, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
import pandas as pd
import torch
from torch import nn

from poslab.evaluation.retrieval.task import Prompt
from poslab.evaluation.scores.tokens import evaluating, loss_and_correct

TOKENS_AT_ONCE = 8192


def score_answers(model: nn.Module, prompts: Sequence[Prompt], tokens_at_once: int = TOKENS_AT_ONCE) -> pd.DataFrame:
    """Return whether a causal model predicts the answers of prompts, and its loss on them.

    Every token of an answer is predicted from the right tokens before it. If all of them are the most probable ones,
    greedy decoding gives the answer, except under an encoding whose positions depend on the current length (dynamic
    NTK, randomized positions), which here reads the beginning of an answer as part of the whole prompt.

    Args:
        model: tokens (B, T) in, logits (B, T, V) out; a `Model` makes only the logits of answers.
        prompts: all of the same number of tokens.
        tokens_at_once: most tokens of a batch, which has at least one prompt.

    Returns:
        A row for each prompt: `correct` (bool, the whole answer), `tokens` of the answer, `tokens_correct`, and `loss`,
        nats of the whole answer.

    Raises:
        ValueError: for prompts of several lengths, or none.
    """
    lengths = sorted({len(prompt.tokens) for prompt in prompts})
    if len(lengths) != 1:
        raise ValueError(f"prompts must be one or more of the same number of tokens, got {lengths or 'none'}")
    batch_size = max(1, tokens_at_once // lengths[0])
    with torch.no_grad(), evaluating(model):
        batches = [_score(model, prompts[start : start + batch_size]) for start in range(0, len(prompts), batch_size)]
    return pd.concat(batches, ignore_index=True)


def _score(model: nn.Module, prompts: Sequence[Prompt]) -> pd.DataFrame:
    tokens_BT = torch.from_numpy(np.stack([prompt.tokens for prompt in prompts])).to(_device(model))
    answer_lengths = np.array([prompt.answer_length for prompt in prompts])
    longest = int(answer_lengths.max())
    targets_BA = tokens_BT[:, -longest:]
    loss_BA, correct_BA = (x.cpu().numpy() for x in loss_and_correct(model, tokens_BT[:, :-1], targets_BA))
    # Answers end where prompts do; a shorter one begins later.
    inside_BA = np.arange(longest) >= longest - answer_lengths[:, None]
    correct_B = (correct_BA & inside_BA).sum(1)
    return pd.DataFrame(
        {
            "correct": correct_B == answer_lengths,
            "tokens": answer_lengths,
            "tokens_correct": correct_B,
            "loss": np.where(inside_BA, loss_BA, 0.0).sum(1, dtype=np.float64),
        }
    )


def _device(model: nn.Module) -> torch.device:
    """Return the device of the first weight; the CPU for a model without weights."""
    return next((tensor.device for tensor in chain(model.parameters(), model.buffers())), torch.device("cpu"))
