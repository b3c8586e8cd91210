"""Mean logits by distance that positions give to the attention of a model.

Dimension letters: B batch, H heads, G key-value heads, T tokens, R query rows of a block, S keys, D head dim, N
distances, P halves of the texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from poslab.attention.blockwise import BLOCK
from poslab.attention.observed import AttentionInputs, observed
from poslab.encodings import NoPosition
from poslab.models import ForwardPass, Model

HALVES = 2


class PositionLogits(NamedTuple):
    """Mean logits of a layer by distance, at the distances 1 - T, ..., T - 1, query minus key."""

    logits: Tensor  # (H, N) float64; 0 where no query sees a key
    counts: Tensor  # (N,) float64, pairs of tokens at each distance

    @property
    def distance(self) -> Tensor:
        """Distances, (N,)."""
        most = len(self.counts) // 2
        return torch.arange(-most, most + 1, device=self.counts.device)


def position_logits(model: Model, readings: Iterable[ForwardPass]) -> list[PositionLogits]:
    """Return the mean logits by distance that positions give, for each layer, in one pass over some texts.

        m_h(d) = mean over texts, and over queries i that see the key j = i - d,
                 of  logit_h(i, j) - q_i . k_j / sqrt(D)

    The first term is the logit as the model has it, the second the logit of the same queries and keys before any
    rotation and without any bias. Both come from the hidden states of the model under its own positions.

    Positions in the embeddings are part of q and k, so that this difference does not contain them. They add their
    interaction, the part of the logit that two positions have in common whatever the tokens:

        a_h(d) = mean over i - j = d of (Q_i - Q) . (K_j - K) / sqrt(D)

    where Q_i is the mean over texts of the queries at position i, and Q is the mean of all Q_i; K_j and K are means
    of keys. What a query has by its own position is the same for all of its keys, and a softmax ignores it; what a key
    has by its own is no function of distance. The queries are from one half of the texts and the keys from the other,
    and then the other way around, because a text has tokens in common with itself.

    Padding does not count. Sums are in float64. The model is in evaluation mode, of one stack, at positions 0, 1, ...;
    ValueError for another one, and for a single text where positions are in the embeddings.
    """
    if len(model.stacks) > 1:
        raise ValueError("start=fitted supports models of one stack, and this one has an encoder and a decoder")
    for encoding in model.encodings:
        if "remap_positions" in encoding.hooks:
            raise ValueError(f"start=fitted counts tokens, and attention under {type(encoding).__name__} does not")
    embeds = model.position_rows is not None or any("embed" in encoding.hooks for encoding in model.encodings)
    layers = [_LayerSums(embeds) for _ in range(model.encodings.shape.num_layers)]
    for reading in readings:
        seen: list[_Seen] = []
        with torch.no_grad(), _watched(model, seen.append):
            reading(model)
        for layer, inputs in zip(layers, seen, strict=True):
            layer.add(*inputs)
    return [layer.means() for layer in layers]


_Seen = tuple[AttentionInputs, AttentionInputs]
"""Input of the attention of a layer, and the same before the model's own rotation of queries and keys."""


