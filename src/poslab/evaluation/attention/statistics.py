"""Statistics of the attention of each head, and the divergence between models.

Dimension letters: B batch, H heads, T tokens, R queries of a block, S keys of a block, L layers, N distances.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from poslab.attention.blockwise import BLOCK
from poslab.evaluation.attention.rows import RowsOfLayer, attention_rows
from poslab.models import ForwardPass, Model

Readings = Tensor | Sequence[ForwardPass]
"""Token ids (B, T) on the device of a model, or what has it read one text after the other."""


def attention_statistics(model: Model, read: Readings, rows: int = BLOCK, stack: str = "self") -> pd.DataFrame:
    """Return statistics of each head as means over all queries of these texts, a row for each layer and head.

    | column           | is                                                                            |
    | ---------------- | ----------------------------------------------------------------------------- |
    | `entropy`        | of a query's attention, in nats; n keys that share it evenly have ln n        |
    | `mean_distance`  | tokens between a query and its keys, weighted by attention                    |
    | `first_token`    | share of the first token of the text (the attention sink)                     |
    | `own_token`      | share of the query's own token                                                |
    | `previous_token` | share of the token before it                                                  |
    | `next_token`     | share of the token after it, in a stack that is not causal                    |
    | `attended`       | sum of the weights: 1 under a softmax, at most 1 under stick-breaking         |

    Cross-attention has no distances: its columns are `entropy`, `first_token` and `last_token` of the source, and
    `attended`. If weights do not sum to 1, all columns but the last describe them divided by their sum, and leave out
    queries that attend to nothing. Distance is counted in storage order, not in positions.

    Args:
        model: in evaluation mode.
        read: the texts.
        rows: queries of a block; memory grows with rows * T.
        stack: name of the attention, of `model.stacks`.

    Raises:
        ValueError: as of `attention_rows`.
    """
    sums: dict[int, pd.DataFrame] = {}
    for block in _blocks(model, read, rows, stack):
        shares_BHRS, attends_BHR = _shares(block.weights)
        by_query = {
            "entropy": torch.special.entr(shares_BHRS).sum(-1),
            "first_token": shares_BHRS[..., 0],
            "attended": block.weights.sum(-1),
            "attending": attends_BHR,
            "queries": torch.ones_like(attends_BHR),
        }
        if attends_to_itself(stack):
            by_query["mean_distance"] = (shares_BHRS * block.distance.abs()).sum(-1)
            neighbours = {"own_token": 0, "previous_token": -1} | ({} if is_causal(model, stack) else {"next_token": 1})
            by_query |= {name: shares_BHRS.diagonal(block.start + step, -2, -1) for name, step in neighbours.items()}
        else:
            by_query["last_token"] = shares_BHRS[..., -1]
        by_head = {name: values.sum((0, 2), dtype=torch.float64).cpu().numpy() for name, values in by_query.items()}
        sums[block.layer] = pd.DataFrame(by_head) + sums.get(block.layer, 0)
    totals = pd.concat(sums, names=["layer", "head"])
    means = totals.div(totals["attending"].clip(lower=1), axis=0).assign(
        attended=totals["attended"] / totals["queries"]
    )
    return means[[name for name in STATISTICS if name in means]].reset_index()


STATISTICS = (
    *("entropy", "mean_distance", "first_token", "last_token", "own_token", "previous_token", "next_token"),
    "attended",
)
"""Columns of `attention_statistics`, in order."""


def attention_by_distance(model: Model, read: Readings, rows: int = BLOCK, stack: str = "self") -> pd.DataFrame:
    """Return the mean attention of each head at each distance, over the queries that have a key there.

    At distance d these are the queries from position d on, so far distances are means over few. Keys ahead of a query
    have negative distances; a causal stack has none. Keys outside the window of a layer count as 0.

    Arguments and errors are those of `attention_statistics`; the stack attends to its own text.

    Returns:
        Columns `layer`, `head`, `distance` (0, ..., T - 1; from -(T - 1) on if not causal) and `attention`, a weight in
        [0, 1].
    """
    sums: dict[int, Tensor] = {}
    counts: dict[int, Tensor] = {}
    for block in _blocks(model, read, rows, stack):
        at_HN, number_N, first = _at_distances(block)
        for of_layer, new in ((sums, at_HN), (counts, number_N.expand(1, -1))):
            of_layer[block.layer] = _added(of_layer.get(block.layer), new, first)
    frames = []
    for layer in sums:
        mean_HN = (sums[layer] / counts[layer].clamp_min(1)).cpu()
        middle = mean_HN.shape[1] // 2
        labels = itertools.product([layer], range(len(mean_HN)), range(-middle, middle + 1))
        frame = pd.DataFrame(labels, columns=["layer", "head", "distance"]).assign(attention=mean_HN.flatten().numpy())
        has_key = (counts[layer][0] > 0).cpu().numpy()
        kept = has_key & (np.arange(-middle, middle + 1) >= (0 if is_causal(model, stack) else -middle))
        frames.append(frame[np.tile(kept, len(mean_HN))])
    return pd.concat(frames, ignore_index=True)


def is_causal(model: Model, stack: str) -> bool:
    """Return whether a query of a stack sees no key after itself."""
    return attends_to_itself(stack) and model.stacks[stack].shape.causal


def attends_to_itself(stack: str) -> bool:
    """Return whether queries and keys of a stack are of the same text, so that distances have a meaning."""
    return stack != "cross"


def attention_divergence(
    models: Mapping[str, Model], read: Readings, rows: int = BLOCK, stack: str = "self"
) -> pd.DataFrame:
    """Return the Jensen-Shannon divergence, in bits, of the attention of models that read the same texts.

        JSD(p, q) = entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2

    It is 0 if two models attend alike, and 1 if no key gets attention from both. For each layer it is the mean over
    queries; p and q are means over the heads of that layer. Two runs share no order of heads, and the mean needs none;
    since the divergence is convex, it is at most that of any pairing of the heads. Queries that attend to nothing under
    either model are left out.

    Args:
        models: at least two by name, in evaluation mode, with the same number of layers and the same vocabulary.
        read, rows, stack: as in `attention_statistics`.

    Returns:
        Columns `layer`, `first`, `second` (names) and `divergence`; a row for each layer and pair.

    Raises:
        ValueError: for other models, and as of `attention_rows`.

    Source: Lin, "Divergence Measures Based on the Shannon Entropy" (IEEE Transactions on Information Theory, 1991).
    """
    if len(models) < 2:
        raise ValueError(f"models must be at least two, got {len(models)}")
    depths = {name: len(model.stacks[stack].windows) for name, model in models.items()}
    if len(set(depths.values())) > 1:
        found = ", ".join(f"{name} with {depth}" for name, depth in depths.items())
        raise ValueError(f"models must have the same number of layers, got {found}")
    sums: list[tuple[int, str, str, float, int]] = []
    readings = [_blocks(model, read, rows, stack) for model in models.values()]
    for blocks in zip(*readings, strict=True):
        shares = {name: _shares(block.weights.mean(1)) for name, block in zip(models, blocks, strict=True)}
        for first, second in itertools.combinations(models, 2):
            (p_BRS, p_attends), (q_BRS, q_attends) = shares[first], shares[second]
            of_both = _jensen_shannon(p_BRS, q_BRS)[p_attends & q_attends]
            sums.append((blocks[0].layer, first, second, float(of_both.sum(dtype=torch.float64)), len(of_both)))
    of_pair = ["layer", "first", "second"]
    totals = pd.DataFrame(sums, columns=[*of_pair, "sum", "queries"]).groupby(of_pair, sort=False, as_index=False).sum()
    return totals[of_pair].assign(divergence=totals["sum"] / totals["queries"])


def _blocks(model: Model, read: Readings, rows: int, stack: str) -> Iterator[RowsOfLayer]:
    """Yield the blocks of all texts."""
    for one in [read] if isinstance(read, Tensor) else read:
        yield from attention_rows(model, one, rows=rows, stack=stack)


def _shares(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return weights (..., R, S) as shares of their sum, and whether a query attends to anything, (..., R)."""
    total = weights.sum(-1, keepdim=True)
    attends = total > 0
    return weights / total.where(attends, 1.0), attends.squeeze(-1)


