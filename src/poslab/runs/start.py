"""The start of an encoding that replaces another one: its own values, or values from the earlier positions.

Dimension letters: H heads, N distances or rows, K rows, M model dim.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import torch
from torch import Tensor

from poslab.arguments import CheckedArguments, Count
from poslab.encodings import PositionalEncoding, Positions
from poslab.encodings.distance import BiasTable
from poslab.models import ForwardPass, Model
from poslab.runs.position_logits import position_logits


class Start(CheckedArguments):
    """Base class of the ways in which a new encoding begins, in a model that was trained under earlier positions."""

    needs_earlier: ClassVar[bool] = True  # True if it reads the model under its earlier positions
    batches: int = 0  # global batches of training text that the earlier model reads

    def check(self, model: Model, earlier: Model) -> None:
        """Raise ValueError if the encoding cannot begin so; both models may be without memory for their weights."""

    def apply(self, model: Model, earlier: Model, readings: Iterable[ForwardPass] = ()) -> list[str]:
        """Set the encodings of a model; return a line for each that says how it begins.

        `earlier` is the model under its earlier positions, in evaluation mode, and `readings` are passes over training
        text.
        """
        return []


class Fresh(Start):
    """The encoding starts from its own initial values, the default."""

    needs_earlier = False


class StartOfRows(Start):
    """Base class of starts that make K rows of learned positions of the N rows that the model has."""

    def check(self, model: Model, earlier: Model) -> None:
        new, old = _tables(model), earlier.position_rows
        name = type(self).__name__.lower()
        if not new:
            kinds = " and ".join(sorted({type(encoding).__name__ for encoding in model.encodings}))
            raise ValueError(
                f"start={name} needs an encoding with a row for each position, such as learned, got {kinds}"
            )
        if old is None:
            raise ValueError(f"start={name} needs a model that has a row for each position, and this one has none")
        if old.shape[1] != new[0].shape[1]:
            raise ValueError(
                f"start={name} needs rows as wide as the model, {new[0].shape[1]} numbers, got {old.shape[1]}"
            )

    def apply(self, model: Model, earlier: Model, readings: Iterable[ForwardPass] = ()) -> list[str]:
        self.check(model, earlier)
        old_NM = earlier.position_rows
        assert old_NM is not None
        lines = []
        for table in _tables(model):
            with torch.no_grad():
                table.copy_(self.rows(old_NM.detach().to(table.device), len(table)))
            lines.append(f"{len(table):,} rows of positions are {type(self).__name__.lower()} from {len(old_NM):,}")
        return lines

    def rows(self, old_NM: Tensor, count: int) -> Tensor:
        """Return K = count rows, (K, M)."""
        raise NotImplementedError


class Copied(StartOfRows):
    """The rows of the model, again and again.

        W'[p] = W[p mod N]

    The first N rows are exactly the model's own. A text that is longer is read as if it began again, so that near
    distances keep their meaning.

    Source: Beltagy, Peters, Cohan, "Longformer: The Long-Document Transformer" (2020), section 5.
    """

    def rows(self, old_NM: Tensor, count: int) -> Tensor:
        return old_NM[torch.arange(count, device=old_NM.device) % len(old_NM)]


class Interpolated(StartOfRows):
    """The rows of the model, stretched by linear interpolation along positions.

        W'[p] = (1 - f) W[k] + f W[k + 1],    k + f = p (N - 1) / (K - 1),    k an integer, 0 <= f < 1

    The first and the last row are the model's own; with N = 512 and K = 1,023 so is every second one. A table that is
    not longer (K <= N) is the first K rows. Every distance shrinks by the same factor, the near ones too.

    Source: Zhu et al., "LongEmbed: Extending Embedding Models for Long Context Retrieval" (EMNLP 2024).
    """

    def rows(self, old_NM: Tensor, count: int) -> Tensor:
        if count <= len(old_NM):
            return old_NM[:count]
        steps = torch.arange(count, device=old_NM.device) * (len(old_NM) - 1)  # integers, so that no row is missed
        before, rest = steps // (count - 1), steps % (count - 1)
        share_K1 = (rest.to(old_NM.dtype) / (count - 1)).unsqueeze(-1)
        return torch.lerp(old_NM[before], old_NM[(before + 1).clamp_max(len(old_NM) - 1)], share_K1)


def _tables(model: Model) -> list[Tensor]:
    """Return the tables of positions of a model's encodings."""
    return [encoding.rows for encoding in model.encodings if encoding.rows is not None]


