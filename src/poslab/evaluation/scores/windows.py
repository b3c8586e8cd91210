"""Windows of a long text under the two usual protocols, which predict every token but the first once.

*Non-overlapping* windows follow one another, so most tokens see less than a whole window. *Sliding* windows overlap:
each moves by `stride` tokens and predicts only the new ones, so that all tokens but those of the first window see
nearly a whole one. The ranking of encodings can differ between the two: Press et al., "Train Short, Test Long" (ICLR
2022), appendix B.

Dimension letters: B windows, T tokens of a window, N tokens of the text.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from poslab.data.batch import IGNORE, TokenBatch
from poslab.tasks.language_modelling import next_token_batch


@dataclass(frozen=True)
class Windows:
    """Windows over a text of N tokens.

    Args:
        num_tokens: N, at least 2.
        length: tokens T of a window, at least 1.
        stride: tokens between the starts of windows, between 1 and T; windows of stride T do not overlap.

    Raises:
        ValueError: for a number out of its range.
    """

    num_tokens: int
    length: int
    stride: int

    def __post_init__(self) -> None:
        if self.num_tokens < 2:
            raise ValueError(f"num_tokens must be at least 2, got {self.num_tokens}")
        if self.length < 1:
            raise ValueError(f"length must be a positive integer, got {self.length}")
        if not 1 <= self.stride <= self.length:
            raise ValueError(f"stride must lie between 1 and the window length {self.length}, got {self.stride}")

    def __len__(self) -> int:
        beyond_the_first = max(0, self.num_tokens - 1 - self.length)
        return 1 + -(-beyond_the_first // self.stride)

    def batch(self, tokens: np.ndarray, numbers: np.ndarray, boundary: int | None) -> tuple[TokenBatch, np.ndarray]:
        """Return some windows as a batch, and the place in the text of each target.

        Args:
            tokens: (N,), any integer dtype.
            numbers: (B,), of the windows.
            boundary: token that ends a document, to keep documents apart; None does not.

        Returns:
            The batch, whose targets are `IGNORE` if an earlier window has predicted them or the text has ended, and
            (B, T) places of targets in the text, between 1 and N - 1.
        """
        place_BT = self.stride * numbers[:, None] + np.arange(1, self.length + 1)
        inside = np.minimum(np.concatenate([place_BT[:, :1] - 1, place_BT], axis=1), self.num_tokens - 1)
        batch = next_token_batch(tokens[inside], boundary)
        first_B = np.where(numbers == 0, 0, self.length - self.stride)
        left_out_BT = (np.arange(self.length) < first_B[:, None]) | (place_BT >= self.num_tokens)
        # Not in place: a batch of one row shares its memory with the tokens.
        targets_BT = batch.targets.masked_fill(torch.from_numpy(left_out_BT), IGNORE)
        return batch._replace(targets=targets_BT), place_BT

    def numbers(self, rows: int, process: int = 0, processes: int = 1) -> Iterator[np.ndarray]:
        """Yield the numbers of this process's share of the windows, in batches of at most `rows`."""
        mine = np.arange(process, len(self), processes)
        for start in range(0, len(mine), rows):
            yield mine[start : start + rows]
