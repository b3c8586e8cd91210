"""Time and memory of attention under every encoding: `python benchmarks/attention.py`.

Four parts, each forward and backward, of contestants that take turns in one process (a ratio is that of two turns side
by side) on a processor:

- `distance`: the distance route by itself over PyTorch's causal attention, 8 heads of 64.
- `lattice`: biases of offsets on a grid of patches, over PyTorch's attention, as a mask, and as pairs.
- `layers`: one attention layer of width 512 with 8 heads under each choice of conf/encoding, over the same layer
  without an encoding, beside the layers of peers and PyTorch's attention with a materialised mask; bfloat16 is that of
  autocast.
- `blockwise`: for what takes the blockwise route, its time over that of the dense one, and how its memory grows.

Peak memory is the most bytes that PyTorch held at once beyond what it held before: what is kept for the backward pass,
temporaries and gradients, but not weights and inputs. With `--output`, figures go to a JSON file as they are measured,
and those that it has already are kept: a measurement can be made in pieces. docs/performance.md is made of
benchmarks/figures.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import attention_layers
import blockwise
import distance_route
import lattice_route
import torch
from ours import EVERY_ENCODING
from results import Results, Row
from rich import box
from rich.console import Console
from rich.table import Table

PARTS = (distance_route.PART, lattice_route.PART, attention_layers.PART, blockwise.PART)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def main() -> None:
    """Measure, write the figures as they come, and print those of this run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="default: all")
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES), help="default: both")
    parser.add_argument("--encodings", nargs="+", choices=EVERY_ENCODING, default=EVERY_ENCODING, help="default: all")
    parser.add_argument("--lengths", nargs="+", type=int, default=attention_layers.LENGTHS, help="of layers")
    parser.add_argument("--repeats", type=int, default=7, help="turns that are measured (default: %(default)s)")
    parser.add_argument(
        "--seconds-per-cell",
        type=float,
        default=60.0,
        help="a layer of which one run takes longer is left out, and as many turns are measured as fit, at least 3 "
        "(default: %(default)s)",
    )
    parser.add_argument("--quick", action="store_true", help="two turns of very short texts: does it run?")
    parser.add_argument("--again", action="store_true", help="measures anew what the file has already")
    parser.add_argument("--output", type=Path, help="the JSON file that figures go to (default: none)")
    arguments = parser.parse_args()
    torch.set_flush_denormal(True)  # as `python -m src.train` does

    quick: bool = arguments.quick
    repeats = 2 if quick else arguments.repeats
    results = Results(arguments.output, arguments.again)
    dtypes = [DTYPES[name] for name in arguments.dtypes]
    if distance_route.PART in arguments.parts:
        distance_route.measure(results, dtypes, [(2, 64), (1, 128)] if quick else distance_route.SHAPES, repeats)
    if lattice_route.PART in arguments.parts:
        lattice_route.measure(results, (8, 12) if quick else lattice_route.SIDES, repeats)
    if attention_layers.PART in arguments.parts:
        lengths = [64, 128] if quick else sorted(arguments.lengths)
        limit = arguments.seconds_per_cell
        attention_layers.measure(results, dtypes, arguments.encodings, lengths, repeats, limit)
    if blockwise.PART in arguments.parts:
        shapes = (192, (256, 512)) if quick else (blockwise.TIME_AT, blockwise.MEMORY_AT)
        blockwise.measure(results, arguments.encodings, repeats, *shapes)
    for part in arguments.parts:
        for dtype in DTYPES:
            rows = [row for row in results.of(part) if row["precision"] == dtype]
            if rows:
                Console().print(table(f"{part}, {dtype}", rows))


def table(title: str, rows: list[Row]) -> Table:
    """Return the rows of a part."""
    shown = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    for column in ("encoding", "way"):
        shown.add_column(column, no_wrap=True)
    for column in ("T", "ms", "time", "memory"):
        shown.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        times = row.get("time") or row.get("over_dense")
        memory = f"{row['peak_bytes'] / 1e6:,.0f} MB" if "peak_bytes" in row else "-"
        shown.add_row(
            row.get("encoding", ""),
            row["contestant"],
            f"{row['length']:,}",
            f"{1e3 * row['seconds']:,.0f}" if "seconds" in row else "-",
            f"x {times[1]:.2f}" if times else "-",
            f"x {row['memory']:.2f}" if "memory" in row else memory,
        )
    return shown


if __name__ == "__main__":
    main()
