"""Embeddings of where a digit stands in its number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor, nn

from poslab.arguments import NOT_HUGE, Count, Range
from poslab.encodings.base import PositionalEncoding
from poslab.encodings.positions import Positions
from poslab.encodings.tokens import Tokens

Offset = Annotated[int, Range(at_least=0), NOT_HUGE]
"""How far indices may shift."""


class Abacus(PositionalEncoding):
    """Abacus: digits that stand at the same place of their numbers get the same trained vector.

        x_t = embedding_t + W[index_t + k]  if token t is a digit, else embedding_t + W[0]
        index_t = 1 + the digits that stand directly before token t

    The offset k is one number for a whole forward pass: in training k ~ U{0, ..., max_k}, so that rows of longer
    numbers are trained as well; in evaluation k = 0. Of `1 2 + 3 4 5` the indices are 1 2 0 1 2 3. Numbers are to be
    written with the lowest digit first, so that each index is a power of ten, and digits that are added up have the
    same (`dataset=addition dataset.task.reversed=true`).

    Args:
        d_model: width M.
        digits: the ids of the tokens that are one digit each, at least one; a run takes them from its tokenizer.
        num_embeddings: rows of W, at least max_k + 2; index + k ends below it (authors' code: 1,024).
        max_k: the largest offset, at least 0, which shifts nothing (authors' code: 99).

    Parameters: `table.weight` (num_embeddings, M), once for the whole model; normal with standard deviation 0.02.

    Causal and bidirectional. It tells places within a number and nothing else; beside it attention has no position, or
    an encoding of its own (paper: none, FIRE, rotary; here `per_layer` with `encoding.embedding`). Claimed: trained on
    numbers of up to 20 digits, a model adds those of 100. Rows are trained up to the longest number of training plus
    max_k; those beyond stay as they were initialised. Costs one look-up a token before the first layer.

    k is drawn from torch's global generator of the device, which the training loop seeds anew for each process and
    micro-batch: each of these has its own, and a resumed run the same ones. Of an encoder-decoder each stack has its
    own table and draws its own k.

    Traps: a token of several digits, such as the `20` of a subword vocabulary, is no digit, nor is one that holds the
    space before it: `dataset.tokenizer=bytes` has every digit by itself. Such tokens end a number; so do a space
    between two digits, padding, and the next document of a row. Every token that is no digit gets row 0, which is
    trained as well, as the authors' is; so do the places at which an encoder answers an algorithmic task. Whether a
    number passes the table is looked up only in texts of at least num_embeddings - max_k tokens (in evaluation
    num_embeddings): a compiled model is cut there.

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
            raise ValueError("tokens must be given to Abacus, which counts the digits of numbers, got positions alone")
        is_digit_BS = torch.isin(tokens.ids, tokens.ids.new_tensor(self.digits))
        index_BS = index_in_number(is_digit_BS, tokens.segments)
        largest_k = self.max_k if self.training else 0
        if tokens.length + largest_k >= self.table.num_embeddings:  # in a shorter text no number is too long
            self._require_rows(int(index_BS.max()), largest_k)
        if largest_k:
            # A tensor, not a number: a compiled step would be compiled anew for each offset.
            k = torch.randint(largest_k + 1, (), device=index_BS.device)
            index_BS = torch.where(is_digit_BS, index_BS + k, 0)
        added_BTM: Tensor = self.table(index_BS[:, -x_BTM.shape[1] :])
        return x_BTM + added_BTM.to(x_BTM.dtype)

    def _require_rows(self, longest: int, largest_k: int) -> None:
        """Raises ValueError if a number of so many digits passes the table, whichever offset has been drawn."""
        if longest + largest_k >= self.table.num_embeddings:
            raise ValueError(
                f"num_embeddings={self.table.num_embeddings} rows end before a number of {longest} digits under "
                f"offsets up to {largest_k}; train with more rows, or on shorter numbers"
            )


def index_in_number(is_digit_BS: Tensor, segments_BS: Tensor | None = None) -> Tensor:
    """Where each digit stands in its number, counted from 1; 0 for all other tokens, (B, S).

    Args:
        is_digit_BS: which tokens are digits, bool.
        segments_BS: the document of each token, of which no number passes the end; None is one a row.
    """
    begins_BS = is_digit_BS.clone()
    goes_on = is_digit_BS[:, :-1]
    if segments_BS is not None:
        goes_on = goes_on & (segments_BS[:, 1:] == segments_BS[:, :-1])
    begins_BS[:, 1:] &= ~goes_on
    places_S = torch.arange(is_digit_BS.shape[1], device=is_digit_BS.device)
    first_BS = torch.where(begins_BS, places_S, 0).cummax(dim=1).values
    return torch.where(is_digit_BS, places_S - first_BS + 1, 0)