def _at_distances(block: RowsOfLayer) -> tuple[Tensor, Tensor, int]:
    """Return the weights of a block by distance, their number, and the first distance.

    The weights, (H, N) float64, are sums over texts and queries; distances follow one another. The number, (N,), is
    that of queries which have a key there.
    """
    weights_HRS = block.weights.sum(0, dtype=torch.float64)
    rows, keys = weights_HRS.shape[-2:]
    first = block.start - keys + 1
    distance_N = torch.arange(first, block.start + rows, device=weights_HRS.device)
    # Query i has key i - d at distance d, and none outside of the text.
    key_RN = block.distance[:, :1] - distance_N
    is_key_RN = (key_RN >= 0) & (key_RN < keys)
    found_HRN = weights_HRS.gather(-1, key_RN.clamp(0, keys - 1).expand(len(weights_HRS), -1, -1))
    number_N = len(block.weights) * is_key_RN.sum(0)
    return found_HRN.masked_fill(~is_key_RN, 0.0).sum(1), number_N, first


def _added(total: Tensor | None, new: Tensor, first: int) -> Tensor:
    """Return sums by distance, whose middle column is distance 0, with new ones from the distance `first` on."""
    furthest = max(-first, first + new.shape[1] - 1, 0 if total is None else total.shape[1] // 2)
    whole = new.new_zeros(len(new), 2 * furthest + 1)
    if total is not None:
        whole[:, furthest - total.shape[1] // 2 : furthest + total.shape[1] // 2 + 1] += total
    whole[:, furthest + first : furthest + first + new.shape[1]] += new
    return whole


def _jensen_shannon(p: Tensor, q: Tensor) -> Tensor:
    """Return the divergence of distributions over the last dimension, in bits."""
    entropy_p, entropy_q, entropy_of_mean = (torch.special.entr(x).sum(-1) for x in (p, q, (p + q) / 2))
    return (entropy_of_mean - (entropy_p + entropy_q) / 2).clamp_min(0) / math.log(2)  # rounding can make it negative
