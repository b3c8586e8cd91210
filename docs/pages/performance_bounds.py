"""The bounds that Poslab holds its speed and memory to, and the figures that say whether they are met."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FIGURES = Path(__file__).resolve().parents[2] / "benchmarks" / "figures"
"""A folder for each machine."""

GIB = 2**30
OURS, NOTHING = "Poslab", "no encoding"
Row = dict[str, Any]


@dataclass(frozen=True)
class Figures:
    """The measurements of a benchmark.

    Args:
        rows: as benchmarks/results.py writes them.
        machine: on what.
    """

    rows: list[Row]
    machine: Row | None

    @classmethod
    def read(cls, name: str, folder: Path) -> Figures:
        """Return those of a file; none where there is no such file yet."""
        path = folder / f"{name}.json"
        if not path.is_file():
            return cls([], None)
        content = json.loads(path.read_text(encoding="utf-8"))
        return cls(content["rows"], content["machine"])

    def of(self, part: str, **values: Any) -> list[Row]:
        """Return the rows of a part with these values."""
        wanted = {"part": part, **values}
        return [row for row in self.rows if all(row.get(key) == value for key, value in wanted.items())]


@dataclass(frozen=True)
class Measured:
    """All figures of a machine.

    Args:
        name: of the machine, short.
        attention, train_step, memory: of the benchmarks of these names.
    """

    name: str
    attention: Figures
    train_step: Figures
    memory: Figures

    @classmethod
    def read(cls, folder: Path) -> Measured:
        """Return those in a folder, which has the name of the machine."""
        return cls(folder.name, *(Figures.read(name, folder) for name in ("attention", "train_step", "memory")))


def every_machine() -> list[Measured]:
    """Return the figures of every machine, by its name."""
    return [Measured.read(one) for one in sorted(FIGURES.iterdir()) if one.is_dir()]


@dataclass(frozen=True)
class Bound:
    """A bound on some figures.

    Args:
        claim: in words, with the bound.
        limit: what a figure may be at most, or, if `at_least`, at least.
        figures: by what they are of.
        at_least: which of the two.
        unit: what stands behind a figure.
    """

    claim: str
    limit: float
    figures: dict[str, float]
    at_least: bool = False
    unit: str = ""

    @property
    def failing(self) -> list[str]:
        """The figures that do not keep it, the worst first."""
        sign = -1 if self.at_least else 1
        over = [name for name, figure in self.figures.items() if sign * figure > sign * self.limit]
        return sorted(over, key=lambda name: -sign * self.figures[name])

    def __str__(self) -> str:
        if not self.figures:
            return f"- **Not measured yet:** {self.claim}."
        worst = (min if self.at_least else max)(self.figures, key=lambda name: self.figures[name])
        shown = self.failing or [worst]
        is_close = any(f"{self.figures[name]:.2f}" == f"{self.limit:.2f}" for name in self.failing)
        listed = ", ".join(f"{self.figures[name]:.{3 if is_close else 2}f}{self.unit} ({name})" for name in shown)
        extreme = f"the {'smallest' if self.at_least else 'largest'} of {len(self.figures)}"
        found = (
            f"{len(self.failing)} of {len(self.figures)} do not: {listed}"
            if self.failing
            else f"{extreme if len(self.figures) > 1 else 'it'} is {listed}"
        )
        return f"- **{'Not met' if self.failing else 'Met'}:** {self.claim}; {found}."


def bounds(measured: Measured) -> Iterator[Bound]:
    """Yield every bound that Poslab holds itself to, with its figures."""
    attention, train_step, memory = measured.attention, measured.train_step, measured.memory
    for precision, limits in {
        "float32": {1024: 1.25, 2048: 1.25, 4096: 1.45},
        "bfloat16": dict.fromkeys((1024, 2048, 4096), 1.5),
    }.items():
        for length, limit in limits.items():
            rows = attention.of("distance", precision=precision, length=length, contestant="learned bias")
            yield Bound(
                f"the distance route with a learned bias, in {precision} at T = {length:,}, takes at most {limit} "
                "times as long as causal attention without any encoding",
                limit,
                {f"batch {row['batch']}": row["time"][1] for row in rows},
            )
    yield Bound(
        "the distance route trains at T = 32,768 in at most 1.5 GiB beyond queries, keys, values and their gradients",
        1.5,
        {row["precision"]: row["peak_bytes"] / GIB for row in memory.of("training", length=32768)},
        unit=" GiB",
    )
    blockwise = attention.of("blockwise", contestant="blockwise")
    held = {(row["encoding"], row["length"]): row["peak_bytes"] for row in blockwise if "peak_bytes" in row}
    yield Bound(
        "the blockwise route holds at T = 8,192 at most 2.3 times as much memory as at 4,096",
        2.3,
        {name: held[name, 8192] / held[name, 4096] for name, length in held if length == 8192 and (name, 4096) in held},
    )
    yield Bound(
        "the blockwise route takes at T = 2,048 at most 1.25 times as long as the dense form",
        1.25,
        {row["encoding"]: row["over_dense"][1] for row in blockwise if row["length"] == 2048},
    )
    for precision, limit in {"32-true": 1.10, "bf16-mixed": 1.15}.items():
        rows = train_step.of("encodings", precision=precision, length=512, contestant=OURS)
        fused = {row["encoding"]: row["time"][1] for row in rows if "blockwise" not in row["route"]}
        pope = {name: fused.pop(name) for name in ["pope"] if name in fused}
        yield Bound(
            f"in {precision}, a training step of the whole model takes at most {limit} times as long as under "
            "`none`, for every encoding on the routes flash and distance",
            limit,
            fused,
        )
        yield Bound(f"in {precision}, a training step under PoPE takes at most 1.8 times as long", 1.8, pope)
    peers = [row for row in train_step.of("encodings") if "speed" in row]
    yield Bound(
        "a training step is at least as fast as that of a peer with the same encoding and precision",
        1.0,
        {beside(row): row["speed"][1] for row in peers},
        at_least=True,
    )
    yield Bound(
        "a training step is at least 1.2 times as fast at T = 2,048 if the peer materialises a bias",
        1.2,
        {beside(row): row["speed"][1] for row in peers if row["length"] == 2048 and row["materialises"]},
        at_least=True,
    )
    yield Bound(
        "a training step with rotary is at least as fast as that of transformers' whole Llama",
        1.0,
        {
            f"{row['contestant']}, {row['precision']}": row["speed"][1]
            for row in train_step.of("llama")
            if "speed" in row
        },
        at_least=True,
    )
    yield Bound(
        "a compiled training step in bf16-mixed is at least 0.8 times as fast as the machine's matrix products allow",
        0.8,
        {row["encoding"]: row["share"][1] for row in train_step.of("compiled") if "share" in row},
        at_least=True,
    )
    rows = memory.of("evaluation", length=32768)
    yield Bound(
        "an evaluation of the default model on 32,768 tokens takes less than 3 GiB for every encoding on the routes "
        "flash and distance",
        3.0,
        {row["encoding"]: row["peak_bytes"] / GIB if "peak_bytes" in row else float("inf") for row in rows},
        unit=" GiB",
    )


def beside(row: Row) -> str:
    """Return what the row of a peer measures."""
    return f"{row['encoding']} beside {row['contestant']}, {row['precision']}, T = {row['length']:,}"
