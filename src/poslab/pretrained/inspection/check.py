"""Values of positions from another program, compared with the golden ones, and the mistake that reproduces them."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from poslab.arguments import nearest, shown
from poslab.io.files import read_bytes
from poslab.pretrained.inspection import golden
from poslab.pretrained.inspection.golden import FLOAT16, FLOAT32, FLOAT64, Integers, Rotation
from poslab.pretrained.inspection.report import Inspection, inspect_positions, ranges
from poslab.pretrained.inspection.spectrum import Floats, Rope

VECTORS = ("query", "key")
OF_ROTATION = ("inverse_frequencies", "attention_factor", "logit_factor", "cos", "sin", "rotated_query", "rotated_key")
COMPARED = (*OF_ROTATION, "alibi", "buckets", "causal_buckets")
"""Last parts of the keys of a file, in the order in which they are compared."""

BFLOAT16 = 2.0**-8
TYPES = {FLOAT32: "float32", FLOAT16: "float16", BFLOAT16: "bfloat16"}
OF_SAFETENSORS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "V2", "I64": "<i8", "I32": "<i4"}
MAX_POSITIONS, MAX_POSITION, MAX_HEADER = 2**16, 2**40, 2**22

Tensors = dict[str, tuple[NDArray[Any], float]]
"""Numbers by key, each with the roundoff of the type in which a file has them; 0 for integers."""


def check_values(source: str, file: Path, context: int | None = None) -> tuple[list[tuple[str, str]], bool]:
    """Compare another program's values of positions with a model's, and return True if they differ.

    ValueError in one sentence, for a file that is damaged, or has values that cannot be compared.

    Args:
        source: the model, as in `inspect_positions`.
        file: `.safetensors` or `.npz` with any of the keys of golden values, for any layers.
        context: tokens of the text; None is the length in the metadata of the file, or `max_position_embeddings`.
    """
    tensors, metadata = read_values(file)
    version, length = metadata.get("version"), str(metadata.get("length", context or ""))
    if metadata.get("format") == golden.FORMAT and version != golden.VERSION:
        raise ValueError(f"{file}: version must be {golden.VERSION}, got {shown(version)}")
    if length and not (re.fullmatch("[0-9]{1,10}", length) and int(length) == (context or int(length))):
        raise ValueError(f"{file}: length must be {context or 'a positive integer'}, got {shown(length[:20])}")
    inspection = inspect_positions(source, int(length) if length else None)
    positions_N = tensors.pop("positions", (golden.positions_of(inspection.context), 0.0))[0]
    is_list = positions_N.ndim == 1 and 0 < len(positions_N) <= MAX_POSITIONS
    if not is_list or not 0 <= positions_N.min() <= positions_N.max() <= MAX_POSITION:
        raise ValueError(f"{file}: positions must be a list of at most {MAX_POSITIONS:,} integers below 2 ** 40")
    layers, differences, largest = dict[int, Tensors](), dict[tuple[str, str], list[int]](), (0.0, "")
    for key, tensor in tensors.items():
        layers.setdefault(int(key.split(".")[1]), {})[key.split(".")[2]] = tensor
    for layer, given in sorted(layers.items()):
        message, cause, tolerance = _compare(inspection, positions_N, layer, given)
        largest = max(largest, tolerance)
        if cause:
            differences.setdefault((message, cause), []).append(layer)
    if not largest[1]:
        raise ValueError(f"{file} must have values to compare, such as layers.0.cos")
    more = ", ..." if len(positions_N) > 8 else ""
    rows = [
        ("model", f"{inspection.description.name} ({inspection.description.origin})"),
        ("values", f"{file}, of layers {ranges(sorted(layers))}, in a text of {inspection.context:,} tokens"),
        ("positions", ", ".join(f"{position:,}" for position in positions_N[:8]) + more),
        ("tolerance", f"at most {largest[0]:.2g}, of {largest[1]}"),
    ]
    for (message, cause), alike in differences.items():
        rows += [("", ""), (f"layer {ranges(alike)}", message), ("cause" if message else "note", cause)]
    differs = any(message for message, _ in differences)
    return rows if differs else [*rows, ("result", "equal within the tolerance")], differs


def read_values(file: Path) -> tuple[Tensors, dict[str, Any]]:
    """Return the tensors and the metadata of a file, of which nothing is run; ValueError, naming it, if damaged."""
    content = read_bytes(file, golden.MAX_BYTES)
    try:
        arrays, metadata = (_safetensors if file.suffix == ".safetensors" else _npz)(content)
    except Exception as error:  # anything that safetensors, zipfile and numpy raise for damaged files
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"{file} is damaged: {reason}") from error
    known, tensors = ["positions", *(f"layers.0.{name}" for name in (*VECTORS, *COMPARED))], Tensors()
    for key, values in arrays.items():
        if re.sub(r"^layers\.[0-9]{1,4}\.", "layers.0.", key) not in known:
            raise ValueError(f"{file}: unknown key {shown(key)}{nearest(key, known)}")
        is_integer, is_short = key == "positions" or key.endswith("buckets"), values.dtype == "V2"
        if values.dtype.kind not in ("iu" if is_integer else "f") and not (is_short and not is_integer):
            raise ValueError(f"{file}: {key} must be {'integers' if is_integer else 'floats'}, got {values.dtype}")
        if is_short:  # bfloat16
            values = (values.view("<u2").astype(np.uint32) << 16).view(np.float32)
        if not np.isfinite(values).all():
            raise ValueError(f"{file}: {key} must be finite, and has NaN or infinity")
        roundoff = 0.0 if is_integer else BFLOAT16 if is_short else max(FLOAT64, float(np.finfo(values.dtype).eps) / 2)
        tensors[key] = values.astype(np.int64 if is_integer else np.float64), roundoff
    return tensors, metadata


def _safetensors(content: bytes) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    from safetensors import deserialize

    if (size := int.from_bytes(content[:8], "little")) > MAX_HEADER:
        raise ValueError(f"its header must be at most {MAX_HEADER:,} bytes long")
    arrays = {}
    for name, tensor in deserialize(content):
        if (dtype := tensor["dtype"]) not in OF_SAFETENSORS:
            raise ValueError(f"{name} must be {', '.join(OF_SAFETENSORS)}, got {dtype}")
        arrays[name] = np.frombuffer(bytes(tensor["data"]), OF_SAFETENSORS[dtype]).reshape(tensor["shape"])
    return arrays, json.loads(content[8 : 8 + size]).get("__metadata__", {})


def _npz(content: bytes) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        if sum(member.file_size for member in archive.zip.infolist()) > golden.MAX_BYTES:
            raise ValueError(f"its arrays must have at most {golden.MAX_BYTES:,} bytes")
        return {name: np.asarray(archive[name]) for name in archive.files}, {}


def _compare(inspection: Inspection, positions_N: Integers, layer: int, given: Tensors) -> tuple[str, str, Any]:
    """Return the first difference of a layer in words, its cause (without a difference, a remark), and the tolerance.

    ValueError for values that no such layer has.
    """
    if layer >= len(inspection.layers):
        raise ValueError(f"layers.{layer}: {inspection.description.name} has {len(inspection.layers)} layers")
    rope, wrong, messages, largest = inspection.layers[layer].rope, Tensors(), [], (0.0, "")
    rotation, head_dim = (None, 0) if rope is None else (Rotation.of(rope, inspection), rope.head_dim)
    vectors = golden.vectors_of(head_dim)
    for name in VECTORS if rope else ():
        vectors[name] = given.get(name, (vectors[name], 0.0))[0]
        if vectors[name].shape != (head_dim,):
            raise ValueError(f"layers.{layer}.{name} must have {head_dim} numbers, got {vectors[name].shape}")

    @cache
    def expected_in(roundoff: float) -> golden.Values:
        of_rotation = rotation.values(positions_N, vectors, roundoff) if rotation else {}
        return golden.biases(inspection, positions_N, roundoff) | of_rotation

    for name in (name for name in COMPARED if name in given):
        values, roundoff = given[name]
        expected = expected_in(roundoff)
        if name not in expected:
            raise ValueError(f"layers.{layer}.{name}: that layer of {inspection.description.name} has no known one")
        largest = max(largest, (float(np.max(expected[name][1])), f"layers.{layer}.{name}"))
        if message := _difference(name, values, *expected[name], positions_N, rotation):
            messages.append(message)
            wrong[name] = given[name]
    if not wrong:
        return "", "", largest

    def reproduces(variant: Rotation, roundoff: float) -> bool:
        """Return True if a rotation has all values that differ, within the tolerance of their type."""
        values_in = cache(partial(variant.values, positions_N, vectors))
        for name, (values, stored) in wrong.items():
            expected, bounds = values_in(roundoff or stored)[name]
            if values.shape != expected.shape or not (np.abs(values - expected) <= bounds).all():
                return False
        return True

    if not rope or not rotation:
        return messages[0], "no known cause", largest
    if rotation.pairing == "interleaved" and reproduces(replace(rotation, pairing=golden.REORDERED), 0.0):
        return "", "rotated channels are in half-split order; logits agree if queries and keys both are", largest
    cases = _mistakes(rope, inspection, int(positions_N.max()), wrong)
    causes = {label: roundoff for label, variant, roundoff in cases if reproduces(variant, roundoff)}
    exact = [label for label, roundoff in causes.items() if not roundoff]
    return messages[0], " or ".join(exact or [*causes][:1]) or "no known cause", largest


def _difference(
    name: str, values: Floats, expected: Floats, bounds: Any, positions_N: Integers, rotation: Rotation | None
) -> str:
    """Return the first difference in words, by pair and then by position; empty if there is none."""
    if values.shape != expected.shape:
        hint = ""
        if name in ("cos", "sin"):
            hint = ": one number for each pair of channels"
            if values.shape == (len(expected), 2 * expected.shape[1]):
                hint += "; give each once, where transformers repeats it"
        return f"{name} has the shape {values.shape}, expected {expected.shape}{hint}"
    errors = np.atleast_2d(np.abs(values - expected))
    rows, columns = np.nonzero(errors > bounds)
    if not len(rows):
        return ""
    pairs = np.arange(errors.shape[1])
    if rotation and name.startswith("rotated"):
        pairs[:] = -1
        pairs[rotation.channels(-1)] = np.arange(len(rotation.frequencies))
    first = np.lexsort((rows, pairs[columns]))[0]
    row, column = rows[first], columns[first]
    where = f" of {'pair' if name in OF_ROTATION else 'column'} {pairs[column]}" if values.size > 1 else ""
    where = f" of channel {column}, which does not rotate," if pairs[column] < 0 else where
    where += f" at position {positions_N[row]:,}" if values.ndim > 1 else ""
    got, wanted = (np.atleast_2d(array)[row, column] for array in (values, expected))
    bound = float(np.broadcast_to(bounds, errors.shape)[row, column])
    amount = f"{len(rows):,} of {errors.size:,} differ, by up to {errors.max():.3g}"
    return f"{name}{where}: {got:.8g}, expected {wanted:.8g} within {bound:.2g}; {amount}"


def _mistakes(rope: Rope, inspection: Inspection, last: int, wrong: Tensors) -> Iterator[tuple[str, Rotation, float]]:
    """Yield mistakes, each with the rotation that it makes, and the roundoff of its type if it is one of precision."""
    rotation, block, factor, original = Rotation.of(rope, inspection), rope.block, rope.factor, rope.original_length
    plain, scaled, scale = rope.plain[: len(rotation.frequencies)], rotation.frequencies, rotation.attention_factor
    pairing, moving = "half-split" if rotation.pairing == "interleaved" else "interleaved", int((scaled > 0).sum())
    computed: dict[str, dict[str, Any]] = {
        f"{pairing} pairs instead of {rotation.pairing}": {"pairing": pairing},
        "rotated the other way (sign of sin)": {"angles": lambda p, f: -np.outer(p, f)},
        "positions off by one (+1)": {"angles": lambda p, f: np.outer(p + 1, f)},
        "positions off by one (-1)": {"angles": lambda p, f: np.outer(p - 1, f)},
        "attention factor left out": {"attention_factor": 1.0},
        "attention factor applied twice": {"attention_factor": scale**2},
        "logit factor of mscale_all_dim left out": {"logit_factor": 1.0},
        "scaling left out": {"frequencies": plain, "attention_factor": 1.0},
        "scaling of frequencies left out": {"frequencies": plain},
        f"linear scaling instead of {rope.type}": {"frequencies": plain / factor, "attention_factor": 1.0},
        "factor applied twice": {"frequencies": scaled / factor},
        f"pairs within the first {2 * moving} channels": {"frequencies": scaled[:moving]},
    }
    yield from ((label, replace(rotation, **changes), 0.0) for label, changes in computed.items())
    fast, slow, truncate = block.get("beta_fast") or 32, block.get("beta_slow") or 1, block.get("truncate", True)
    configured: dict[str, dict[str, Any]] = {
        "beta_fast and beta_slow swapped": {"beta_fast": slow, "beta_slow": fast},
        f"truncate={not truncate}": {"truncate": not truncate},
        "mscale left out": dict.fromkeys(("mscale", "mscale_all_dim", "attention_factor")),
        "attention factor 0.07 ln(factor) + 1": {"attention_factor": 0.07 * math.log(max(factor, 1.0)) + 1},
        "base 10,000, the default": {"rope_theta": 10_000.0},
        "factor applied twice": {"factor": factor**2},
        f"factor {rope.max_length / original:g}, from the lengths": {"factor": rope.max_length / original},
    }
    if {"low_freq_factor", "high_freq_factor"} <= block.keys():
        swapped = {"low_freq_factor": block["high_freq_factor"], "high_freq_factor": block["low_freq_factor"]}
        configured["low_freq_factor and high_freq_factor swapped"] = swapped
    for length in (rope.max_length, round(original * factor)):
        lengths = {"factor": factor, "original_max_position_embeddings": length}
        configured[f"original_max_position_embeddings={length:,}"] = lengths
    for layer in inspection.layers:
        if (other := layer.rope) and other != rope:
            configured[f"base {other.base:,.0f} of the {layer.attention} layers"] = {"rope_theta": other.base}
            configured[f"scaling of the {layer.attention} layers"] = {**other.block, "rope_theta": rope.base}
            configured[f"base and scaling of the {layer.attention} layers"] = {**other.block}
    ropes = {label: (replace(rope, block={**block, **changes}), 0) for label, changes in configured.items()}
    ropes[f"all {rope.head_dim} channels rotate"] = replace(rope, first=0, rotary_dim=rope.head_dim), 0
    ropes |= {f"frequencies of a text of {n:,} tokens": (rope, n) for n in (last + 1, original, original + 1)}
    for label, (changed, length) in ropes.items():
        with suppress(ValueError, ArithmeticError):  # a scaling without what it needs
            yield label, Rotation.of(changed, replace(inspection, context=length or inspection.context)), 0.0
    types, kinds = (BFLOAT16, FLOAT16), ("positions", "frequencies", "angles")
    for stored in (FLOAT32, *(t for t in types if all((_rounded(x, t) == x).all() for x, _ in wrong.values()))):
        yield f"computed in {TYPES[stored]}", rotation, stored
        for narrow in types:
            for parts in (*kinds, "positions, frequencies and angles"):

                def angles(positions: Floats, frequencies: Floats, narrow: float = narrow, parts: str = parts) -> Any:
                    p, f, a = (narrow if kind in parts else FLOAT32 for kind in kinds)
                    return _rounded(np.outer(_rounded(positions, p), _rounded(frequencies, f)), a)

                yield f"{parts} in {TYPES[narrow]}", replace(rotation, angles=angles), stored


def _rounded(values: Floats, roundoff: float) -> Floats:
    """Return the nearest numbers of a type."""
    mantissas, exponents = np.frexp(values)
    return np.ldexp(np.round(mantissas / roundoff) * roundoff, exponents)
