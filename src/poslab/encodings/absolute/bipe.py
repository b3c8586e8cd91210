"""Bilevel positions (BiPE): segments, and positions within them.

Dimension letters: B batch, T and S tokens, M model dim.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated

import torch
from torch import Tensor, nn

from poslab.arguments import NOT_HUGE, Count, Range, checked
from poslab.encodings.base import PositionalEncoding
from poslab.encodings.layers import LayerPattern
from poslab.encodings.positions import Positions, first_of_document
from poslab.encodings.rotary import Rotary
from poslab.encodings.tokens import PADDING, Tokens, require_ids

End = Annotated[int, Range(at_least=0), NOT_HUGE]
"""Id of a token that ends a segment."""


class Bilevel(PositionalEncoding):
    """Bilevel positions: a learned vector for the position within a segment, and segments as positions for all layers.

        x_t = embedding_t + W[min(t - begin_t, N - 1)],    attention has token t at position s_t

    with s_t the number of segments that ended before t in its document, and begin_t the first token of its segment.
    A segment begins behind each token of `ends`, and where its document begins. `bipe` has the published forms.

    Use it when texts fall into sentences or lines, and an encoding of `per_layer` should count these.

    Args:
        d_model: width M.
        ends: ids of the tokens that end a segment, to which they belong themselves.
        num_embeddings: rows N of W; later positions of a segment share the last one.

    Parameters: `table.weight` (N, M), once for the whole model; normal with standard deviation 0.02.

    Raises:
        ValueError: without ends, for an argument out of its range, for ends beyond the vocabulary of the model, and
            where the tokens are not given.

    Source: as of `bipe`.
    """

    counts = "segments"

    def __init__(self, d_model: Count, ends: Sequence[End], num_embeddings: Count = 1024) -> None:
        super().__init__()
        if not ends:
            raise ValueError("ends must name at least one token that ends a segment, got none")
        self.ends = tuple(ends)
        self.table = nn.Embedding(num_embeddings, d_model)
        nn.init.normal_(self.table.weight, std=0.02)

    def embed(self, x_BTM: Tensor, positions: Positions, tokens: Tokens | None = None) -> Tensor:
        ids_BS = self._ids(tokens)
        begins_BS = torch.ones_like(ids_BS, dtype=torch.bool)
        begins_BS[:, 1:] = self._ends(ids_BS)[:, :-1] | (ids_BS[:, :-1] == PADDING)
        place_S = torch.arange(ids_BS.shape[1], device=ids_BS.device)
        begin_BS = torch.where(begins_BS, place_S, 0).cummax(dim=1).values
        if tokens is not None and tokens.segments is not None:
            begin_BS = torch.maximum(begin_BS, first_of_document(tokens.segments))
        index_BT = (place_S - begin_BS)[:, -x_BTM.shape[1] :].clamp(max=self.table.num_embeddings - 1)
        added_BTM: Tensor = self.table(index_BT)
        return x_BTM + added_BTM.to(x_BTM.dtype)

    def remap_positions(self, positions: Positions, tokens: Tokens | None = None) -> Positions:
        ends_BS = self._ends(self._ids(tokens)).long()
        before_BS = ends_BS.cumsum(dim=1) - ends_BS
        if tokens is not None and tokens.segments is not None:
            before_BS = before_BS - before_BS.gather(1, first_of_document(tokens.segments))
        ids_BT = before_BS[:, before_BS.shape[1] - positions.length :]
        return replace(positions, ids=ids_BT, contiguous=False)

    def require_vocabulary(self, vocab_size: int) -> None:
        require_ids("ends", self.ends, vocab_size)

    def _ids(self, tokens: Tokens | None) -> Tensor:
        if tokens is None:
            raise ValueError(
                "tokens must be given to Bilevel, which counts those that end a segment, got only positions"
            )
        return tokens.ids

    def _ends(self, ids_BS: Tensor) -> Tensor:
        return torch.isin(ids_BS, ids_BS.new_tensor(self.ends))


@checked
def bipe(
    ends: Sequence[End], over: Callable[..., PositionalEncoding] = Rotary, num_embeddings: Count = 1024
) -> LayerPattern:
    """Return bilevel positions (BiPE): a vector for the position in a sentence, and an encoding that counts sentences.

        x_t = embedding_t + W[min(t - begin_t, N - 1)],    layers have token t at position s_t

    with s_t the number of segments that ended before t in its document, and begin_t the first token of its segment.
    Under BiPE-RoPE queries and keys rotate by s_i - s_j, under BiPE-ALiBi the bias is of s_i - s_j.

    Use it when texts fall into sentences or lines and will be longer than in training: positions within a segment stay
    as small, and there are far fewer segments than tokens.

    Args:
        ends: ids of the tokens that end a segment, to which they belong themselves (paper: the full stop and the end of
            a line). With `dataset.tokenizer=bytes` these are 46 and 10.
        over: factory of the encoding that reads the numbers of segments (paper: `Rotary` or `Alibi`).
        num_embeddings: rows N of W; later positions of a segment share the last one (authors: 1,024).

    Parameters: W, `table.weight` (N, M), once for the whole model, and of `over` in each layer.

    Causal and bidirectional, as `over`. Costs a look-up for each token, and `over` at positions that do not follow one
    another: a bias of distance is then computed block by block. Windows count tokens, as ever. The paper claims a lower
    perplexity beyond the training length than rotary and ALiBi.

    Traps: without such tokens a text is one segment, and `over` sees no distance. The ids belong to a tokenizer.
    Padding is not counted. A sampler of positions would change nothing, and raises an error in training.

    Raises:
        ValueError: without ends, for an argument out of its range, for ends beyond the vocabulary of the model, and
            where the tokens are not given.

    Source: He et al., "Two Stones Hit One Bird: Bilevel Positional Encoding for Better Length Extrapolation" (ICML
    2024), and its code.
    """
    return LayerPattern([over], embedding=partial(Bilevel, ends=ends, num_embeddings=num_embeddings))
