"""CoPE's counts of tokens. Dimension letters: B batch, H heads, R query rows, S keys, D head dim, P embeddings."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn

from poslab.arguments import NOT_HUGE, Count, Range
from poslab.encodings.base import PositionalEncoding, QueryRows
from poslab.encodings.relative.scores import pick
from poslab.encodings.shape import VectorTable


class CoPE(PositionalEncoding):
    """Contextual position encoding: a query counts only the tokens that it finds relevant, and looks up the count.

        logit(i, j) = q_i . k_j / sqrt(D) + q_i . e[p_ij]
        p_ij = min(g_ij + ... + g_ii, P - 1),    g_it = sigmoid(q_i . k_t / sqrt(D))

    where e at a fraction is interpolated linearly between the embeddings of the whole numbers around it. With all gates
    open, p_ij = i - j + 1; the key at the query itself is at g_ii, not at 0.

    Use it when what has to be counted is not tokens: sentences, items of a list, or the occurrences of a word.

    Args:
        head_dim: head dimension D.
        num_positions: number P of embeddings, at least 2; counts beyond P - 1 share the last (default of the authors'
            code: the training length plus one; x-transformers: 16).

    Parameters: `position_embedding` (P, D) in each layer, for all its heads, initially zero (as in the authors' code,
    which can also share it among layers).

    Causal. Positions are never read, only visibility: a query does not count what it does not see. Claimed to
    generalise to longer texts, since a count need not grow with them. Costs P products per query, two gathers and a
    cumulative sum over all keys; memory: P numbers for each query, and some for each key, of a block.

    Traps: published code disagrees on the scale. The authors' divides the sum, (q . k + q . e) / sqrt(D), unless given
    `--cope-nodiv`; with that option, and in x-transformers, only q . k is divided, as here: what an encoding adds is
    unscaled everywhere in this laboratory, and embeddings that begin at zero get sqrt(D) times the gradient. The
    functions are the same up to that factor. A temperature scales q . k, but neither the gates nor q . e. Counts are
    float32, since sums in bfloat16 stop growing at 256. The other CoPE, clipped rotary embeddings
    (`encoding=rope_clipped`), is unrelated.

    Source: Golovneva, Wang, Weston, Sukhbaatar, "Contextual Position Encoding: Learning to Count What's Important"
    (2024), section 4.
    """

    shared_by_layers = False
    causal_only = True

    def __init__(self, head_dim: Count, num_positions: Annotated[int, Range(at_least=2), NOT_HUGE] = 64) -> None:
        super().__init__()
        self.num_positions = num_positions
        self.gate_scale = head_dim**-0.5
        self.position_embedding = nn.Parameter(torch.zeros(num_positions, head_dim))

    def vectors(self) -> dict[str, VectorTable]:
        return {"counts": VectorTable(self.position_embedding)}

    def content_positions(self, q_BHRD: Tensor, k_BHSD: Tensor, rows: QueryRows) -> Tensor:
        """Return the count p_ij."""
        return self._count(q_BHRD @ k_BHSD.mT, rows)

    def logits(self, q_BHRD: Tensor, k_BHSD: Tensor, rows: QueryRows) -> Tensor:
        products_BHRS = q_BHRD @ k_BHSD.mT
        count_BHRS = self._count(products_BHRS, rows)
        scores_BHRP = q_BHRD @ self.position_embedding.to(q_BHRD.dtype).T
        below_BHRS = count_BHRS.floor()
        at_below, at_above = (pick(scores_BHRP, index.long()) for index in (below_BHRS, count_BHRS.ceil()))
        return products_BHRS * rows.scale + torch.lerp(at_below, at_above, count_BHRS - below_BHRS)

    def _count(self, products_BHRS: Tensor, rows: QueryRows) -> Tensor:
        gates_BHRS = (products_BHRS * self.gate_scale).sigmoid()
        if rows.visible is not None:
            gates_BHRS = gates_BHRS.masked_fill(~rows.visible, 0.0)
        # Summed from the query back to each key, so that a count loses no precision to the keys far away.
        return gates_BHRS.flip(-1).cumsum(-1).flip(-1).clamp(max=self.num_positions - 1)