@contextmanager
def _watched(model: Model, see: Callable[[_Seen], None]) -> Iterator[None]:
    """Call `see` with what reaches the attention of each layer, layer after layer, while the model reads."""

    def hook(module: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]) -> Any:
        plain: list[AttentionInputs] = []

        def show(reached: AttentionInputs) -> None:
            see((reached, plain[0] if plain else reached))

        given = observed(show, positional, named)
        unrotated = None if given is None else model.unrotated(named)
        if unrotated is not None and (still := observed(plain.append, positional, unrotated)) is not None:
            module.forward(*still[0], **still[1])  # past the hooks, which have changed the arguments already
        return given

    handles = [module.register_forward_pre_hook(hook, with_kwargs=True) for module in model.modules()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _LayerSums:
    """Sums of a layer over texts, which grow with the longest of them.

    Args:
        embeds: True if positions are in the embeddings.
    """

    def __init__(self, embeds: bool) -> None:
        self.embeds = embeds
        self.length = self.texts = 0
        self.logits_HN = self.counts_N = torch.zeros(0)
        self.queries_PHTD = self.keys_PHTD = self.tokens_PT = torch.zeros(0)

    def add(self, reached: AttentionInputs, before: AttentionInputs) -> None:
        """Add the texts of a batch."""
        context = reached.context
        batch, heads, length, width = reached.queries.shape
        device = reached.queries.device
        self._grow(heads, length, width, device)
        real_BT = context.visibility.real_keys
        real_BT = torch.ones(batch, length, dtype=torch.bool, device=device) if real_BT is None else real_BT
        real_BT = real_BT.expand(batch, -1)
        q_BHTD, k_BHTD, weighting = reached.rotate_qk()
        without = replace(context, encoding=NoPosition(), tables=None)
        plain = reached._replace(queries=before.queries, keys=before.keys, state=None, context=without)
        plain_q_BHTD, plain_k_BHTD, plain_weighting = plain.rotate_qk()
        plain_scale = plain_weighting.scale
        for start in range(0, length, BLOCK):
            rows = slice(start, min(start + BLOCK, length))
            block = weighting.rows(rows, length, k_BHTD)
            logits_BHRS = context.encoding.logits(q_BHTD[:, :, rows].to(k_BHTD.dtype), k_BHTD[:, :, block.keys], block)
            plain_scale_R1 = plain_scale[:, :, rows] if isinstance(plain_scale, Tensor) else plain_scale
            plain_q_BHRD = plain_q_BHTD[:, :, rows].to(plain_k_BHTD.dtype)
            without_BHRS = plain_q_BHRD @ plain_k_BHTD[:, :, block.keys].mT * plain_scale_R1
            counts_BRS = real_BT[:, rows, None].expand(-1, -1, logits_BHRS.shape[-1])
            if block.visible is not None:
                counts_BRS = counts_BRS & block.visible[:, 0]
            difference_BHRS = (logits_BHRS.double() - without_BHRS.double()).masked_fill(~counts_BRS[:, None], 0.0)
            _add(self.logits_HN, difference_BHRS.sum(0), start)
            _add(self.counts_N[None], counts_BRS.sum(0, dtype=torch.float64)[None], start)
        if self.embeds:
            # Positions of documents in a row, and next to padding.
            places_N = context.key_positions.ids.expand(batch, -1).flatten()
            half_B = (self.texts + torch.arange(batch, device=device)) % HALVES
            for half in range(HALVES):
                chosen_BT = (real_BT & (half_B == half)[:, None]).double()
                self.tokens_PT[half].index_add_(0, places_N, chosen_BT.flatten())
                for sums_PHTD, x_BHTD in ((self.queries_PHTD, plain_q_BHTD), (self.keys_PHTD, plain_k_BHTD)):
                    of_half_BHTD = x_BHTD.double() * chosen_BT[:, None, :, None]
                    sums_PHTD[half].index_add_(1, places_N, of_half_BHTD.transpose(0, 1).flatten(1, 2))
            self.texts += batch

    def means(self) -> PositionLogits:
        """Return the means of all texts."""
        seen_N = self.counts_N > 0
        mean_HN = self.logits_HN / self.counts_N.clamp_min(1)
        if self.embeds:
            mean_HN = mean_HN + self._interaction()
        return PositionLogits(mean_HN.masked_fill(~seen_N, 0.0), self.counts_N)

    def _interaction(self) -> Tensor:
        """Return the mean by distance of what two positions have in common, (H, N)."""
        known_T = (self.tokens_PT > 0).all(0)
        if not bool(known_T.any()):
            raise ValueError("start=fitted needs at least two texts where positions are in the embeddings")
        count_T = known_T.double()
        centred = []
        for sums_PHTD in (self.queries_PHTD, self.keys_PHTD):
            mean_PHTD = sums_PHTD / self.tokens_PT.clamp_min(1)[:, None, :, None]
            centre_PH1D = (mean_PHTD * count_T[:, None]).sum(2, keepdim=True) / count_T.sum()
            centred.append((mean_PHTD - centre_PH1D) * count_T[:, None])
        q_PHTD, k_PHTD = centred
        scale = q_PHTD.shape[-1] ** -0.5 / HALVES
        sums_HN, pairs_N = torch.zeros_like(self.logits_HN), torch.zeros_like(self.counts_N)
        for start in range(0, self.length, BLOCK):
            rows = slice(start, min(start + BLOCK, self.length))
            both_HRS = (q_PHTD[:, :, rows] @ k_PHTD.flip(0).mT).sum(0) * scale
            _add(sums_HN, both_HRS, start)
            _add(pairs_N[None], (count_T[rows, None] * count_T)[None], start)
        return sums_HN / pairs_N.clamp_min(1)

    def _grow(self, heads: int, length: int, width: int, device: torch.device) -> None:
        """Make room for texts of a length."""
        if not self.length:
            self.logits_HN = torch.zeros(heads, 1, dtype=torch.float64, device=device)
            self.counts_N = torch.zeros(1, dtype=torch.float64, device=device)
            if self.embeds:
                self.queries_PHTD = self.logits_HN.new_zeros(HALVES, heads, 1, width)
                self.keys_PHTD = self.logits_HN.new_zeros(HALVES, heads, 1, width)
                self.tokens_PT = self.logits_HN.new_zeros(HALVES, 1)
            self.length = 1
        if (more := length - self.length) > 0:
            self.logits_HN = functional.pad(self.logits_HN, (more, more))
            self.counts_N = functional.pad(self.counts_N, (more, more))
            if self.embeds:
                self.queries_PHTD = functional.pad(self.queries_PHTD, (0, 0, 0, more))
                self.keys_PHTD = functional.pad(self.keys_PHTD, (0, 0, 0, more))
                self.tokens_PT = functional.pad(self.tokens_PT, (0, more))
            self.length = length


def _add(sums_HN: Tensor, block_HRS: Tensor, start: int) -> None:
    """Add a block of query rows, the first of which is `start`, to sums by distance."""
    rows, keys = block_HRS.shape[1:]
    # Row r of the flipped block, moved by r columns, has distance start + r - s at column keys - 1 + r - s.
    moved = functional.pad(block_HRS.flip(-1), (0, rows)).flatten(1)[:, : rows * (rows + keys - 1)]
    by_distance = moved.unflatten(1, (rows, rows + keys - 1)).sum(1)
    first = sums_HN.shape[1] // 2 + start - (keys - 1)
    sums_HN[:, first : first + rows + keys - 1] += by_distance
