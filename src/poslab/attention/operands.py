"""Checks of the operands of attention, which compare only sizes, so that nothing waits for a GPU.

Dimension letters: B batch, H query heads, G key-value heads, T queries, S keys, D head dim, E numbers of a state.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from poslab.attention.visibility import Visibility
from poslab.encodings.base import PositionalEncoding
from poslab.encodings.shape import TableShape, require_heads


def for_one_batch(
    q_BHTD: Tensor,
    k_BGSD: Tensor,
    v_BGSD: Tensor,
    encoding: PositionalEncoding,
    tables: Any,
    visibility: Visibility,
    state_BHSE: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Visibility, Tensor | None]:
    """Return queries, keys, values, visibility and state as rows of one batch, repeating tensors with one row.

    Arguments as in `attend`. ValueError if they do not fit together.
    """
    check_heads(q_BHTD, k_BGSD, v_BGSD)
    check_sizes(encoding.sizes, q_BHTD.shape[1], k_BGSD.shape[1], q_BHTD.shape[-1])
    num_queries, num_keys, device = q_BHTD.shape[2], k_BGSD.shape[2], q_BHTD.device
    if visibility.causal and num_queries > num_keys:
        raise ValueError(
            f"k must have a key for each query in causal attention, got {num_keys} keys for {num_queries} queries"
        )
    rows = [(name, x.shape[0]) for name, x in (("q", q_BHTD), ("k", k_BGSD), ("v", v_BGSD))]
    if tables is None and type(encoding).prepare is not PositionalEncoding.prepare:
        raise ValueError(f"tables must be the result of {type(encoding).__name__}.prepare, got None")
    rows.append(("tables", check_tables(tables, num_queries, num_keys, device)))
    lengths = {"query_segments": num_queries, "key_segments": num_keys, "real_keys": num_keys}
    for name, length in lengths.items():
        x: Tensor | None = getattr(visibility, name)
        if x is None:
            continue
        if x.dim() != 2 or x.shape[1] != length:
            raise ValueError(f"{name} must be (batch, {length}), got {tuple(x.shape)}")
        if name == "real_keys" and x.dtype != torch.bool:
            raise ValueError(f"real_keys must be true or false, got {x.dtype}")
        _check_device(name, x.device, device)
        rows.append((name, x.shape[0]))
    if state_BHSE is not None:
        if state_BHSE.dim() != 4 or state_BHSE.shape[2] != num_keys:
            raise ValueError(f"state must be (batch, heads, {num_keys}, any), got {tuple(state_BHSE.shape)}")
        _check_device("state", state_BHSE.device, device)
        rows.append(("state", state_BHSE.shape[0]))
    elif "state" in encoding.hooks:
        raise ValueError(f"state must be the result of {type(encoding).__name__}.state, got None")
    batch = _batch_of(rows)
    if any(number != batch for _, number in rows):
        q_BHTD, k_BGSD, v_BGSD = (x.expand(batch, -1, -1, -1) for x in (q_BHTD, k_BGSD, v_BGSD))
        state_BHSE = None if state_BHSE is None else state_BHSE.expand(batch, -1, -1, -1)
        visibility = visibility.for_rows(batch)
    return q_BHTD, k_BGSD, v_BGSD, visibility, state_BHSE


def check_tables(tables: Any, num_queries: int, num_keys: int, device: torch.device) -> int:
    """Return the rows of an encoding's tables; tables without `expected_shape` fit any queries and keys.

    ValueError if they were made for other queries or keys.
    """
    expected_shape: TableShape | None = getattr(tables, "expected_shape", None)
    if expected_shape is None:
        return 1
    if expected_shape.num_queries != num_queries or expected_shape.num_keys != num_keys:
        raise ValueError(
            f"tables must be made for {num_queries} queries and {num_keys} keys, "
            f"got tables for {expected_shape.num_queries} and {expected_shape.num_keys}"
        )
    _check_device("tables", expected_shape.device, device)
    return expected_shape.num_rows


def check_sizes(sizes: Mapping[str, int], num_heads: int, num_kv_heads: int, head_dim: int) -> None:
    """Raise ValueError unless an encoding of these `sizes` fits so many heads of that width.

    One head is for all of the queries, and one key-value head for all.
    """
    if (width := sizes.get("head_dim", head_dim)) != head_dim:
        raise ValueError(f"queries and keys must be head_dim={width} wide, got {head_dim}")
    require_heads("encoding", sizes.get("num_heads", num_heads), num_heads)
    if num_kv_heads > 1:
        require_heads("encoding", sizes.get("num_kv_heads", num_kv_heads), num_kv_heads)


def check_heads(q_BHTD: Tensor, k_BGSD: Tensor, v_BGSD: Tensor) -> None:
    """Raise ValueError unless queries, keys and values fit together, whatever rows they have."""
    device, dtype = q_BHTD.device, q_BHTD.dtype
    for name, x in (("q", q_BHTD), ("k", k_BGSD), ("v", v_BGSD)):
        if x.dim() != 4:
            raise ValueError(f"{name} must be (batch, heads, tokens, channels), got {tuple(x.shape)}")
        _check_device(name, x.device, device)
        if x.dtype != dtype and not _made_one_by_autocast(x, q_BHTD):
            raise ValueError(f"{name} must have the dtype of q, {dtype}, got {x.dtype}")
    if not dtype.is_floating_point:
        raise ValueError(f"q must contain real numbers, got {dtype}")
    _, num_heads, _, width = q_BHTD.shape
    _, num_kv_heads, num_keys, key_width = k_BGSD.shape
    _, value_heads, num_values, _ = v_BGSD.shape
    if value_heads != num_kv_heads or num_values != num_keys:
        raise ValueError(
            f"v must have the {num_kv_heads} heads and {num_keys} tokens of k, got {value_heads} and {num_values}"
        )
    if key_width != width or not width:
        raise ValueError(f"k must be as wide as q, at least 1, got {key_width} and {width}")
    if not num_kv_heads or num_heads % num_kv_heads:
        raise ValueError(f"k must have heads that divide the {num_heads} of q, got {num_kv_heads}")


def _made_one_by_autocast(x: Tensor, q_BHTD: Tensor) -> bool:
    """Return True if autocast, which leaves float64 unchanged, gives both the same dtype."""
    if not torch.is_autocast_enabled(q_BHTD.device.type):
        return False
    return all(y.is_floating_point() and y.dtype != torch.float64 for y in (x, q_BHTD))


def _batch_of(rows: list[tuple[str, int]]) -> int:
    """Return the number of rows of all operands that have more than one, or 1; raise ValueError if they differ."""
    first, batch = "", 1
    for name, number in rows:
        if number != 1 and batch == 1:
            first, batch = name, number
        elif number not in (1, batch):
            raise ValueError(f"{name} must have the {batch} rows of {first}, or one, got {number}")
    return batch


def _check_device(name: str, device: torch.device, expected: torch.device) -> None:
    if device != expected:
        raise ValueError(f"{name} must be on the device of q, {expected}, got {device}")
