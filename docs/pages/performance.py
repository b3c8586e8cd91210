"""Makes docs/performance.md and its plots: `python docs/make.py performance`.

The page is made of what `benchmarks/run.py` and `gpu.py` wrote into benchmarks/figures, a file for each machine: each
bound with whether it is met, tables, and plots.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pages.performance_bounds import GIB, NOTHING, OURS, Measured, Row, bounds, every_machine
from poslab.report.text import markdown_table

DOCS = Path(__file__).resolve().parents[1]
PAGE = DOCS / "performance.md"
PLOTS = Path("figures") / "performance"

INTRODUCTION = """\
# Performance

[How to repeat the measurements](#how-to-repeat-it) is at the end.

<!-- `python docs/make.py` makes this page from the measurements in `benchmarks/`. Do not edit it by hand. -->

**All numbers are ratios.** Seconds and bytes depend on the machine, ratios much less so.

**Time.** All contestants of a comparison alternate in one process, in changing order, so that any other load of the
machine affects all of them. A ratio compares two measurements of the same round. The tables show the median over all
rounds, some with the quartiles in brackets. Some bounds were set together with the operators below; lengths without
one are in the tables.

**Kernel.** On a CPU, Poslab computes by the operators that a long run compiles (`trainer.kernel=auto`), where a table
does not say otherwise. The settings below are the defaults of a run, and apply to all contestants.

**Peak memory** is the most bytes that PyTorch allocated at once beyond what it had before: tensors for the backward
pass, temporaries and gradients, but not weights. Buffers of libraries and of Poslab's operators are not counted: up
to about 8 MB a thread at T = 4,096.

**A dash** means that a case does not fit into memory or takes too long; the JSON file tells which.

**Denormals.** Training and evaluation flush denormals, numbers below 1e-38, to zero (`torch.set_flush_denormal`). Intel
processors are many times slower on them, and attention weights under ALiBi have many of them. In float32 at T = 2,048,
the default model under ALiBi trained 2.5 times as fast with it on a Xeon, with PyTorch's attention. In your own
programs call it first.

**Freed memory.** A run on Linux keeps memory that it has freed (glibc's `mallopt`), since the system clears each page
that a process takes again: on the EPYC below a step of a model of width 64 on 8 x 128 tokens took 0.73 of its time so,
one of the default model 0.87.

**Other programs.** Threads wait for one another in every operation. On two cores with three other busy programs, a step
of a model of width 64 on 8 x 128 tokens took up to 100 times as long as on an idle machine with two threads, and twice
as long with one. With `callbacks=free_cores` a run has, from two seconds on, as many threads as other programs leave
cores: 1,500 such steps took 2.9 times as long as on an idle machine. It is not the default, for sums over threads
depend on their number, so that a run would not be the same bit for bit under another load.

**Products of float32.** A run on a CPU lets oneDNN multiply them (`torch.set_float32_matmul_precision("medium")`) where
it does so in float32: on AMD processors, for example, but not where it would round to bfloat16 in tiles (AMX). On the
EPYC below PyTorch's choice, MKL, reached 220 GFLOP/s, and oneDNN 440 to 500 with an error below 1e-6 to float64.
All contestants have it."""

REPEAT = """\
## How to repeat it

On a machine that does nothing else, in a checkout:

```bash
python -m pip install -e ".[bench]"
python benchmarks/run.py           # on a CPU
python benchmarks/gpu.py           # on a GPU
python docs/make.py performance
```

The measurements go to a file for each machine in `benchmarks/figures`, one by one. A command continues after an
interruption: what the file has already is not measured again, except with `--again`. `--parts`, `--encodings` and
`--minutes` measure only some of it, and `--tiny` shows in some minutes that it runs.

No GPU has run `gpu.py` yet. It measures whole decoders (85M parameters), every encoding, attention layers and compiled
steps."""


def page(machines: Sequence[Measured]) -> str:
    """Return the page."""
    blocks = [INTRODUCTION]
    for measured in machines:
        blocks += [f"## {measured.name}", _hardware(measured.machine), *_bounds(measured)]
        for section in SECTIONS:
            blocks += section(measured)
    return "\n\n".join([*blocks, REPEAT]) + "\n"


def _hardware(machine: Row) -> str:
    instructions = f" ({', '.join(machine['instructions'])})" if machine["instructions"] else ""
    hardware = [machine["gpu"], machine["processor"] + instructions, f"{machine['threads']} threads"]
    versions = [f"{name} {machine[name]}" for name in ("torch", "transformers", "x-transformers")]
    return (
        f"Measured on {', '.join(filter(None, hardware))}, {machine['memory_gib']} GiB; Python {machine['python']}, "
        f"{', '.join(versions)}."
    )


def _bounds(measured: Measured) -> Iterator[str]:
    """Yield the bounds; of a GPU, for which some have no measurements, those that have."""
    shown = [bound for bound in bounds(measured) if bound.figures or not measured.machine["gpu"]]
    if shown:
        yield "### Bounds"
        yield "\n".join(map(str, shown))


def _attention(measured: Measured) -> Iterator[str]:
    rows = measured.of("attention", contestant="SDPA")
    if not rows:
        return
    yield "### Attention only"
    yield (
        "Causal attention without an encoding, forward plus backward: the time of PyTorch's "
        "`scaled_dot_product_attention`, divided by the time of the compiled kernel."
    )
    shapes = dict.fromkeys((row["batch"], row["heads"], row["length"], row["head_dim"]) for row in rows)
    precisions = list(dict.fromkeys(row["precision"] for row in rows))
    lines = []
    for shape in shapes:
        values = dict(zip(("batch", "heads", "length", "head_dim"), shape, strict=True))
        cells = {row["precision"]: row["speed"] for row in measured.of("attention", contestant="SDPA", **values)}
        lines.append([*(f"{number:,}" for number in shape), *(_quartiles(cells.get(p)) for p in precisions)])
    yield markdown_table(["batch", "heads", "T", "head dim", *precisions], lines)


def _distance(measured: Measured) -> Iterator[str]:
    rows = measured.of("distance")
    if not rows:
        return
    ways = [way for way in dict.fromkeys(row["contestant"] for row in rows) if way != NOTHING]
    yield "### Biases of distance"
    yield (
        f"Forward plus backward of {rows[0]['heads']} heads of {rows[0]['head_dim']} dimensions, divided by PyTorch's "
        "causal attention without an encoding: the distance route with a learned bias and with a fixed one, and "
        "PyTorch's attention with the learned bias as a T x T mask."
    )
    lines = []
    for precision, batch, length in dict.fromkeys((row["precision"], row["batch"], row["length"]) for row in rows):
        cells = {row["contestant"]: row for row in measured.of("distance", precision=precision, length=length)}
        lines.append(
            [precision, f"{batch}", f"{length:,}", *(_figure(cells.get(way), "time", _quartiles) for way in ways)]
        )
    yield markdown_table(["dtype", "batch", "T", *ways], lines)


def _lattice(measured: Measured) -> Iterator[str]:
    rows = measured.of("lattice")
    if not rows:
        return
    ways = [way for way in dict.fromkeys(row["contestant"] for row in rows) if way != NOTHING]
    yield "### Biases of offsets on a grid"
    yield (
        f"Forward plus backward of 6 heads of 32 dimensions on {rows[0]['batch']} square images in float32, the "
        "making of the bias included: on the lattice, as a T x T mask of PyTorch's attention, and made for each pair "
        "of patches. Time and peak memory are relative to PyTorch's attention without an encoding."
    )
    lines = []
    for encoding, length in dict.fromkeys((row["encoding"], row["length"]) for row in rows):
        cells = {row["contestant"]: row for row in measured.of("lattice", encoding=encoding, length=length)}
        nothing = cells[NOTHING]["peak_bytes"]
        memory = (_times(cells[way]["peak_bytes"] / nothing if way in cells else None) for way in ways)
        lines.append([encoding, f"{length:,}", *(_figure(cells.get(way), "time") for way in ways), *memory])
    headings = [f"{figure}, {way}" for figure in ("time", "memory") for way in ways]
    yield markdown_table(["encoding", "patches", *headings], lines)


def _layers(measured: Measured) -> Iterator[str]:
    rows = [row for row in measured.rows if row["part"] == "layers"]
    if not rows:
        return
    yield "### An attention layer"
    yield (
        "Forward plus backward of one layer on one sequence (width 512 and 8 heads on a CPU, 1,024 and 16 on a GPU), "
        "including projections, tables, biases and masks, divided by our layer without an encoding. Shown are examples "
        "of the fused routes and every encoding on the blockwise route.\n\n"
        "`SDPA with a mask` is PyTorch's attention with a fixed bias as a T x T mask. The other rows are peers: their "
        "layers, called as their own models call them. bfloat16 means autocast."
    )
    for precision in dict.fromkeys(row["precision"] for row in rows):
        cells = {
            (row["encoding"], row["contestant"], row["length"]): row for row in rows if row["precision"] == precision
        }
        lengths = sorted({length for _, _, length in cells})
        layers = sorted(dict.fromkeys(key[:2] for key in cells if key[1] != NOTHING), key=lambda layer: layer[0])
        for figure, title in (("time", "Time"), ("memory", "Peak memory")):
            yield f"#### {title}, {precision}"
            yield f"![{title} over T, {precision}]({_plot(measured, figure, precision).as_posix()})"
            lines = [
                [*layer, *(_figure(cells.get((*layer, length)), figure) for length in lengths)] for layer in layers
            ]
            yield markdown_table(["encoding", "layer", *(f"{length:,}" for length in lengths)], lines)


def _blockwise(measured: Measured) -> Iterator[str]:
    rows = measured.of("blockwise", contestant="blockwise")
    if not rows:
        return
    yield "### The blockwise route"
    yield (
        "Only attention, with 8 heads of 64 dimensions on one sequence in float32, forward plus backward, including "
        "tables and state: the time of the route over the time of the dense form at T = 2,048, and its peak "
        "memory at 8,192 over its peak memory at 4,096."
    )
    lines = []
    for encoding in dict.fromkeys(row["encoding"] for row in rows):
        cells = {row["length"]: row for row in rows if row["encoding"] == encoding}
        half, whole = (cells.get(length, {}).get("peak_bytes") for length in (4096, 8192))
        growth = whole / half if half and whole else None
        lines.append([encoding, _figure(cells.get(2048), "over_dense", _quartiles), _times(growth)])
    yield markdown_table(["encoding", "time over dense", "memory, twice the length"], lines)


def _decoders(measured: Measured) -> Iterator[str]:
    rows = measured.of("decoders")
    if not rows:
        return
    yield "### A training step next to other decoders"
    yield (
        "Poslab's decoder with rotary, `LlamaForCausalLM` of transformers with PyTorch's fused attention and with its "
        "eager one, and the decoder of x-transformers with `attn_flash`: the same sizes (on a CPU four layers of width "
        "256, 4 heads, a vocabulary of 257), tied embeddings, RMSNorm and SwiGLU, with "
        f"{rows[0]['length'] * rows[0]['batch']:,} tokens in a batch. A step is forward, cross-entropy, backward, "
        "clipping and fused AdamW. Poslab's step is so many times as fast as the contestant's. Without its own "
        "operators (`trainer.kernel=torch`) Poslab is slower than Llama: compare the last column with the first."
    )
    contestants = [name for name in dict.fromkeys(row["contestant"] for row in rows) if name != OURS]
    lines = []
    for precision, length in dict.fromkeys((row["precision"], row["length"]) for row in rows):
        cells = {row["contestant"]: row for row in measured.of("decoders", precision=precision, length=length)}
        speeds = (_figure(cells.get(name), "speed", _quartiles) for name in contestants)
        lines.append([precision, f"{length:,}", *speeds])
    yield markdown_table(["precision", "T", *(name.replace("Poslab, ", "") for name in contestants)], lines)


def _compiled(measured: Measured) -> Iterator[str]:
    rows = measured.of("compiled", contestant=OURS)
    if not rows:
        return
    yield "### A compiled step"
    yield (
        f"The same under torch.compile, at T = {rows[0]['length']:,}, next to Llama compiled whole, for which "
        "transformers makes a mask under torch 2.13, and layer by layer, which stays causal without one. Products: the "
        "time of only the model's matrix products, in the linear layers at their shapes, forward and backward, over "
        "the time of the step. Share: the same with the FLOPs of causal attention at the speed of the products. Where "
        "the time of a step goes: matrix products, attention, the loops that the compiler makes (norms, activations, "
        "rotations and casts), and everything else."
    )
    kinds = list(rows[0].get("profile", {}))
    llamas = ["Llama", "Llama, layers compiled"]
    lines = []
    for row in rows:
        speeds = []
        for name in llamas:
            (llama,) = measured.of("compiled", precision=row["precision"], contestant=name) or [None]
            speeds.append(_figure(llama, "speed", _quartiles))
        profile = (f"{100 * row['profile'][kind]:.0f}%" for kind in kinds)
        products = f"{1 / row['over_products'][1]:.2f}"
        lines.append([row["precision"], *speeds, products, _figure(row, "share", _quartiles), *profile])
    yield markdown_table(["precision", *llamas, "products", "share", *kinds], lines)


def _encodings(measured: Measured) -> Iterator[str]:
    rows, evaluations = measured.of("encodings", contestant=OURS), measured.of("evaluation")
    peaks = {row["encoding"]: f"{row['peak_bytes'] / GIB:.2f}" for row in evaluations}
    if not rows and not peaks:
        return
    yield "### A training step under every encoding"
    length = min((row["length"] for row in rows), default=0)
    steps = [row for row in rows if row["length"] == length]
    if steps:
        yield (
            f"{steps[0]['batch']} rows of {length:,} tokens, divided by `none`, with which each encoding alternates. "
            "The table has a row for `none` too, whose distance from 1 is noise."
        )
    if peaks:
        yield (
            f"Evaluation: logits and loss of the default decoder on one text of {evaluations[0]['length']:,} tokens, "
            "on the routes flash and distance; the peak resident memory of a separate process, Python and PyTorch "
            "included."
        )
    precisions = list(dict.fromkeys(row["precision"] for row in steps))
    cells = {(row["encoding"], row["precision"]): row for row in steps}
    lines = []
    for encoding in sorted({row["encoding"] for row in steps} | set(peaks)):
        routes = next((cells[encoding, p]["route"] for p in precisions if (encoding, p) in cells), [])
        figures = (_figure(cells.get((encoding, p)), figure) for figure in ("time", "memory") for p in precisions)
        lines.append([encoding, ", ".join(routes) or "-", *figures, *([peaks.get(encoding, "-")] if peaks else [])])
    headings = [f"{figure}, {p}" for figure in ("time", "memory") for p in precisions]
    yield markdown_table(["encoding", "route", *headings, *(["evaluation, GiB"] if peaks else [])], lines)


def _peers(measured: Measured) -> Iterator[str]:
    rows = measured.of("encodings")
    peers = [row for row in rows if row["contestant"] not in (OURS, NOTHING)]
    if not peers:
        return
    yield "#### Next to peers"
    yield (
        "Speed: Poslab's step is this many times as fast as the peer's with the same encoding. Peer's "
        "memory: its step needs this many times as much memory. Again on longer texts if the peer materialises a "
        "T x T tensor. From x-transformers comes a whole decoder. From transformers come attention layers in blocks "
        "like Poslab's, because its whole models differ in much that is not part of the encoding."
    )
    ours = {_shape(row): row for row in rows if row["contestant"] == OURS}
    lines = []
    for row in peers:
        step = ours.get(_shape(row), {})
        lines.append(
            [
                row["precision"],
                row["encoding"],
                row["contestant"],
                f"{row['length']:,}",
                _figure(row, "speed", _quartiles),
                _times(row["peak_bytes"] / step["peak_bytes"] if step else None),
                row["materialises"] or "nothing",
            ]
        )
    headings = ["precision", "encoding", "peer", "T", "our speed", "their memory", "it materialises"]
    yield markdown_table(headings, lines)


def _data(measured: Measured) -> Iterator[str]:
    rows = measured.of("data")
    if not rows:
        return
    preparing = next((row["preparing_s"] for row in rows if row["dataset"] == "100,000 rows"), None)
    file = (
        ""
        if preparing is None
        else (f" *100,000 rows* is a CSV file of texts with classes, prepared in {preparing:.0f} s.")
    )
    yield "### Time spent on data"
    yield (
        "The share of a training step that is spent on its batch, in each dataset's default run, with PyTorch's "
        f"attention. The training process itself makes the batches.{file}"
    )
    lines = []
    for row in rows:
        milliseconds = row["making_ms"] + row["training_ms"]
        lines.append([row["dataset"], f"{row['making_ms']:.1f}", f"{milliseconds:.0f}", f"{100 * row['share']:.1f}%"])
    yield markdown_table(["dataset", "batch, ms", "step, ms", "share"], lines)


SECTIONS: tuple[Callable[[Measured], Iterable[str]], ...] = (
    *(_attention, _distance, _lattice, _layers, _blockwise),
    *(_decoders, _compiled, _encodings, _peers, _data),
)


def _shape(row: Row) -> tuple[Any, ...]:
    return tuple(row[key] for key in ("precision", "encoding", "length"))


def _figure(row: Row | None, figure: str, shown: Callable[[Any], str] | None = None) -> str:
    """Return a number of a row as a table shows it."""
    return (shown or _times)((row or {}).get(figure))


def _times(figure: float | list[float] | None) -> str:
    median = figure[1] if isinstance(figure, list) else figure
    return "-" if median is None else f"x {median:.2f}"


def _quartiles(figure: list[float] | None) -> str:
    return "-" if figure is None else f"x {figure[1]:.2f} ({figure[0]:.2f} to {figure[2]:.2f})"


def _plot(measured: Measured, figure: str, precision: str) -> Path:
    return PLOTS / measured.name / f"{figure}_{precision}.png"


def draw(measured: Measured, folder: Path = DOCS) -> None:
    """Draw all plots of a machine."""
    from pages import performance_figures, small_png  # only who draws needs matplotlib

    rows = measured.of("layers")
    for precision in dict.fromkeys(row["precision"] for row in rows):
        drawn = [row for row in rows if row["precision"] == precision]
        for figure, label in (("time", "time over no encoding"), ("memory", "peak memory over no encoding")):
            plot = performance_figures.draw(drawn, figure, f"{label}, {precision}")
            small_png.save(plot, folder / _plot(measured, figure, precision), colours=256)


def make(draws: bool) -> None:
    """Write the page, and draw its plots."""
    machines = every_machine()
    for measured in machines if draws else []:
        draw(measured)
    PAGE.write_text(page(machines), encoding="utf-8")
