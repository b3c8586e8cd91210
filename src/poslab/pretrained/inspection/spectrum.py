"""Frequencies of rotary encodings by the words of a configuration, in float64 and without torch, and the base bound.

r channels rotate, theta(m) = base ** (-2m / r) is the frequency of the pair m. The formulas are from transformers,
which `poslab.encodings.rotary` explains; importing torch would take seconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from poslab.arguments import shown

Floats = NDArray[np.float64]

SCALINGS = ("default", "linear", "dynamic", "yarn", "longrope", "llama3", "proportional", "axial", "divisors")
"""Values of `rope_type` whose frequencies are known; `divisors` is the tensor `rope_freqs` of a GGUF file."""

BLOCK = 2**16  # distances at a time, so that memory does not grow with the length


LARGEST = 1e15  # number that a configuration may have


def number(values: Mapping[str, Any], key: str, default: float | None = None, below: float = LARGEST) -> float:
    """Return a number above 0 and below a limit by its key; ValueError, naming the key, for anything else."""
    value = default if values.get(key) is None else values[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < below:
        raise ValueError(f"{key} must be a positive number, got {shown(value)}")
    return float(value)


@dataclass(frozen=True)
class Rope:
    """The rotation of a layer."""

    block: Mapping[str, Any]  # its complete `rope_parameters`
    head_dim: int  # channels of a head
    first: int  # first channel that rotates, above 0 in latent attention
    rotary_dim: int  # r, some of which may have the frequency 0
    pairing: str | None  # `half-split` or `interleaved`; None if it is not known
    max_length: int  # `max_position_embeddings`

    @property
    def type(self) -> str:
        """The formula: `yarn` for a vendor's name of it."""
        name = str(self.block.get("rope_type"))
        return (
            name
            if name in SCALINGS
            else "yarn"
            if "yarn" in name
            else {"su": "longrope", "mrope": "default"}.get(name, name)
        )

    @property
    def base(self) -> float:
        return number(self.block, "rope_theta")

    @property
    def original_length(self) -> int:
        """The training length before scaling."""
        return int(number(self.block, "original_max_position_embeddings", self.max_length))

    @property
    def factor(self) -> float:
        """The number by which a scaling divides the slowest frequency; 1 without scaling."""
        if self.type in ("default", "axial", "divisors"):
            return 1.0
        return number(
            self.block, "factor", 1.0 if self.type == "proportional" else self.max_length / self.original_length
        )

    @property
    def attention_factor(self) -> float:
        """The factor on cosines and sines, whose square multiplies the logits of the channels that rotate."""
        log_factor = math.log(max(self.factor, 1.0))
        if self.type not in ("yarn", "longrope") or self.block.get("attention_factor") is not None:
            return number(self.block, "attention_factor", 1.0) if self.type in ("yarn", "longrope", "divisors") else 1.0
        if self.type == "longrope":
            return math.sqrt(1 + log_factor / math.log(self.original_length))
        if self.block.get("mscale") and self.block.get("mscale_all_dim"):
            scales = [0.1 * number(self.block, key) * log_factor + 1 for key in ("mscale", "mscale_all_dim")]
            return scales[0] / scales[1]
        return 0.1 * log_factor + 1

    @property
    def plain(self) -> Floats:
        """The frequencies without scaling in radians per token, one for each pair."""
        r = self.rotary_dim // 2 if self.type == "axial" else self.rotary_dim
        return np.asarray(self.base ** (-np.arange(0, r, 2) / r))

    def frequencies(self, length: int) -> Floats:
        """Return the frequencies at a length of the text, 0 for pairs that do not rotate.

        ValueError, naming the key, for a value that is no number or out of its range.
        """
        block, r, plain, factor = self.block, self.rotary_dim, self.plain, self.factor
        match self.type:
            case "default" | "axial" | "linear":
                return plain / factor
            case "proportional":
                kept = (
                    int(number(block, "partial_rotary_factor", 1.0) * r // 2)
                    if block.get("partial_rotary_factor", 1)
                    else 0
                )
                return np.where(np.arange(r // 2) < kept, plain[: r // 2], 0.0) / factor
            case "dynamic":
                stretch = factor * max(length, self.max_length) / self.max_length - (factor - 1)
                return plain * number(block, "alpha", stretch) ** (-np.arange(0, r, 2) / max(r - 2, 1))
            case "longrope" | "divisors":
                lists = ("long_factor" if length > self.original_length else "short_factor", "divisors")
                divisors = block.get(key := lists[self.type == "divisors"])
                if not isinstance(divisors, list) or len(divisors) != len(plain):
                    raise ValueError(f"{key} must contain {len(plain)} numbers, one for each pair of channels")
                numbers = np.array([number({key: divisor}, key, below=math.inf) for divisor in divisors])
                return np.where(numbers < LARGEST, plain / numbers, 0.0)  # of pairs that do not rotate, poslab has 1e30
            case "llama3":
                low, high = number(block, "low_freq_factor"), number(block, "high_freq_factor")
                turns = plain * self.original_length / (2 * math.pi)
                fast = np.clip((turns - low) / ((high - low) or 1e-9), 0, 1)
                return (1 - fast) * plain / factor + fast * plain
            case "yarn":
                first, last = (
                    r
                    * math.log(self.original_length / 2 / math.pi / number(block, key, default))
                    / (2 * math.log(self.base))
                    for key, default in (("beta_fast", 32), ("beta_slow", 1))
                )
                if block.get("truncate", True):
                    first, last = math.floor(first), math.ceil(last)
                first, last = max(first, 0), min(last, r - 1)
                ramp = np.clip((np.arange(len(plain)) - first) / (last - first or 0.001), 0, 1)
                return plain / factor * ramp + plain * (1 - ramp)
        raise ValueError(f"rope_type must be one of {', '.join(SCALINGS)}, got {shown(block.get('rope_type'))}")


def first_violation(inverse_frequencies: Floats, length: int) -> int | None:
    """Return the smallest distance below `length` at which the sum of cosines is negative; None if there is none.

    The inverse frequencies may be of any spectrum, a scaled one too: radians per token, one for each pair of channels
    (P,), with 0 for a pair that does not rotate. ValueError for a length below 1.
    """
    for start, sums in blocks_of_sums(inverse_frequencies, length):
        violations = np.flatnonzero(sums < 0)
        if violations.size:
            return start + int(violations[0])
    return None


def blocks_of_sums(inverse_frequencies: Floats, length: int) -> Iterator[tuple[int, Floats]]:
    """Yield the sums of cosines at all distances below `length`, block by block, each with its first distance."""
    check_length(length)
    ones = np.ones(len(inverse_frequencies))
    for start in range(0, length, BLOCK):
        yield start, waves(ones, inverse_frequencies, start, min(start + BLOCK, length)).real


def waves(weights: Floats, frequencies: Floats, start: int, stop: int) -> NDArray[np.complex128]:
    """Return `sum over i of weights_i exp(1j * m * frequencies_i)` for m = start, ..., stop - 1.

    By the addition theorem it takes 2 sqrt(N) distances instead of N: a product of two small matrices.
    """
    columns = math.isqrt(stop - start - 1) + 1
    rows = -(-(stop - start) // columns)
    coarse = np.exp(1j * np.outer(start + columns * np.arange(rows), frequencies))
    fine = np.exp(1j * np.outer(frequencies, np.arange(columns)))
    return ((coarse * weights) @ fine).ravel()[: stop - start]


def check_length(length: int) -> None:
    """Raise ValueError for a length below 1."""
    if not length >= 1:
        raise ValueError(f"length must be at least 1, got {length}")
