"""Empirical receptive field: the share of each earlier token in the gradient of a prediction.

Dimension letters: B windows of a batch, N windows, T tokens that are read, M model dim, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional

from poslab.configuration.labels import written
from poslab.models import Model
from poslab.report.figures import WIDTH, Plot, legend_columns, new_figure, style, without_marker

SHARE = 0.99
"""Share of the gradient within the receptive field (the paper's)."""

TOKENS_AT_ONCE = 4096
"""Tokens of a batch, which has at least one window."""


def receptive_field(model: Model, windows: Tensor) -> pd.DataFrame:
    """Return the share of each token in the gradient of the prediction after the last one, as a mean over windows.

        s_d = ||g_d|| / sum_n ||g_n||,    cumulative_d = s_0 + ... + s_d

    where g_d is the gradient of the loss of the next token with respect to the embedding of the token d places before
    the last that is read.

        frame = receptive_field(model, windows)
        frame["cumulative"][99]     # the share of the last 100 tokens

    Each window takes the time and memory of a training step, with the logits of its last token only.

    Args:
        model: in evaluation mode.
        windows: (N, T + 1) token ids, on the device of the model: T are read, and the last is predicted.

    Returns:
        Columns `distance` (0, ..., T - 1), `gradient` (s_d) and `cumulative`.

    Raises:
        ValueError: for windows of another shape, or past the end of the model's encoding.

    Source: Chi et al., "Dissecting Transformer Length Extrapolation via the Lens of Receptive Field Analysis"
    (ACL 2023), the section on the empirical receptive field, which uses the gradient of the prediction of the next
    token; this is the gradient of its loss.
    """
    if windows.dim() != 2 or len(windows) == 0 or windows.shape[1] < 2:
        raise ValueError(f"windows must be rows of at least two tokens each, got the shape {tuple(windows.shape)}")
    length = windows.shape[1] - 1
    total_T = torch.zeros(length, dtype=torch.float64, device=windows.device)
    for window_BT in windows.split(max(1, TOKENS_AT_ONCE // length)):
        total_T += shares_of(_gradients(model, window_BT[:, :-1], window_BT[:, -1])).sum(0)
    gradient = pd.Series((total_T.flip(0) / len(windows)).cpu().numpy())
    return pd.DataFrame({"distance": range(length), "gradient": gradient, "cumulative": gradient.cumsum()})


def reach(field: pd.DataFrame) -> int:
    """Return the length of a `receptive_field`: the number of last tokens with 99 % of the gradient."""
    short = field["cumulative"] < SHARE - 1e-9  # sums are rounded
    return min(int(short.sum()) + 1, len(field))


def receptive_field_plot(fields: Mapping[str, pd.DataFrame], training_lengths: Mapping[str, int]) -> Plot:
    """Draw the cumulative gradient of each `receptive_field` over the number of last tokens.

    Fields and training lengths, in tokens, are by the name of the model.
    """
    figure = new_figure(WIDTH, 4.2)
    panel = figure.subplots()
    for place, (name, field) in enumerate(fields.items()):
        own, length = style(place), reach(field)
        label = f"{written(name)}: {100 * SHARE:.0f} % within {length:,} of {len(field):,} tokens"
        panel.plot(field["distance"] + 1, field["cumulative"], label=label, **without_marker(own))
        panel.plot([length], [field["cumulative"][length - 1]], marker=own["marker"], markersize=5, color=own["color"])
    panel.axhline(SHARE, color="0.6", linewidth=0.8)
    for training_length in sorted(set(training_lengths.values())):
        panel.axvline(training_length, color="0.6", linestyle=":", label=f"training length, {training_length:,}")
    panel.set_xscale("log", base=2)
    panel.xaxis.set_major_formatter("{x:g}")
    panel.set(xlim=(1, None), ylim=(0, 1.03))
    panel.set(xlabel="last tokens that are read", ylabel="cumulative share of the gradient")
    labels = panel.get_legend_handles_labels()[1]
    figure.legend(loc="outside lower center", ncols=legend_columns(labels, WIDTH), frameon=False, fontsize="small")
    return Plot(
        name="receptive_field",
        title="Empirical receptive field",
        caption="Share of a prediction's gradient that falls on the last tokens of a window, over their number; lines "
        f"end where the window does. A line that reaches {100 * SHARE:.0f} % (the dot) before the training length "
        "belongs to a model that reads a longer text as it read those of training; one that climbs beyond it uses "
        "distances that it has not learned.",
        source="Chi et al., Dissecting Transformer Length Extrapolation via the Lens of Receptive Field Analysis (ACL "
        "2023)",
        figure=figure,
    )


def shares_of(gradient: Tensor) -> Tensor:
    """Return the norms of gradients (..., T, M) as shares of their sum over the T tokens, (..., T) float64."""
    norms = gradient.double().norm(dim=-1)
    return norms / norms.sum(-1, keepdim=True)


def _gradients(model: Model, tokens_BT: Tensor, next_B: Tensor) -> Tensor:
    """Return the gradient of the loss of the next token with respect to the embeddings, (B, T, M)."""
    embedded: list[Tensor] = []

    def leaf(_: nn.Module, __: Any, x_BTM: Tensor) -> Tensor:
        embedded.append(x_BTM.detach().requires_grad_())
        return embedded[-1]

    with model.embedding.register_forward_hook(leaf), torch.enable_grad():
        logits_BV = model.logits(model.hidden_states(tokens_BT)[:, -1])
        loss = functional.cross_entropy(logits_BV.float(), next_B, reduction="sum")  # windows are independent
    (gradient_BTM,) = torch.autograd.grad(loss, embedded)
    return gradient_BTM
