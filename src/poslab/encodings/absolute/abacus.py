"""Abacus embeddings of a digit's position in its number. Dimension letters: B batch, T and S tokens, M model dim."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor, nn

from poslab.arguments import NOT_HUGE, Count, Range
from poslab.encodings.base import PositionalEncoding
from poslab.encodings.positions import Positions
from poslab.encodings.tokens import Tokens, read_number, require_ids

Offset = Annotated[int, Range(at_least=0), NOT_HUGE]
"""Largest shift of the indices."""


class Abacus(PositionalEncoding):
    """Abacus: digits at the same position of their numbers share a trained vector.

        x_t = embedding_t + W[index_t + k]  if token t is a digit, else embedding_t + W[0]
        index_t = 1 + the digits directly before token t

    The offset k is one number for a whole forward pass: in training k ~ U{0, ..., max_k}, which trains the rows of
    longer numbers too; in evaluation k = 0. `1 2 + 3 4 5` has the indices 1 2 0 1 2 3. Write numbers with the lowest
    digit first, so that an index is a power of ten and the digits of a sum have the same
    (`dataset=addition dataset.task.reversed=true`).

    Use it when numbers are the task, such as adding numbers with more digits than in training. It encodes positions
    only within numbers: give the model another encoding too for everything else.

    Args:
        d_model: width M.
        digits: ids of the tokens that are one digit each, at least one; a run gets them from its tokenizer.
        num_embeddings: rows of W, at least max_k + 2; index + k must be below it (authors' code: 1,024).
        max_k: largest offset, at least 0, which means no shift (authors' code: 99).

    Parameters: `table.weight` (num_embeddings, M), once for the whole model; normal with standard deviation 0.02.

    Causal and bidirectional. It encodes positions within a number and nothing else; attention has no other
    position, or its own encoding (paper: none, FIRE, rotary; here `per_layer` with `encoding.embedding`).
    Claimed: trained on numbers of up to 20 digits, a model adds numbers of 100. Rows are trained up to the longest
    number of training plus max_k; rows beyond stay as initialised. Costs one look-up per token before the first layer.

    k is drawn from torch's global generator of the device, which the training loop seeds again for each process and
    micro-batch: each has its own k, but for processes that share a window, and a resumed run the same ones. An
    encoder-decoder has a table and k per stack.

    Traps: a token of several digits, such as the `20` of a subword vocabulary, is not a digit, nor is one that includes
    the space before it; with `dataset.tokenizer=bytes` every digit is a token. A number ends at such tokens, at a space
    between two digits, at padding, and at the next document of a row. All tokens that are not digits, including the
    positions at which an encoder answers an algorithmic task, share row 0, which is trained as the authors' is. Only
    texts of at least num_embeddings - max_k tokens (in evaluation num_embeddings) are searched for a number that passes
    the table; a compiled graph breaks there.

    Raises:
        ValueError: without digits, for an argument out of its range, for a number that may pass the table under the
            largest offset of the mode, and where the tokens are not given.

    Source: McLeish et al., "Transformers Can Do Arithmetic with the Right Embeddings" (NeurIPS 2024), section 3.
    """

    def __init__(self, d_model: Count, digits: Sequence[int], num_embeddings: Count = 1024, max_k: Offset = 99) -> None:
        super().__init__()
        if not digits:
            raise ValueError(
                "encoding Abacus needs digits, and no token of this vocabulary is one: choose a dataset with numbers, "
                "or another encoding"
            )
        if num_embeddings < max_k + 2:
            raise ValueError(f"num_embeddings must be at least max_k + 2 = {max_k + 2}, got {num_embeddings}")
        self.digits = tuple(digits)
        self.max_k = max_k
        self.table = nn.Embedding(num_embeddings, d_model)
        nn.init.normal_(self.table.weight, std=0.02)

    def embed(self, x_BTM: Tensor, positions: Positions, tokens: Tokens | None = None) -> Tensor:
        if tokens is None:
            raise ValueError("tokens must be given to Abacus, which counts the digits of numbers, got only positions")
        is_digit_BS = torch.isin(tokens.ids, tokens.ids.new_tensor(self.digits))
        index_BS = index_in_number(is_digit_BS, tokens.segments)
        largest_k = self.max_k if self.training else 0
        if tokens.length + largest_k >= self.table.num_embeddings:  # in a shorter text no number is too long
            instead = f"num_embeddings must be above the length and the largest offset, {tokens.length + largest_k},"
            longest = read_number(index_BS.max(), instead)
            if longest + largest_k >= self.table.num_embeddings:  # whichever offset has been drawn
                raise ValueError(
                    f"num_embeddings={self.table.num_embeddings} rows end before a number of {longest} digits under "
                    f"offsets up to {largest_k}; train with more rows, or on shorter numbers"
                )
        if largest_k:
            # A tensor, not a number, for which a step would be compiled again for each offset.
            k = torch.randint(largest_k + 1, (), device=index_BS.device)
            index_BS = torch.where(is_digit_BS, index_BS + k, 0)
        added_BTM: Tensor = self.table(index_BS[:, -x_BTM.shape[1] :])
        return x_BTM + added_BTM.to(x_BTM.dtype)

    def require_vocabulary(self, vocab_size: int) -> None:
        require_ids("digits", self.digits, vocab_size)


def index_in_number(is_digit_BS: Tensor, segments_BS: Tensor | None = None) -> Tensor:
    """Return the position of each digit in its number, counted from 1, and 0 for all other tokens, (B, S).

    A number ends with its document, the number of which is in `segments_BS`; None if a row is one document.
    """
    after_digit_BS = is_digit_BS[:, :-1]
    if segments_BS is not None:
        after_digit_BS = after_digit_BS & (segments_BS[:, 1:] == segments_BS[:, :-1])
    begins_BS = is_digit_BS.clone()
    begins_BS[:, 1:] &= ~after_digit_BS
    places_S = torch.arange(is_digit_BS.shape[1], device=is_digit_BS.device)
    first_BS = torch.where(begins_BS, places_S, 0).cummax(dim=1).values
    return torch.where(is_digit_BS, places_S - first_BS + 1, 0)
