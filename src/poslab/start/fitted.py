"""Biases fitted to the logits that earlier positions gave. Dimension letters: H heads, N distances."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from poslab.arguments import Count
from poslab.encodings import PositionalEncoding, Positions
from poslab.encodings.distance import BiasTable
from poslab.models import ForwardPass, Model
from poslab.start.base import Start
from poslab.start.position_logits import position_logits


class Fitted(Start):
    """A bias of distance begins nearest to the logits that the earlier positions gave, by weighted least squares.

        minimise  sum_d n(d) (bias_h(d) - m_h(d) - c_h)^2  over the parameters of the bias and a constant of each head

    m_h(d) is the mean logit that positions give to head h at distance d, and n(d) the number of pairs of tokens; see
    `position_logits`. Where an encoding serves several layers, m is their mean. A softmax ignores the constants.

    The fit keeps what the earlier positions do on average. What they do to single pairs of tokens is lost.

    Encodings: `t5` by the mean of each bucket, `alibi_learned` by linear regression, `kerple_log`, `kerple_power` and
    `tisa` by L-BFGS. Others are refused: those without parameters, and those whose logits depend on the tokens.

    Args:
        batches: global batches of training text that are read, in one pass.

    Raises:
        ValueError: for an argument out of its range.
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
                    f"start=fitted needs a model.{name} of {getattr(there, name)}, as the model that it begins with "
                    f"has, got {getattr(here, name)}"
                )
        if len(model.stacks) > 1 or len(earlier.stacks) > 1:
            raise ValueError("start=fitted serves models of one stack, not an encoder with a decoder")

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
            place = f"layer {layers[0]}" if len(layers) == 1 else f"{len(layers)} layers"
            lines.append(
                f"{type(encoding).__name__} of {place} explains {share:.0f} % of the variance over distance of the "
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
