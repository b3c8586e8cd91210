"""Golden values of positions in float64, without torch: the numbers of a model that other programs must have.

Legend: N positions, P pairs of channels, D head dim, H heads.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from poslab.pretrained.inspection.layers import HEADS, MAX_CHANNELS, WIDTHS, logit_factor
from poslab.pretrained.inspection.report import Inspection
from poslab.pretrained.inspection.spectrum import Floats, Rope

Integers = NDArray[np.int64]
Values = dict[str, tuple[NDArray[Any], Floats | float]]
"""Values by name, each with the error that a correct program may have."""

FORMAT, VERSION = "poslab-positions", "1"
MAX_BYTES = 2**25  # most bytes of a file of values; the largest models have about 1,000,000
FLOAT64, FLOAT32, FLOAT16 = 2.0**-53, 2.0**-24, 2.0**-11  # half the spacing of floats near 1
REORDERED = "interleaved to half-split"
"""Order in which DeepSeek's classes in transformers return pairs, of queries and keys alike, so that logits agree."""


@dataclass(frozen=True)
class Rotation:
    """Frequencies (P,), factors and pairs; `angles` maps positions (N,) and frequencies to angles (N, P)."""

    frequencies: Floats
    attention_factor: float
    logit_factor: float
    pairing: str | None
    first: int
    angles: Callable[[Any, Any], Any] = np.outer

    @classmethod
    def of(cls, rope: Rope, inspection: Inspection) -> Rotation:
        """Return the rotation of a layer in a text of the inspected length; ValueError if channels are no pairs."""
        frequencies, scale = rope.frequencies(inspection.context), logit_factor(inspection.description, rope)
        if 2 * len(frequencies) != rope.rotary_dim:
            raise ValueError(f"{rope.rotary_dim} channels with {len(frequencies)} frequencies have no golden values")
        return cls(frequencies, rope.attention_factor, scale, rope.pairing, rope.first)

    def values(self, positions_N: Integers, vectors: Mapping[str, Floats], roundoff: float = FLOAT64) -> Values:
        """Return all values, with vectors (D,) rotated to each position, and their tolerances in a type of floats.

        A tolerance is 4 roundoffs of the type, and 8 + |ln frequency| roundoffs of the angle: in float64 for values in
        float64, in float32 for all others.
        """
        angles_NP, factor = self.angles(positions_N.astype(float), self.frequencies), self.attention_factor
        cos_NP, sin_NP = factor * np.cos(angles_NP), factor * np.sin(angles_NP)
        steps_P = self.frequencies * (8 + np.abs(np.log(np.where(self.frequencies > 0, self.frequencies, 1.0))))
        steps_P *= FLOAT64 if roundoff == FLOAT64 else FLOAT32
        bounds_NP = factor * (4 * roundoff + np.outer(positions_N, steps_P))
        smallest = 2.0**-24 if roundoff == FLOAT16 else 0.0
        values: Values = {
            "inverse_frequencies": (self.frequencies, 4 * roundoff * self.frequencies + steps_P + smallest),
            "attention_factor": (np.array([factor]), 8 * roundoff * factor),
            "logit_factor": (np.array([self.logit_factor]), 8 * roundoff * self.logit_factor),
            "cos": (cos_NP, bounds_NP),
            "sin": (sin_NP, bounds_NP),
        }
        (a, b), (from_a, from_b) = self.channels(-1), self.channels(0)
        for name, x_D in vectors.items() if self.pairing else ():
            rotated_ND, largest = np.tile(x_D, (len(positions_N), 1)), np.abs(x_D).max()
            rotated_ND[:, a] = x_D[from_a] * cos_NP - x_D[from_b] * sin_NP
            rotated_ND[:, b] = x_D[from_b] * cos_NP + x_D[from_a] * sin_NP
            bounds_ND = np.full_like(rotated_ND, 4 * roundoff * largest)
            bounds_ND[:, a] = bounds_ND[:, b] = 2 * largest * bounds_NP
            values[f"rotated_{name}"] = rotated_ND, bounds_ND
        return values

    def channels(self, word: int) -> Integers:
        """Return the two channels of each pair (2, P), as they are read (0) or written (-1)."""
        m = np.arange(len(self.frequencies))
        is_interleaved = str(self.pairing).split(" to ")[word] == "interleaved"
        return self.first + np.stack([2 * m, 2 * m + 1] if is_interleaved else [m, m + len(m)])


def positions_of(length: int) -> Integers:
    """Return the golden positions of a length L: 0, 1, L - 1, L and 4 L, each once."""
    return np.unique(np.array([0, 1, length - 1, length, 4 * length], dtype=np.int64))


