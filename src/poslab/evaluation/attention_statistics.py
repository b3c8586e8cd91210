"""Statistics of the attention of each head, and the divergence between models.

Dimension letters: B batch, H heads, T tokens, R queries of a block, S keys up to the last of these, L layers.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

import pandas as pd
import torch
from torch import Tensor

from poslab.attention.blockwise import BLOCK
from poslab.evaluation.attention_rows import RowsOfLayer, attention_rows
from poslab.models import Model


def attention_statistics(model: Model, tokens_BT: Tensor, rows: int = BLOCK) -> pd.DataFrame:
    """Return statistics of each head as means over all queries of these texts, a row for each layer and head.

    | column           | is                                                                            |
    | ---------------- | ----------------------------------------------------------------------------- |
    | `entropy`        | of a query's attention, in nats; n keys that share it evenly have ln n        |
    | `mean_distance`  | tokens from a query back to its keys, weighted by attention                   |
    | `first_token`    | share of the first token of the text (the attention sink)                     |
    | `own_token`      | share of the query's own token                                                |
    | `previous_token` | share of the token before it                                                  |
    | `attended`       | sum of the weights: 1 under a softmax, at most 1 under stick-breaking         |

    If weights do not sum to 1, all columns but the last describe them divided by their sum, and leave out queries that
    attend to nothing. Distance is counted in storage order, not in positions.

    Args:
        model: in evaluation mode.
        tokens_BT: token ids, on the device of the model.
        rows: queries of a block; memory grows with rows * T.

    Raises:
        ValueError: as of `attention_rows`.
    """
    sums: dict[int, pd.DataFrame] = {}
    for block in attention_rows(model, tokens_BT, rows=rows):
        shares_BHRS, attends_BHR = _shares(block.weights)
        own, previous = (shares_BHRS.diagonal(block.start - back, -2, -1) for back in (0, 1))
        by_query = {
            "entropy": torch.special.entr(shares_BHRS).sum(-1),
            "mean_distance": (shares_BHRS * block.distance).sum(-1),
            "first_token": shares_BHRS[..., 0],
            "own_token": own,
            "previous_token": previous,
            "attended": block.weights.sum(-1),
            "attending": attends_BHR,
        }
        by_head = {name: values.sum((0, 2), dtype=torch.float64).cpu().numpy() for name, values in by_query.items()}
        sums[block.layer] = pd.DataFrame(by_head) + sums.get(block.layer, 0)
    totals = pd.concat(sums, names=["layer", "head"])
    means = totals.div(totals["attending"].clip(lower=1), axis=0).drop(columns="attending")
    return means.assign(attended=totals["attended"] / tokens_BT.numel()).reset_index()


def attention_by_distance(model: Model, tokens_BT: Tensor, rows: int = BLOCK) -> pd.DataFrame:
    """Return the mean attention of each head at each distance, over the queries that have a key there.

    At distance d these are the queries from position d on, so far distances are means over few. Keys outside the window
    of a layer count as 0.

    Arguments and errors are those of `attention_statistics`.

    Returns:
        Columns `layer`, `head`, `distance` (0, ..., T - 1) and `attention`, a weight in [0, 1].
    """
    batch, length = tokens_BT.shape
    sums: dict[int, Tensor] = {}
    for block in attention_rows(model, tokens_BT, rows=rows):
        at_distance_HS = _at_distances(block)
        total_HT = sums.setdefault(block.layer, at_distance_HS.new_zeros(len(at_distance_HS), length))
        total_HT[:, : at_distance_HS.shape[1]] += at_distance_HS
    queries_T = batch * torch.arange(length, 0, -1, device=tokens_BT.device)
    mean_LHT = torch.stack([sums[layer] / queries_T for layer in sorted(sums)]).cpu()
    labels = itertools.product(*map(range, mean_LHT.shape))
    frame = pd.DataFrame(labels, columns=["layer", "head", "distance"])
    return frame.assign(attention=mean_LHT.flatten().numpy())


def attention_divergence(models: Mapping[str, Model], tokens_BT: Tensor, rows: int = BLOCK) -> pd.DataFrame:
    """Return the Jensen-Shannon divergence, in bits, of the attention of models that read the same texts.

        JSD(p, q) = entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2

    It is 0 if two models attend alike, and 1 if no key gets attention from both. For each layer it is the mean over
    queries; p and q are means over the heads of that layer. Two runs share no order of heads, and the mean needs none;
    since the divergence is convex, it is at most that of any pairing of the heads. Queries that attend to nothing under
    either model are left out.

    Args:
        models: at least two by name, in evaluation mode, with the same number of layers and the same vocabulary.
        tokens_BT: token ids, on the device of the models.
        rows: as in `attention_statistics`.

    Returns:
        Columns `layer`, `first`, `second` (names) and `divergence`; a row for each layer and pair.

    Raises:
        ValueError: for other models, and as of `attention_rows`.

    Source: Lin, "Divergence Measures Based on the Shannon Entropy" (IEEE Transactions on Information Theory, 1991).
    """
    if len(models) < 2:
        raise ValueError(f"models must be at least two, got {len(models)}")
    depths = {name: len(model.attention_sites) for name, model in models.items()}
    if len(set(depths.values())) > 1:
        found = ", ".join(f"{name} with {depth}" for name, depth in depths.items())
        raise ValueError(f"models must have the same number of layers, got {found}")
    sums: list[tuple[int, str, str, float, int]] = []
    readings = [attention_rows(model, tokens_BT, rows=rows) for model in models.values()]
    for blocks in zip(*readings, strict=True):
        shares = {name: _shares(block.weights.mean(1)) for name, block in zip(models, blocks, strict=True)}
        for first, second in itertools.combinations(models, 2):
            (p_BRS, p_attends), (q_BRS, q_attends) = shares[first], shares[second]
            of_both = _jensen_shannon(p_BRS, q_BRS)[p_attends & q_attends]
            sums.append((blocks[0].layer, first, second, float(of_both.sum(dtype=torch.float64)), len(of_both)))
    of_pair = ["layer", "first", "second"]
    totals = pd.DataFrame(sums, columns=[*of_pair, "sum", "queries"]).groupby(of_pair, sort=False, as_index=False).sum()
    return totals[of_pair].assign(divergence=totals["sum"] / totals["queries"])


def _shares(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return weights (..., R, S) as shares of their sum, and whether a query attends to anything, (..., R)."""
    total = weights.sum(-1, keepdim=True)
    attends = total > 0
    return weights / total.where(attends, 1.0), attends.squeeze(-1)


def _at_distances(block: RowsOfLayer) -> Tensor:
    """Return the weights of a block summed over texts and queries, by distance 0, ..., S - 1, (H, S) float64."""
    weights_HRS = block.weights.sum(0, dtype=torch.float64)
    # Query i has key i - d at distance d, and none before the text.
    key_RS = block.distance[:, :1] - torch.arange(weights_HRS.shape[-1], device=weights_HRS.device)
    found_HRS = weights_HRS.gather(-1, key_RS.clamp_min(0).expand_as(weights_HRS))
    return found_HRS.masked_fill(key_RS < 0, 0.0).sum(1)


def _jensen_shannon(p: Tensor, q: Tensor) -> Tensor:
    """Return the divergence of distributions over the last dimension, in bits."""
    entropy_p, entropy_q, entropy_of_mean = (torch.special.entr(x).sum(-1) for x in (p, q, (p + q) / 2))
    return (entropy_of_mean - (entropy_p + entropy_q) / 2).clamp_min(0) / math.log(2)  # rounding can make it negative