class Fitted(Start):
    """A bias of distance begins nearest to the logits that the earlier positions gave, by weighted least squares.

        minimise  sum_d n(d) (bias_h(d) - m_h(d) - c_h)^2  over the parameters of the bias and a constant of each head

    m_h(d) is the mean logit that positions give to head h at distance d, and n(d) the number of pairs of tokens; see
    `position_logits`. Where an encoding supports several layers, m is their mean. A softmax ignores the constants.

    The fit keeps what the earlier positions do on average. What they do to single pairs of tokens is lost.

    Encodings: `t5` by the mean of each bucket, `alibi_learned` by linear regression, `kerple_log`, `kerple_power` and
    `tisa` by L-BFGS. Other encodings raise an error: they have no parameters, or logits that depend on the tokens.

    Args:
        batches: global batches of training text that are read, in one pass.
    """

    def __init__(self, batches: Count = 4) -> None:
        self.batches = batches

    def check(self, model: Model, earlier: Model) -> None:
        if not any(encoding.can_be_fitted for encoding in model.encodings):
            kinds = " and ".join(sorted({type(encoding).__name__ for encoding in model.encodings}))
            raise ValueError(
                "start=fitted needs an encoding that learns a bias of distance (t5, alibi_learned, kerple_log, "
                f"kerple_power or tisa), got {kinds}"
            )
        here, there = model.encodings.shape, earlier.encodings.shape
        for name in ("num_layers", "num_heads"):
            if getattr(here, name) != getattr(there, name):
                raise ValueError(
                    f"start=fitted needs a model.{name} of {getattr(there, name)}, as the model that it starts from "
                    f"has, got {getattr(here, name)}"
                )
        if len(model.stacks) > 1 or len(earlier.stacks) > 1:
            raise ValueError("start=fitted supports models of one stack, not an encoder with a decoder")

    def apply(self, model: Model, earlier: Model, readings: Iterable[ForwardPass] = ()) -> list[str]:
        self.check(model, earlier)
        encodings, lines = model.encodings, []
        of_layers = position_logits(earlier, readings)
        distance_N = of_layers[0].distance.cpu()
        for encoding in encodings:
            layers = [n for n in range(encodings.shape.num_layers) if encodings.layer(n) is encoding]
            if not encoding.can_be_fitted or not layers:
                continue
            pairs_N = torch.stack([of_layers[n].counts for n in layers]).sum(0).cpu()
            sums_HN = torch.stack([of_layers[n].logits * of_layers[n].counts for n in layers]).sum(0).cpu()
            seen = pairs_N > 0
            known = (distance_N[seen], sums_HN[:, seen] / pairs_N[seen], pairs_N[seen])
            encoding.fit(*known)
            share = 100 * explained(encoding, *known)
            served = f"layer {layers[0]}" if len(layers) == 1 else f"{len(layers)} layers"
            lines.append(
                f"{type(encoding).__name__} of {served} explains {share:.0f}% of the variance over distance of the "
                "logits that the earlier positions give"
            )
        return lines


def explained(encoding: PositionalEncoding, distance_N: Tensor, logits_HN: Tensor, weight_N: Tensor) -> float:
    """Return the share of the weighted variance over distance, of all heads together, that a bias explains."""
    length = int(distance_N.abs().max()) + 1
    positions = Positions.range(length)
    with torch.no_grad():
        bias = encoding.bias(encoding.prepare(positions, positions))
    assert isinstance(bias, BiasTable)
    bias_HN = bias.for_heads(len(logits_HN))[:, distance_N + length - 1].double()
    share_N = weight_N / weight_N.sum()
    total, rest = (
        (share_N * (x - (share_N * x).sum(-1, keepdim=True)).square()).sum() for x in (logits_HN, logits_HN - bias_HN)
    )
    return 1.0 if total == 0 else float(1 - rest / total)