def vectors_of(head_dim: int) -> dict[str, Floats]:
    """Return the query and the key (D,) that are rotated: multiples of 1/32, which bfloat16 represents exactly."""
    numbers = np.random.default_rng(0).standard_normal((2, head_dim))
    return dict(zip(("query", "key"), np.round(32 * numbers) / 32, strict=True))


def biases(inspection: Inspection, distances_N: Integers, roundoff: float = FLOAT64) -> Values:
    """Return what distances add to logits, with tolerances: ALiBi (N, H), and the buckets of T5."""
    description, values = inspection.description, Values()
    kinds, text = [other.partition(":")[0] for other in inspection.layers[0].others], str(description.code)
    if "ALiBi" in kinds:
        heads = description.count(*HEADS, most=MAX_CHANNELS)
        power = 2 ** math.ceil(math.log2(heads))
        slopes = 2.0 ** (-8 * np.arange(1, power + 1) / power)
        slopes_H = slopes if power == heads else np.concatenate([slopes[1::2], slopes[::2]])[:heads]
        if "self.beta = self.inv_norm_factor" in text:  # as in Falcon
            slopes_H = slopes_H / math.sqrt(description.count(*WIDTHS) // heads)
        values["alibi"] = np.outer(-distances_N, slopes_H), 8 * roundoff * np.outer(distances_N, slopes_H)
    if "T5" in kinds:
        count = description.count("relative_attention_num_buckets")
        longest = description.count("relative_attention_max_distance", default=128)
        before_N = _buckets(distances_N, count // 2, longest)
        values["buckets"] = np.stack([before_N, before_N + np.where(distances_N > 0, count // 2, 0)], axis=1), 0.0
        if "is_decoder" in text:
            values["causal_buckets"] = _buckets(distances_N, count, longest)[:, None], 0.0
    return values


def _buckets(distances_N: Integers, count: int, longest: int) -> Integers:
    if not 0 < (exact := count // 2) < longest:
        raise ValueError(f"relative_attention_max_distance must be above {exact} for {count} buckets, got {longest}")
    shares_N = np.log(np.maximum(distances_N, exact) / exact) / math.log(longest / exact)
    far_N = exact + (shares_N * (count - exact)).astype(np.int64)
    return np.where(distances_N < exact, distances_N, np.minimum(far_N, count - 1))


def golden_values(inspection: Inspection) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Return the golden values of a model by their keys, such as `layers.0.cos`, and metadata that describe them.

    ValueError for a model whose positions are only weights, or whose values would take more than 32 MB.
    """
    description, positions_N = inspection.description, positions_of(inspection.context)
    ropes, rotations = [layer.rope for layer in inspection.layers], {}
    first = [None if rope is None else ropes.index(rope) for rope in ropes]
    values: dict[str, NDArray[Any]] = {"positions": positions_N}
    for layer, rope in ((n, rope) for n, rope in enumerate(ropes) if rope and first[n] == n):
        parts: dict[str, Any] = dict(vectors_of(rope.head_dim)) if rope.pairing else {}
        computed = Rotation.of(rope, inspection).values(positions_N, parts)
        parts |= {name: array for name, (array, _) in computed.items()}
        values |= {f"layers.{layer}.{name}": np.ascontiguousarray(array) for name, array in parts.items()}
        rotations[layer] = {key: getattr(rope, key) for key in ("pairing", "first", "rotary_dim", "head_dim")}
        if sum(array.nbytes for array in values.values()) > MAX_BYTES:
            raise ValueError(f"golden values must have at most {MAX_BYTES:,} bytes, and there are more")
    values |= {f"layers.0.{name}": array for name, (array, _) in biases(inspection, positions_N).items()}
    left_out = [other for other in inspection.layers[0].others if not other.startswith("ALiBi")]
    left_out += sorted({layer.rotation for layer in inspection.layers if layer.rotation.startswith("unknown")})
    left_out += ["rotated vectors, since pairs are unknown"] if any(rope and not rope.pairing for rope in ropes) else []
    if len(values) == 1:
        raise ValueError(
            f"{description.name} has no golden values of positions: {'; '.join(left_out) or 'it has none'}"
        )
    metadata = {"format": FORMAT, "version": VERSION, "poslab": version("poslab"), "model": description.name}
    metadata |= {"model_type": str(description.get("model_type")), "length": str(inspection.context)}
    described = {"layers": first, "rotations": rotations, "not_golden": left_out}
    return values, metadata | {key: json.dumps(value) for key, value in described.items()}
