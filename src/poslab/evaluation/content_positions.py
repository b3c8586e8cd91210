"""Positions that depend on what a text says: the counts of CoPE and what forget gates have let go.

Dimension letters: H heads, T tokens, S keys up to the query.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import singledispatch

import pandas as pd
import torch
from torch import Tensor

from poslab.attention.attend import as_they_meet
from poslab.attention.blockwise import in_float32_for_each_head
from poslab.encodings import CoPE, Forgetting, PositionalEncoding
from poslab.evaluation.attention_pictures import LONGEST_TEXT, head_style, visible_label
from poslab.evaluation.attention_rows import LayerInput, layer_inputs
from poslab.models import Model
from poslab.report.exhibits import Picture, new_figure


def content_positions(model: Model, tokens_T: Tensor, queries: Sequence[int] | None = None) -> pd.DataFrame:
    """How far each key is from a query in the eyes of an encoding that goes by content.

    For CoPE it is the count at the key, `min(g_ij + ... + g_ii, P - 1)`: how many tokens that matter lie from the query
    back to it. For forget gates (FoX) it is what has been forgotten on the way, `-(ln f_{j+1} + ... + ln f_i)` in nats.

    Args:
        model: in evaluation mode, with CoPE or Forgetting in some layers.
        tokens_T: token ids of one text, on the device of the model.
        queries: places of the queries, from 0; None is the last token. The table has a row for each layer, head, query
            and visible key.

    Returns:
        Columns `layer`, `head`, `query`, `key` and `position`, of the layers that have such an encoding.

    Raises:
        ValueError: for queries that are not in the text, or a model without such an encoding.

    Source: Golovneva et al., "Contextual Position Encoding" (2024), section 4; Lin et al., "Forgetting Transformer"
    (ICLR 2025), section 3.
    """
    length = len(tokens_T)
    queries = [length - 1] if queries is None else queries
    outside = [query for query in queries if not 0 <= query < length]
    if outside:
        raise ValueError(f"queries must lie between 0 and {length - 1}, got {outside[0]}")
    frames = []
    for layer, reached in enumerate(layer_inputs(model, tokens_T.unsqueeze(0))):
        for query in queries:
            with torch.no_grad():
                position_HS = _positions(reached.context.encoding, reached, query)
            if position_HS is None:
                continue
            visible = reached.context.visibility.mask(length, length, tokens_T.device, slice(query, query + 1))
            seen = torch.ones(query + 1, dtype=torch.bool) if visible is None else visible[0, 0, 0, : query + 1].cpu()
            rows = list(itertools.product(range(len(position_HS)), seen.nonzero().flatten().tolist()))
            frame = pd.DataFrame(rows, columns=["head", "key"])
            frames.append(frame.assign(layer=layer, query=query, position=position_HS[:, seen].flatten().numpy()))
    if not frames:
        names = ", ".join(sorted({type(encoding).__name__ for encoding in model.encodings}))
        raise ValueError(f"model must have an encoding whose positions go by content (CoPE, Forgetting), got {names}")
    return pd.concat(frames, ignore_index=True)[["layer", "head", "query", "key", "position"]]


def content_positions_picture(positions: pd.DataFrame, labels: Sequence[str]) -> Picture:
    """The position of each key of one query over the text, a panel for each layer and a line for each head.

    Args:
        positions: what `content_positions` gives; of several queries the last is drawn.
        labels: what each token reads, written along the axis up to `LONGEST_TEXT` tokens.
    """
    query = positions["query"].max()
    own = positions[positions["query"] == query]
    layers = sorted(own["layer"].unique())
    figure = new_figure(8.0, 1.6 + 1.9 * len(layers))
    panels = figure.subplots(len(layers), 1, sharex=True, squeeze=False)[:, 0]
    for panel, layer in zip(panels, layers, strict=True):
        for head, line in own[own["layer"] == layer].groupby("head"):
            panel.plot(line["key"], line["position"], linewidth=1.2, label=str(head), **head_style(int(str(head))))
        panel.set_title(f"layer {layer}", fontsize="medium")
        panel.set_ylabel("position")
        panel.set_ylim(bottom=0)
    shown = [visible_label(label) for label in labels[: query + 1]]
    if len(shown) <= LONGEST_TEXT:
        panels[-1].set_xticks(
            range(len(shown)), shown, rotation=90, fontsize=min(8.0, 400 / len(shown)), parse_math=False
        )
    panels[-1].set_xlabel("token")
    figure.legend(
        *panels[0].get_legend_handles_labels(), title="head", loc="outside lower center", ncols=8, frameon=False
    )
    return Picture(
        name="content_positions",
        title="Positions by content",
        how_to_read="Seen from the last token, how far back each token is for a head: a count of the tokens that "
        "matter (CoPE) or nats that were forgotten on the way (forget gates). A steep step is a token that counts or "
        "makes the head forget, a flat part one that does not.",
        source="Golovneva et al., Contextual Position Encoding (2024); Lin et al., Forgetting Transformer (ICLR 2025)",
        figure=figure,
    )


@singledispatch
def _positions(encoding: PositionalEncoding, reached: LayerInput, query: int) -> Tensor | None:
    """The position of the keys up to a query, (H, S) on the processor; None where they do not go by content."""
    return None


@_positions.register
def _(cope: CoPE, reached: LayerInput, query: int) -> Tensor:
    context = reached.context
    q_BHTD, k_BGSD, _, _ = reached.attention.project(reached.inputs, context)
    q_BHTD, k_BGSD, _ = as_they_meet(q_BHTD, k_BGSD, cope, context.tables, context.visibility)
    k_HSD = in_float32_for_each_head(k_BGSD, q_BHTD)[0, :, : query + 1]
    q_HD1 = q_BHTD[0, :, query].to(k_HSD.dtype).unsqueeze(-1)
    gates_HS = ((k_HSD @ q_HD1).squeeze(-1) * cope.gate_scale).sigmoid()
    # What lies outside the window of the layer is further back than all that is counted.
    return gates_HS.flip(-1).cumsum(-1).flip(-1).clamp(max=cope.num_positions - 1).cpu()


@_positions.register
def _(fox: Forgetting, reached: LayerInput, query: int) -> Tensor:
    log_gates_BHTE = fox.state(reached.inputs, reached.context.key_positions, None)
    remembered_HS = log_gates_BHTE[0, :, : query + 1, 0].double().cumsum(-1)
    return (remembered_HS - remembered_HS[:, -1:]).float().cpu()
