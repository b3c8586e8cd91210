"""Positions that depend on the content of a text, such as the counts of CoPE and the forgetting of FoX.

Dimension letters: B batch, H heads, T tokens, S keys up to the query, D head dim, E numbers of a token's state.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor

from poslab.evaluation.attention.maps import MAX_TEXT_LENGTH, WIDE, head_legend, head_style, visible_label
from poslab.evaluation.attention.rows import capture_attention
from poslab.models import Model
from poslab.report.figures import WIDTH, Plot, new_figure


def content_positions(model: Model, tokens_T: Tensor, queries: Sequence[int] | None = None) -> pd.DataFrame:
    """Return how far each key is from a query for encodings that read the content (their `content_positions`).

    For CoPE it is the count at the key: the number of tokens that matter from the query back to it. For forget gates
    (FoX) it is the forgetting between key and query, in nats.

    Args:
        model: in evaluation mode.
        tokens_T: token ids of one text, on the device of the model.
        queries: indices of the queries; None is the last token.

    Returns:
        Columns `layer`, `head`, `query`, `key` and `position`, a row for each layer, head, query and visible key; no
        rows of layers whose encoding has no such positions.

    Raises:
        ValueError: for queries that are not in the text.

    Source: Golovneva et al., "Contextual Position Encoding" (2024), section 4; Lin et al., "Forgetting Transformer"
    (ICLR 2025), section 3.
    """
    length = len(tokens_T)
    queries = [length - 1] if queries is None else queries
    if outside := [query for query in queries if not 0 <= query < length]:
        raise ValueError(f"queries must lie between 0 and {length - 1}, got {outside[0]}")
    columns = ["layer", "head", "query", "key", "position"]
    frames = [pd.DataFrame(columns=columns)]
    for layer, reached in enumerate(capture_attention(model, tokens_T.unsqueeze(0))):
        with torch.no_grad():
            q_BHTD, k_BHSD, weighting = reached.rotate_qk()
        for query in queries:
            only = slice(query, query + 1)
            rows = weighting.rows(only, length, k_BHSD)
            q_BH1D = q_BHTD[:, :, only].to(k_BHSD.dtype)
            with torch.no_grad():
                position_BH1S = reached.context.encoding.content_positions(q_BH1D, k_BHSD[:, :, rows.keys], rows)
            if position_BH1S is None:
                continue
            position_HS = position_BH1S[0, :, 0].float().cpu()
            seen = torch.ones(query + 1, dtype=torch.bool) if rows.visible is None else rows.visible[0, 0, 0].cpu()
            places = itertools.product([layer], range(len(position_HS)), [query], seen.nonzero().flatten().tolist())
            frame = pd.DataFrame(places, columns=columns[:-1])
            frames.append(frame.assign(position=position_HS[:, seen].flatten().numpy()))
    return pd.concat(frames[1:] or frames, ignore_index=True)


def content_positions_plot(positions: pd.DataFrame, labels: Sequence[str]) -> Plot:
    """Draw `content_positions` over the keys, a panel for each layer and a line for each head.

    There must be at least one row, and the last of several queries is drawn. The labels, the text of each token, are
    shown for up to `MAX_TEXT_LENGTH` tokens.
    """
    query = positions["query"].max()
    own = positions[positions["query"] == query]
    layers = sorted(own["layer"].unique())
    shown = [visible_label(label) for label in labels[: query + 1]]
    has_labels = len(shown) <= MAX_TEXT_LENGTH
    figure = new_figure(WIDE if has_labels else WIDTH, 1.6 + 1.9 * len(layers))
    panels = figure.subplots(len(layers), 1, sharex=True, squeeze=False)[:, 0]
    for panel, layer in zip(panels, layers, strict=True):
        for head, line in own[own["layer"] == layer].groupby("head"):
            panel.plot(line["key"], line["position"], linewidth=1.2, label=str(head), **head_style(int(str(head))))
        panel.set_title(f"layer {layer}", fontsize="medium")
        panel.set(ylabel="position", ylim=(0, None))
    if has_labels:
        size = min(8.0, 400 / len(shown))
        panels[-1].set_xticks(range(len(shown)), shown, rotation=90, fontsize=size, parse_math=False)
    panels[-1].set_xlabel("token")
    head_legend(figure, panels[0])
    return Plot(
        name="content_positions",
        title="Positions by content",
        caption="Distance of each token from the last one, for each head: the number of tokens between them that "
        "matter (CoPE) or the nats forgotten (forget gates). A steep step is a token that counts or makes the head "
        "forget, a flat part one that does not.",
        source="Golovneva et al., Contextual Position Encoding (2024); Lin et al., Forgetting Transformer (ICLR 2025)",
        figure=figure,
        shrinks=not has_labels,
    )
