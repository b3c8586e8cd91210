"""A training step of whole decoders: `python benchmarks/train_step.py`.

All have the same sizes, tied embeddings, RMSNorm, SwiGLU and no biases (but for one that x-transformers always has in
its gate), and take the same steps: forward, cross-entropy, backward, clipping, fused AdamW. They take turns step by
step in one process, so that whatever else the machine does meets all; a ratio is that of two steps side by side. Parts:

- `trainer` (what runs by default): our decoder with rotary in a plain loop and as `python -m src.train` drives it (what
  it loses is the time of Lightning's loop), and that of x-transformers.
- `encodings`: every choice of conf/encoding over `none`, and beside the peers that have it; at 2,048 tokens again those
  of which a peer materialises something of T x T.
- `llama`: our decoder with rotary and transformers' whole Llama, as they are and under torch.compile.
- `compiled`: bf16-mixed under torch.compile, over what the machine's matrix products alone would take.

With `--output`, figures go to a JSON file as they are measured, and those that it has already are kept: a measurement
can be made in pieces. docs/performance.md is made of benchmarks/figures.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import compiled_steps
import encoding_steps
import llama_steps
import torch
import trainer_steps
from ours import EVERY_ENCODING
from peers import X_TRANSFORMERS, peers_of
from plain_loop import PRECISIONS
from results import Results, Row
from rich import box
from rich.console import Console
from rich.table import Table
from size import Size

PARTS = (trainer_steps.PART, encoding_steps.PART, llama_steps.PART, compiled_steps.PART)
QUICK = Size(d_model=64, num_layers=2, num_heads=2, sequence_length=32, batch_size=2)
LONG = Size(sequence_length=2048, batch_size=2)
COMPILED = ["none", "rotary"]


def main() -> None:
    """Measure, write the figures as they come, and print those of this run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=[trainer_steps.PART], help="default: trainer")
    parser.add_argument("--steps", type=int, default=20, help="steps of each that are measured (default: %(default)s)")
    parser.add_argument("--precision", choices=PRECISIONS, nargs="+", default=list(PRECISIONS), help="default: both")
    parser.add_argument(
        "--encodings", nargs="+", choices=EVERY_ENCODING, help="default: all; compiled: none and rotary"
    )
    parser.add_argument("--quick", action="store_true", help="two steps of a very small model: does it run?")
    parser.add_argument("--again", action="store_true", help="measures anew what the file has already")
    parser.add_argument("--output", type=Path, help="the JSON file that figures go to (default: none)")
    arguments = parser.parse_args()
    torch.set_flush_denormal(True)  # as `python -m src.train` does
    size, long = (QUICK, QUICK) if arguments.quick else (Size(), LONG)
    steps = 2 if arguments.quick else max(2, arguments.steps)
    results = Results(arguments.output, arguments.again)
    if trainer_steps.PART in arguments.parts:
        trainer_steps.measure(results, arguments.precision, size, steps)
        Console().print(beside(X_TRANSFORMERS, results.of(trainer_steps.PART), size, steps))
    if encoding_steps.PART in arguments.parts:
        names = arguments.encodings or EVERY_ENCODING
        encoding_steps.measure(results, arguments.precision, names, size, steps)
        materialised = [name for name in names if any(peer.materialises for peer in peers_of(name))]
        encoding_steps.measure(results, arguments.precision, materialised, long, steps)
        for precision in arguments.precision:
            rows = [row for row in results.of(encoding_steps.PART) if row["precision"] == precision]
            Console().print(over_none(precision, rows, steps))
    if llama_steps.PART in arguments.parts:
        llama_steps.measure(results, arguments.precision, size, steps)
        Console().print(beside(llama_steps.THEIRS, results.of(llama_steps.PART), size, steps))
    if compiled_steps.PART in arguments.parts:
        compiled_steps.measure(results, arguments.encodings or COMPILED, size, steps)
        Console().print(over_products(results.of(compiled_steps.PART), size))


def beside(peer: str, rows: list[Row], size: Size, steps: int) -> Table:
    """Return the table of the parts `trainer` and `llama`, whose rows with a `speed` are over those of a peer."""
    hardware = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    table = Table(
        box=box.SIMPLE_HEAD,
        title=f"{size}; torch {torch.__version__}, {hardware}",
        title_justify="left",
        caption=f"medians of {steps} steps; of a ratio also the quartiles",
        caption_justify="left",
    )
    for name in ("precision", "model"):
        table.add_column(name, no_wrap=True)
    for name in ("parameters", "tokens/s", "over theirs"):
        table.add_column(name, no_wrap=True, justify="right")
    for row in rows:
        speed = ""
        if "speed" in row and row["contestant"] != peer:
            lower, median, upper = row["speed"]
            speed = f"{median:.2f} ({lower:.2f} to {upper:.2f})"
        tokens = f"{size.tokens / row['seconds']:,.0f}"
        table.add_row(row["precision"], row["contestant"], f"{row['parameters']:,}", tokens, speed)
    return table


def over_none(precision: str, rows: list[Row], steps: int) -> Table:
    """Return the table of the part `encodings`."""
    table = Table(
        box=box.SIMPLE_HEAD,
        title=precision,
        title_justify="left",
        caption=f"medians of {steps} steps; time and memory are over no encoding, `faster` is how many times ours is",
        caption_justify="left",
    )
    for name in ("encoding", "model"):
        table.add_column(name, no_wrap=True)
    for name in ("T", "ms", "time", "memory", "faster"):
        table.add_column(name, no_wrap=True, justify="right")
    for row in rows:
        faster = f"{row['speed'][1]:.2f}" if "speed" in row else ""
        milliseconds = f"{1e3 * row['seconds']:,.0f}"
        figures = (f"{row['length']:,}", milliseconds, f"x {row['time'][1]:.2f}", f"x {row['memory']:.2f}", faster)
        table.add_row(row["encoding"], row["contestant"], *figures)
    return table


def over_products(rows: list[Row], size: Size) -> Table:
    """Return the table of the part `compiled`."""
    table = Table(box=box.SIMPLE_HEAD, title=f"{size}; {compiled_steps.PRECISION}", title_justify="left")
    for name in ("encoding", "what"):
        table.add_column(name, no_wrap=True)
    for name in ("GFLOP/s", "tokens/s", "over products"):
        table.add_column(name, no_wrap=True, justify="right")
    for row in rows:
        tokens = f"{row['tokens_per_second']:,}" if "tokens_per_second" in row else ""
        share = f"{row['share'][1]:.2f}" if "share" in row else ""
        flops = f"{row['flops_per_second'] / 1e9:,.0f}"
        table.add_row(row["encoding"], row["contestant"], flops, tokens, share)
    return table


if __name__ == "__main__":
    main()
