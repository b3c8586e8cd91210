"""Measure on a CPU what docs/performance.md shows: `python benchmarks/run.py`.

Figures go to benchmarks/figures/MACHINE.json, or to `--output`, as they are measured, and those that the file has
already are kept: a measurement can be interrupted, and made in pieces. `python docs/make.py performance` makes the page
of them. Parts:

- `attention`: PyTorch's causal attention over the compiled kernel (`trainer.kernel`).
- `distance`, `lattice`: attention under biases of distance, and of offsets on a grid.
- `layers`: one attention layer under an encoding, over the same layer without, beside the layers of peers.
- `blockwise`: for what takes the blockwise route, its time over that of the dense one, and how its memory grows.
- `decoders`: a training step beside those of transformers' whole Llama and of x-transformers.
- `encodings`: a training step under every encoding over `none`, and beside the peers that have it.
- `compiled`: the same under torch.compile, over what the machine's matrix products alone would take.
- `memory`: of long texts. `data`: the share of a step that is spent on its batch.

Contestants take turns in one process, so that whatever else the machine does slows all of them; a ratio is that of two
turns side by side. Peak memory is the most bytes that PyTorch held at once beyond what it held before.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from dataclasses import replace
from pathlib import Path

import ours
import torch
from attention import biases, blockwise, kernel_alone, offsets
from compiled import compiled
from data import data
from layers import layers
from memory import memory
from plan import CPU, TINY, Plan
from results import Results, Row, file_of
from steps import decoders, encodings

from poslab.runs.processes import set_up_cpu

PARTS = {
    "attention": kernel_alone,
    "distance": biases,
    "decoders": decoders,
    "compiled": compiled,
    "encodings": encodings,
    "layers": layers,
    "lattice": offsets,
    "blockwise": blockwise,
    "memory": memory,
    "data": data,
}


def main(plan: Plan = CPU, parts: tuple[str, ...] = tuple(PARTS), description: str | None = __doc__) -> int:
    """Measure, and write and print the figures as they come; return 1 if something failed."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts, help="default: all")
    parser.add_argument(
        "--encodings", nargs="+", choices=plan.encodings, default=plan.encodings, metavar="NAME", help="default: all"
    )
    parser.add_argument(
        "--device", choices=sorted({"cpu", plan.device}), default=plan.device, help="default: %(default)s"
    )
    parser.add_argument("--minutes", type=float, default=float("inf"), help="after which nothing is begun")
    parser.add_argument("--turns", type=int, help=f"of each contestant (default: {plan.turns})")
    parser.add_argument("--tiny", action="store_true", help="very small sizes: does it run? Kept only in --output")
    parser.add_argument("--again", action="store_true", help="measures anew what the file has already")
    parser.add_argument("--output", type=Path, help="the JSON file (default: that of this machine)")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no GPU here: choose --device cpu")
    plan = replace(TINY if arguments.tiny else plan, device=arguments.device, encodings=tuple(arguments.encodings))
    plan = replace(plan, turns=arguments.turns or plan.turns)
    output = arguments.output or (None if arguments.tiny else file_of(plan.device))
    try:
        results = Results(output, plan.device, arguments.again)
        if plan.device == "cpu":
            ours.use_kernel()
    except ValueError as error:  # the file is of another machine, or there is no compiler
        parser.error(str(error))
    set_up_cpu()  # as `python -m src.train` does
    logging.getLogger("torch").setLevel(logging.ERROR)
    ends = time.monotonic() + 60 * arguments.minutes
    failed = False
    for part in arguments.parts:
        for cell, rows_of in PARTS[part](plan, results):
            if not results.missing(cell) or time.monotonic() > ends:
                continue
            if plan.device == "cpu":
                ours.use_kernel()  # which another cell may have left
            began = time.monotonic()
            try:
                rows = rows_of()
            except Exception as error:  # the other figures are worth having
                failed = True
                print(f"{_words(cell)}: failed: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
                continue
            results.add(cell, rows)
            print(f"{_words(cell)} ({time.monotonic() - began:.0f} s): {', '.join(map(_shown, rows))}", flush=True)
    return int(failed)


def _words(cell: Row) -> str:
    return " ".join(str(value) for value in cell.values())


def _shown(row: Row) -> str:
    """Return a contestant with its seconds, or else its memory, or why it is left out."""
    name = row.get("contestant", "")
    if "left_out" in row:
        return f"{name} left out ({row['left_out']})"
    if "seconds" in row:
        return f"{name} {1000 * row['seconds']:.1f} ms"
    return f"{name} {row['peak_bytes'] / 2**20:.0f} MiB" if "peak_bytes" in row else f"{100 * row['share']:.1f}%"


if __name__ == "__main__":
    sys.exit(main())
