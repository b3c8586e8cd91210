"""Makes docs/performance.md and its pictures: `python docs/make.py performance`.

The page is made of what the benchmarks wrote into benchmarks/figures, a folder for each machine: each bound that Poslab
holds itself to with whether it is met, tables, and plots. The time that is spent on data has one file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from pages.performance_bounds import FIGURES, GIB, NOTHING, OURS, Figures, Measured, bounds, every_machine
from poslab.report.text import markdown_table

DOCS = Path(__file__).resolve().parents[1]
PAGE = DOCS / "performance.md"
PICTURES = Path("figures") / "performance"

INTRODUCTION = """\
# Performance

<!-- `python docs/make.py` makes this page from the figures of `benchmarks/`. Do not edit it by hand. -->

[How to repeat the figures](#how-to-repeat-it) is at the end.

**Figures are ratios.** Seconds and bytes depend on the machine, ratios much less so.

**Time.** All contestants of a comparison take turns in one process, in alternating order, so that any other load of the
machine affects all of them. A ratio compares two neighbouring turns, and the tables show the median over all turns.

**Peak memory** is the most bytes that PyTorch held at once beyond what it held before: tensors for the backward pass,
temporaries and gradients, but not weights.

**A dash** stands for a case that does not fit into memory or takes too long; the JSON file says which.

**Denormals.** Training and evaluation flush denormals, numbers below 1e-38, to zero (`torch.set_flush_denormal`). Intel
processors are many times slower on them, and attention weights under ALiBi have many of them. In float32 at T = 2,048,
the default model under ALiBi trains 2.5 times as fast with it on the Xeon below. In your own programs call it first."""

REPEAT = """\
## How to repeat it

On a machine that does nothing else, in a checkout:

```bash
python -m pip install -e ".[bench]"
python benchmarks/attention.py --seconds-per-cell 12 --output benchmarks/figures/MACHINE/attention.json
python benchmarks/train_step.py --parts trainer encodings llama compiled \\
  --output benchmarks/figures/MACHINE/train_step.json
python benchmarks/memory.py --output benchmarks/figures/MACHINE/memory.json
python benchmarks/data_time.py --output benchmarks/figures/data_time.json
python docs/make.py performance
```

Each command resumes after an interruption: rows that a file already has are not measured again, except with `--again`.
`--parts`, `--encodings`, `--lengths` and the like measure only some rows. `--quick` checks in a minute or two that a
command runs.

A file holds figures of one machine only, and each machine has its own folder.

Nothing on this page was measured on a GPU. `python benchmarks/gpu.py` measures in at most nine minutes what only a GPU
can show (routes beside the dense one, kernels, biases, long texts, training steps of up to 1B parameters, sharding),
and writes a page of its own, `outputs/gpu.md`. On a CPU it runs in a reduced form."""


def page(machines: Sequence[Measured]) -> str:
    """Return the page."""
    blocks = [INTRODUCTION]
    for measured in machines:
        blocks += [
            f"## {measured.name}",
            *_machine(measured),
            "### Bounds",
            "\n".join(str(bound) for bound in bounds(measured)),
            *_distance(measured.attention),
            *_lattice(measured.attention),
            *_layers(measured),
            *_blockwise(measured.attention),
            *_training(measured.train_step),
            *_memory(measured.memory),
        ]
    return "\n\n".join([*blocks, *_data(), REPEAT]) + "\n"


def _machine(measured: Measured) -> Iterator[str]:
    figures = (measured.attention, measured.train_step, measured.memory)
    for machine in {json.dumps(one.machine): one.machine for one in figures if one.machine}.values():
        instructions = f" ({', '.join(machine['instructions'])})" if machine["instructions"] else ""
        hardware = [machine["gpu"], machine["processor"] + instructions, f"{machine['threads']} threads"]
        versions = [f"{name} {machine[name]}" for name in ("torch", "transformers", "x-transformers")]
        yield (
            f"Measured on {', '.join(filter(None, hardware))}, {machine['memory_gib']} GiB; Python "
            f"{machine['python']}, {', '.join(versions)}."
        )


def _distance(attention: Figures) -> Iterator[str]:
    rows = attention.of("distance")
    if not rows:
        return
    ways = [way for way in dict.fromkeys(row["contestant"] for row in rows) if way != NOTHING]
    yield "### The distance route"
    yield (
        "Forward plus backward of 8 heads of 64 dimensions, divided by PyTorch's causal attention without an encoding: "
        "the route with a learned bias and with a fixed one, and PyTorch's attention with the learned bias as a T x T "
        "mask. Quartiles in brackets."
    )
    lines = []
    for precision, batch, length in dict.fromkeys((row["precision"], row["batch"], row["length"]) for row in rows):
        cells = {row["contestant"]: row for row in attention.of("distance", precision=precision, length=length)}
        lines.append([precision, f"{batch}", f"{length:,}", *(_quartiles(cells[way]["time"]) for way in ways)])
    yield markdown_table(["dtype", "batch", "T", *ways], lines)


def _lattice(attention: Figures) -> Iterator[str]:
    rows = attention.of("lattice")
    if not rows:
        return
    ways = [way for way in dict.fromkeys(row["contestant"] for row in rows) if way != NOTHING]
    yield "### Biases of offsets on a grid"
    yield (
        f"Forward plus backward of 6 heads of 32 dimensions on {rows[0]['batch']} square pictures in float32, the "
        "making of the bias included: on the lattice, as a T x T mask of PyTorch's attention, and made for each pair "
        "of patches. Time and peak memory are divided by those of PyTorch's attention without an encoding. Quartiles "
        "in brackets."
    )
    lines = []
    for encoding, length in dict.fromkeys((row["encoding"], row["length"]) for row in rows):
        cells = {row["contestant"]: row for row in attention.of("lattice", encoding=encoding, length=length)}
        nothing = cells[NOTHING]["peak_bytes"]
        memory = [cells[way]["peak_bytes"] / nothing if way in cells else None for way in ways]
        times = [_quartiles(cells.get(way, {}).get("time")) for way in ways]
        lines.append([encoding, f"{length:,}", *times, *map(_times, memory)])
    headings = [f"{figure}, {way}" for figure in ("time", "memory") for way in ways]
    yield markdown_table(["encoding", "patches", *headings], lines)


def _layers(measured: Measured) -> Iterator[str]:
    rows = measured.attention.of("layers")
    if not rows:
        return
    yield "### An attention layer under every encoding"
    yield (
        "Forward plus backward of one layer of width 512 with 8 heads on one sequence, including projections, tables, "
        "biases and masks. It is divided by our layer without an encoding, which is PyTorch's causal attention between "
        "the same projections.\n\n"
        "`SDPA with a mask` is PyTorch's attention with a fixed bias as a T x T mask. The other rows are peers: their "
        "layers, called as their own models call them. bfloat16 means autocast."
    )
    for precision in dict.fromkeys(row["precision"] for row in rows):
        for figure, title in (("time", "Time"), ("memory", "Peak memory")):
            yield f"#### {title}, {precision}"
            yield f"![{title} over T, {precision}]({_picture(measured, figure, precision).as_posix()})"
            lengths = sorted({row["length"] for row in rows})
            cells = {
                (row["encoding"], row["contestant"], row["length"]): row
                for row in rows
                if row["precision"] == precision
            }
            lines = [
                [
                    encoding,
                    contestant,
                    *(_times(cells.get((encoding, contestant, length), {}).get(figure)) for length in lengths),
                ]
                for encoding, contestant in dict.fromkeys(key[:2] for key in cells)
                if contestant != NOTHING
            ]
            yield markdown_table(["encoding", "layer", *(f"{length:,}" for length in lengths)], lines)


def _blockwise(attention: Figures) -> Iterator[str]:
    rows = attention.of("blockwise", contestant="blockwise")
    if not rows:
        return
    yield "### The blockwise route"
    yield (
        "Attention alone, with 8 heads of 64 dimensions on one sequence in float32, forward plus backward, including "
        "tables and state: the time of the route divided by that of the dense form at T = 2,048, and its peak memory "
        "at 8,192 divided by that at 4,096."
    )
    lines = []
    for encoding in dict.fromkeys(row["encoding"] for row in rows):
        own = {row["length"]: row for row in rows if row["encoding"] == encoding}
        half, whole = (own.get(length, {}).get("peak_bytes") for length in (4096, 8192))
        growth = whole / half if half and whole else None
        lines.append([encoding, _quartiles(own.get(2048, {}).get("over_dense")), _times(growth)])
    yield markdown_table(["encoding", "time over dense", "memory, twice the length"], lines)


def _training(train_step: Figures) -> Iterator[str]:
    if not train_step.rows:
        return
    yield "### A training step of a whole decoder"
    yield (
        "Width 256, 4 layers, 4 heads, 257 tokens; forward, cross-entropy, backward, clipping, fused AdamW.\n\n"
        "For x-transformers, the peer is its own decoder, with the same sizes, tied embeddings, RMSNorm, SwiGLU and "
        "fused attention wherever it allows it. For transformers, the peers are its attention layers in blocks like "
        "ours, because its whole models differ in much that is not part of the encoding."
    )
    if trainer := train_step.of("trainer"):
        yield "#### In a plain loop and in Lightning's"
        yield (
            "Rotary. Tokens per second divided by those of x-transformers, with quartiles. `python -m src.train` runs "
            "`Poslab, Trainer`."
        )
        lines = [[row["precision"], row["contestant"], _quartiles(row["speed"])] for row in trainer]
        yield markdown_table(["precision", "model", "speed over x-transformers"], lines)
    if llama := [row for row in train_step.of("llama") if "speed" in row]:
        yield "#### Beside transformers' Llama"
        yield (
            "Our decoder with rotary and `LlamaForCausalLM` with PyTorch's fused attention: the same sizes and number "
            "of parameters. Tokens per second divided by Llama's, with quartiles; both are compiled, or neither."
        )
        lines = [[row["precision"], row["contestant"], _quartiles(row["speed"])] for row in llama]
        yield markdown_table(["precision", "model", "speed over Llama"], lines)
    encodings = train_step.of("encodings")
    ours = [row for row in encodings if row["contestant"] == OURS and row["length"] == 512]
    if ours:
        yield "#### Every encoding over none"
        yield (
            f"8 rows of 512 tokens, divided by `none`: medians of {ours[0]['turns']} steps that alternate with steps "
            "under `none`. The table has a row for `none` too, whose distance from 1 is noise."
        )
        precisions = list(dict.fromkeys(row["precision"] for row in ours))
        lines = []
        for encoding in dict.fromkeys(row["encoding"] for row in ours):
            own = {row["precision"]: row for row in ours if row["encoding"] == encoding}
            route = ", ".join(next(iter(own.values()))["route"])
            cells = (_times(own.get(p, {}).get(figure)) for figure in ("time", "memory") for p in precisions)
            lines.append([encoding, route, *cells])
        yield markdown_table(
            ["encoding", "route", *(f"{f}, {p}" for f in ("time", "memory") for p in precisions)], lines
        )
    peers = [row for row in encodings if "speed" in row]
    if peers:
        yield "#### Beside peers"
        yield (
            "Our speed: a step of ours is this many times as fast as that of the peer with the same encoding. Their "
            "memory: their step needs this many times as much memory. On 8 rows of 512 tokens, and on 2 rows of 2,048 "
            "if the peer materialises a T x T tensor. Quartiles in brackets."
        )
        lines = []
        for row in peers:
            same = {key: row[key] for key in ("precision", "encoding", "length", "batch")}
            (own,) = train_step.of("encodings", **same, contestant=OURS)
            lines.append(
                [
                    row["precision"],
                    row["encoding"],
                    row["contestant"],
                    f"{row['length']:,}",
                    _quartiles(row["speed"]),
                    _times(row["peak_bytes"] / own["peak_bytes"]),
                    row["materialises"] or "nothing",
                ]
            )
        yield markdown_table(
            ["precision", "encoding", "peer", "T", "our speed", "their memory", "it materialises"], lines
        )
    if compiled := [row for row in train_step.of("compiled") if "share" in row]:
        yield "#### Compiled"
        yield (
            "bf16-mixed under torch.compile: tokens per second, divided by those that the machine's matrix products "
            "alone would allow. These products are those of the model's linear layers at its own shapes, forward and "
            "backward in bfloat16, and alternate with the step. The FLOPs of a token are theirs and those of causal "
            "attention."
        )
        yield markdown_table(["encoding", "share"], [[row["encoding"], _quartiles(row["share"])] for row in compiled])
        if profiled := [row for row in compiled if "profile" in row]:
            yield (
                "Where its time goes: the share of a step in matrix products, in PyTorch's attention kernel, in the "
                "loops that the compiler makes (norms, activations, rotations and casts), and in everything else. "
                "The first two alone bound the share above."
            )
            kinds = list(profiled[0]["profile"])
            lines = [[row["encoding"], *(f"{100 * row['profile'][kind]:.0f} %" for kind in kinds)] for row in profiled]
            yield markdown_table(["encoding", *kinds], lines)


def _memory(memory: Figures) -> Iterator[str]:
    rows = memory.of("evaluation")
    if not rows:
        return
    yield "### Long texts"
    yield (
        f"Logits and loss of the default decoder (`size=tiny`) on one text of {rows[0]['length']:,} tokens: the peak "
        "resident memory of a separate process, including Python and PyTorch, for every encoding on the routes flash "
        "and distance."
    )
    gib = [f"{row['peak_bytes'] / GIB:.2f} GiB" if "peak_bytes" in row else "-" for row in rows]
    yield markdown_table(["encoding", "peak"], [[row["encoding"], cell] for row, cell in zip(rows, gib, strict=True)])


def _data() -> Iterator[str]:
    measured = json.loads((FIGURES / "data_time.json").read_text(encoding="utf-8"))
    machine, datasets = measured["machine"], measured["datasets"]
    yield "## Time spent on data"
    yield (
        "The share of a training step that is spent on its batch, in each dataset's default run. The training process "
        f"itself makes the batches ({machine['processor']}, {machine['threads']} threads). *100,000 rows* is a CSV "
        f"file of texts with classes, prepared in {datasets['100,000 rows']['preparing_s']:.0f} s."
    )
    lines = []
    for name, found in datasets.items():
        making, step = found["making_ms"], found["making_ms"] + found["training_ms"]
        lines.append([name, f"{making:.1f}", f"{step:.0f}", f"{100 * found['share']:.1f} %"])
    yield markdown_table(["dataset", "batch, ms", "step, ms", "share"], lines)


def _times(figure: float | list[float] | None) -> str:
    median = figure[1] if isinstance(figure, list) else figure
    return "-" if median is None else f"x {median:.2f}"


def _quartiles(figure: list[float] | None) -> str:
    return "-" if figure is None else f"x {figure[1]:.2f} ({figure[0]:.2f} to {figure[2]:.2f})"


def _picture(measured: Measured, figure: str, precision: str) -> Path:
    return PICTURES / measured.name / f"{figure}_{precision}.png"


def draw(measured: Measured, folder: Path = DOCS) -> None:
    """Draw all pictures of a machine."""
    from pages import performance_figures, small_png  # only who draws needs matplotlib

    rows = measured.attention.of("layers")
    for precision in dict.fromkeys(row["precision"] for row in rows):
        own = [row for row in rows if row["precision"] == precision]
        for figure, label in (("time", "time over no encoding"), ("memory", "peak memory over no encoding")):
            picture = performance_figures.draw(own, figure, f"{label}, {precision}")
            small_png.save(picture, folder / _picture(measured, figure, precision), colours=256)


def make(draws: bool) -> None:
    """Write the page, and draw its pictures."""
    machines = every_machine()
    for measured in machines if draws else []:
        draw(measured)
    PAGE.write_text(page(machines), encoding="utf-8")
