"""The bounds on speed and memory that Poslab is measured against, and the measurements that decide them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FIGURES = Path(__file__).resolve().parents[2] / "benchmarks" / "figures"
"""A file for each machine."""

GIB = 2**30
OURS, NOTHING = "Poslab", "no encoding"
Row = dict[str, Any]


@dataclass(frozen=True)
class Measured:
    """All measurements of a machine.

    Args:
        name: of the machine, short.
        machine: its hardware and the versions of packages.
        rows: as benchmarks/results.py writes them.
    """

    name: str
    machine: Row
    rows: list[Row]

    @classmethod
    def read(cls, path: Path) -> Measured:
        """Return the measurements of a file."""
        content = json.loads(path.read_text(encoding="utf-8"))
        return cls(path.stem, content["machine"], content["rows"])

    def of(self, part: str, **values: Any) -> list[Row]:
        """Return the rows of a part with these values, without what was left out."""
        wanted = {"part": part, **values}
        rows = (row for row in self.rows if all(row.get(key) == value for key, value in wanted.items()))
        return [row for row in rows if "left_out" not in row]


def every_machine() -> list[Measured]:
    """Return the measurements of every machine, by its name."""
    return [Measured.read(path) for path in sorted(FIGURES.glob("*.json")) if '"machine"' in path.read_text("utf-8")]


@dataclass(frozen=True)
class Bound:
    """A bound on some measurements.

    Args:
        claim: in words, with the bound.
        limit: what a measurement may be at most, or, if `at_least`, at least; or the limit of each.
        figures: measurements by what they are of.
        at_least: which of the two.
        unit: what follows a number.
    """

    claim: str
    limit: float | Mapping[str, float]
    figures: dict[str, float]
    at_least: bool = False
    unit: str = ""

    @property
    def failing(self) -> list[str]:
        """The measurements that do not keep it, the worst first."""
        excesses = {name: self._excess(name) for name in self.figures}
        return sorted((name for name in excesses if excesses[name] > 1), key=lambda name: -excesses[name])

    def __str__(self) -> str:
        if not self.figures:
            return f"- **Not measured yet:** {self.claim}."
        failing, number = self.failing, len(self.figures)
        shown = failing or (list(self.figures) if isinstance(self.limit, Mapping) else self.worst)
        listed = ", ".join(f"{self._shown(name)}{self.unit} ({name})" for name in shown)
        if failing:
            return f"- **Not met:** {self.claim}; {len(failing)} of {number} do not: {listed}."
        extreme = f"the {'smallest' if self.at_least else 'largest'} of {number}"
        return f"- **Met:** {self.claim}; {extreme if number > len(shown) else 'it'} is {listed}."

    @property
    def worst(self) -> list[str]:
        """The measurement that keeps it most narrowly."""
        return [max(self.figures, key=self._excess)]

    def _limit(self, name: str) -> float:
        return self.limit[name] if isinstance(self.limit, Mapping) else self.limit

    def _excess(self, name: str) -> float:
        over = self.figures[name] / self._limit(name)
        return 1 / over if self.at_least else over

    def _shown(self, name: str) -> str:
        """Return a number, with a third decimal where two would round it to the limit that it fails."""
        is_close = name in self.failing and f"{self.figures[name]:.2f}" == f"{self._limit(name):.2f}"
        return f"{self.figures[name]:.{3 if is_close else 2}f}"


def bounds(measured: Measured) -> Iterator[Bound]:
    """Yield every bound on a machine, with its measurements."""
    for peer, precision, limits in (
        ("Llama", "bf16-mixed", {128: 1.35, 256: 1.2, 512: 1.15, 1024: 1.05}),
        ("Llama", "32-true", {128: 1.15, 256: 1.1, 512: 1.05}),
        ("x-transformers", "bf16-mixed", {256: 1.25, 512: 1.2}),
    ):
        rows = measured.of("decoders", precision=precision, contestant=peer)
        whole = (
            "transformers' whole Llama as it comes, with fused attention,"
            if peer == "Llama"
            else f"the decoder of {peer}"
        )
        yield _by_length(
            f"a training step in {precision} is at least {_listed(limits)} times as fast as the step of {whole}",
            limits,
            {row["length"]: row["speed"][1] for row in rows},
            at_least=True,
        )
    for precision in ("bf16-mixed", "32-true"):
        rows = [row for row in measured.of("decoders", precision=precision) if row["contestant"].startswith("Llama")]
        fastest = _fastest(rows, "length")
        yield _by_length(
            f"a training step in {precision} is at least as fast as a step of this Llama with the faster of its fused "
            "and its eager attention,",
            dict.fromkeys(fastest, 1.0),
            fastest,
            at_least=True,
        )
    llamas = [row for row in measured.of("compiled") if row["contestant"].startswith("Llama")]
    yield Bound(
        "a compiled training step is at least as fast as a compiled Llama's, whole or layer by layer",
        1.0,
        _fastest(llamas, "precision"),
        at_least=True,
    )
    yield Bound(
        "the FLOPs of a compiled training step per second, attention's included, are in bf16-mixed at least 0.55 times "
        "the FLOPs of its matrix products (the first bound, 0.8, was never met)",
        0.55,
        {row["encoding"]: row["share"][1] for row in measured.of("compiled", precision="bf16-mixed", contestant=OURS)},
        at_least=True,
    )
    for precision, limits in (
        ("bfloat16", {512: 0.9, 1024: 1.0, 2048: 1.5, 4096: 1.25}),
        ("float32", {1024: 1.25, 2048: 1.25, 4096: 1.45}),
    ):
        rows = measured.of("distance", precision=precision, contestant="learned bias")
        yield _by_length(
            f"attention under a learned bias of distance in {precision} takes at most {_listed(limits)} times as long "
            "as PyTorch's without any bias",
            limits,
            {row["length"]: row["time"][1] for row in rows},
        )
    for precision, limit in {"32-true": 1.10, "bf16-mixed": 1.15}.items():
        rows = measured.of("encodings", precision=precision, length=512, contestant=OURS)
        fused = {row["encoding"]: row["time"][1] for row in rows if "blockwise" not in row["route"]}
        pope = {name: fused.pop(name) for name in ["pope"] if name in fused}
        yield Bound(
            f"in {precision}, a training step takes at most {limit} times as long as under `none`, for every encoding "
            "on the routes flash and distance but PoPE",
            limit,
            fused,
        )
        yield Bound(f"in {precision}, a training step under PoPE takes at most 1.8 times as long", 1.8, pope)
    peers = [row for row in measured.of("encodings") if row["contestant"] not in (OURS, NOTHING)]
    speeds = {f"{row['encoding']} next to {row['contestant']}, {_shape(row)}": row["speed"][1] for row in peers}
    yield Bound(
        "a training step is at least as fast as a peer's with the same encoding and precision",
        1.0,
        speeds,
        at_least=True,
    )
    long = [row["length"] == 2048 and bool(row["materialises"]) for row in peers]
    yield Bound(
        "a training step is at least 1.2 times as fast at T = 2,048 if the peer materialises a bias",
        1.2,
        {name: speed for (name, speed), is_long in zip(speeds.items(), long, strict=True) if is_long},
        at_least=True,
    )
    blockwise = measured.of("blockwise", contestant="blockwise")
    held = {(row["encoding"], row["length"]): row["peak_bytes"] for row in blockwise if "peak_bytes" in row}
    yield Bound(
        "the blockwise route takes at T = 2,048 at most 1.25 times as long as the dense form",
        1.25,
        {row["encoding"]: row["over_dense"][1] for row in blockwise if "over_dense" in row},
    )
    yield Bound(
        "the blockwise route takes at T = 8,192 at most 2.3 times as much memory as at 4,096",
        2.3,
        {name: held[name, 8192] / held[name, 4096] for name, length in held if length == 8192 and (name, 4096) in held},
    )
    yield Bound(
        "the distance route trains at T = 32,768 in at most 1.5 GiB beyond queries, keys, values and their gradients",
        1.5,
        {row["precision"]: row["peak_bytes"] / GIB for row in measured.of("training", length=32768)},
        unit=" GiB",
    )
    yield Bound(
        "an evaluation of the default model on 32,768 tokens takes less than 3 GiB for every encoding on the routes "
        "flash and distance",
        3.0,
        {
            row["encoding"]: row["peak_bytes"] / GIB if "peak_bytes" in row else math.inf  # memory ended
            for row in measured.rows
            if row["part"] == "evaluation" and row["length"] == 32768
        },
        unit=" GiB",
    )


def _fastest(rows: list[Row], key: str) -> dict[Any, float]:
    """Return our speed next to the fastest contestant of each value of a key."""
    values = dict.fromkeys(row[key] for row in rows)
    return {value: min(row["speed"][1] for row in rows if row[key] == value) for value in values}


def _by_length(claim: str, limits: dict[int, float], figures: dict[int, float], at_least: bool = False) -> Bound:
    """Return a bound with a limit for each length; lengths without one are left out."""
    names = {length: f"T = {length:,}" for length in limits}
    return Bound(
        f"{claim} at T = {', '.join(f'{length:,}' for length in limits)}",
        {names[length]: limit for length, limit in limits.items()},
        {names[length]: figures[length] for length in limits if length in figures},
        at_least,
    )


def _listed(limits: dict[int, float]) -> str:
    """Return the limits of successive lengths."""
    return ", ".join(f"{limit:g}" for limit in limits.values())


def _shape(row: Row) -> str:
    return f"{row['precision']}, T = {row['length']:,}"
