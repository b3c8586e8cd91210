"""The operators of `compiled/attention.cpp`: attention on a CPU, faster than PyTorch's kernel.

They implement the operators of `distance.py`, whose arguments they have, and compute logits of a block of queries in
float32.
"""

from __future__ import annotations

import torch
from torch import Tensor

from poslab.attention.distance_blocks import OfRows
from poslab.compiled import library

MAX_KEYS = 4096
"""Most keys of a window: the logits of a block of more leave the cache, and the gain over PyTorch's kernel falls."""


def serves(q_BHTD: Tensor, num_keys: int) -> bool:
    """Return True if the operators are in use, and compute attention of these queries to so many keys."""
    fits = num_keys <= MAX_KEYS and q_BHTD.shape[-1] % 2 == 0  # bfloat16 is stored in pairs, and multiplied by oneDNN
    return fits and library.serves(q_BHTD) and (q_BHTD.dtype == torch.float32 or bool(torch.backends.mkldnn.enabled))


def attend(
    q_BHTD: Tensor,
    k_BGSD: Tensor,
    v_BGSD: Tensor,
    bias_HN: Tensor | None,
    nearest: int,
    furthest: int,
    scale: float,
    of_rows: OfRows,
) -> tuple[Tensor, Tensor]:
    """Return the output and the logs of the sums of exponentials, as `distance_attention` does.

    Raises:
        IndexError: for places whose differences are no numbers of the bias.
    """
    _check_places(bias_HN, of_rows)
    inputs = (*map(_by_even_rows, (q_BHTD, k_BGSD, v_BGSD)), _turned(bias_HN, of_rows))
    output, log_sum = torch.ops.poslab_kernel.attend(*inputs, nearest, furthest, scale, *_as_read(of_rows))
    return output, log_sum


def gradients(
    gradient_BHTD: Tensor,
    q_BHTD: Tensor,
    k_BGSD: Tensor,
    v_BGSD: Tensor,
    bias_HN: Tensor | None,
    output_BHTD: Tensor,
    log_sum_BHT: Tensor,
    bias_learns: bool,
    nearest: int,
    furthest: int,
    scale: float,
    of_rows: OfRows,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of queries, keys, values and bias, as `distance_gradients.gradients` does.

    IndexError as of `attend`.
    """
    _check_places(bias_HN, of_rows)
    operands = map(_by_even_rows, (gradient_BHTD, q_BHTD, k_BGSD, v_BGSD))
    outputs = (output_BHTD.contiguous(), log_sum_BHT.contiguous())
    settings = (bias_learns, nearest, furthest, scale, *_as_read(of_rows))
    q, k, v, bias = torch.ops.poslab_kernel.attend_backward(*operands, _turned(bias_HN, of_rows), *outputs, *settings)
    return q, k, v, bias if of_rows.query_places is not None else bias.flip(-1)


def _check_places(bias_HN: Tensor | None, of_rows: OfRows) -> None:
    """Raise IndexError for places whose differences are no numbers of the bias, which the operators do not check."""
    queries, keys = of_rows.query_places, of_rows.key_places
    if bias_HN is not None and queries is not None and keys is not None and queries.numel():
        first, last = queries.min() - keys.max(), queries.max() - keys.min()
        if first < 0 or last >= bias_HN.shape[1]:
            raise IndexError(f"places must differ by 0 to {bias_HN.shape[1] - 1}, got {int(first)} to {int(last)}")


def _by_even_rows(x: Tensor) -> Tensor:
    """Return x with contiguous channels, and rows an even number apart, which do not overlap."""
    is_plain = x.stride(-1) == 1 and x.stride(-2) >= x.shape[-1] and x.stride(-2) % 2 == 0
    return x if is_plain else x.contiguous()


def _turned(bias_HN: Tensor | None, of_rows: OfRows) -> Tensor | None:
    """Return a bias of distance with the largest first, as it meets successive keys; others as they are."""
    if bias_HN is None or of_rows.query_places is not None:
        return None if bias_HN is None else bias_HN.contiguous()
    return bias_HN.flip(-1).contiguous()


def _as_read(of_rows: OfRows) -> OfRows:
    """Return numbers of rows that are contiguous, of the dtypes that the operators read."""
    return OfRows(
        *(
            x if x is None else x.to(torch.bool if name == "real_keys" else torch.int64).contiguous()
            for name, x in zip(OfRows._fields, of_rows, strict=True)
        )
    )
