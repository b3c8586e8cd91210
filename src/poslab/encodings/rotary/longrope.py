"""LongRoPE: a divisor for each rotary frequency."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from poslab.arguments import Factor, Positive
from poslab.encodings.rotary.scalings import TrainingLength
from poslab.encodings.rotary.yarn import by_parts

MAX_BYTES = 2**20  # size of the largest file that is read: its path may be in the run of someone else


def longrope(
    inverse_frequencies: Tensor,
    base: float,
    length: int,
    training_length: TrainingLength,
    factor: Factor = 4.0,
    short_factors: Sequence[float] | str | None = None,
    long_factors: Sequence[float] | str | None = None,
    attention_factor: Positive | None = None,
) -> tuple[Tensor, float]:
    """Divide each frequency by its own number, from one list up to length L, from another beyond (LongRoPE).

        theta'(m) = theta(m) / (short_factors[m] if l <= L else long_factors[m])
        logit = (1 + ln s / ln L) q' . k' / sqrt(D)

    The paper's lists come from an evolutionary search for one model, so none suits every model. As in Phi-3 and
    transformers, logits have their factor at short lengths too, and the first tokens are scaled, unlike in the paper.
    Crossing L changes all angles, past ones too. Claimed for 8 L without fine-tuning, and up to 2,048k tokens with it.

    Use it when a divisor is known for each frequency, as in Phi-3's checkpoints, or has been searched for your model.

    Args:
        training_length: L, at least 2.
        factor: s, target length over training length (at least 1; Phi-3: 32). For the logits, and for null lists.
        short_factors, long_factors: r / 2 numbers each, in [1e-9, 1e9], or the path of a JSON list of at most 1 MiB,
            which is read once. Null is all 1 for short ones, the divisors of `yarn` with ramp ends at 32 turns and 1
            for long ones.
        attention_factor: replaces sqrt(1 + ln s / ln L); its square multiplies the logits (above 0).

    Raises:
        ValueError: for an argument out of its range, or a list that cannot be read or does not fit the channels.

    Source: Ding et al., "LongRoPE: Extending LLM Context Window Beyond 2 Million Tokens" (2024), section 3; the factor
    of the logits from Phi-3's code.
    """
    if attention_factor is None:
        attention_factor = math.sqrt(1 + math.log(factor) / math.log(training_length))
    pairs = len(inverse_frequencies)
    short, long = _factors("short_factors", short_factors, pairs), _factors("long_factors", long_factors, pairs)
    beyond = length > training_length
    chosen = long if beyond else short
    if chosen is not None:
        return inverse_frequencies / inverse_frequencies.new_tensor(chosen), attention_factor
    if beyond:
        return by_parts(inverse_frequencies, base, training_length, factor), attention_factor
    return inverse_frequencies, attention_factor


def _factors(name: str, given: Sequence[float] | str | None, pairs: int) -> list[float] | None:
    """Return the list of factors, read from its file if a path is given."""
    if given is None:
        return None
    factors = list(_read_list(name, given) if isinstance(given, str) else given)
    if len(factors) != pairs:
        raise ValueError(f"{name} must contain {pairs} numbers, one for each pair of channels, got {len(factors)}")
    for factor in factors:
        if not 1e-9 <= factor <= 1e9:
            raise ValueError(f"{name} must contain numbers in [1e-9, 1e9], got {factor}")
    return factors


@torch.compiler.assume_constant_result  # a compiler cannot read files
def _read_list(name: str, path: str) -> tuple[float, ...]:
    return _read_list_once(name, path)


@functools.cache
def _read_list_once(name: str, path: str) -> tuple[float, ...]:
    """Return the list of numbers in a JSON file."""
    file = Path(path)
    try:
        if file.stat().st_size > MAX_BYTES or not file.is_file():  # a device has a size of 0 and may never end
            raise ValueError(f"it is not a file of at most {MAX_BYTES:,} bytes")
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{name} must name a JSON file that can be read, got {path!r} ({error})") from error
    if not isinstance(values, list) or not all(type(value) in (int, float) for value in values):
        raise ValueError(f"{name} must name a JSON file with a list of numbers, got {path!r}")
    return tuple(values)
