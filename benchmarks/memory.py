"""The memory of long texts: `python benchmarks/memory.py`. Every measurement is the peak of a process of its own.

- `evaluation`: logits and loss of the default decoder (conf/train.yaml, untrained) on one text of 32,768 tokens, for
  every encoding of which no layer takes the blockwise route: the resident memory of the whole process, Python and
  PyTorch included. An encoding that ends earlier is made as long as the text.
- `training`: the distance route by itself, forward and backward under a bias that learns, 8 heads of 64, on as many
  tokens: resident memory above inputs, outputs' gradient, and the gradients of queries, keys and values.

With `--output`, figures go to a JSON file as they are measured, and those that it has already are kept.
docs/performance.md is made of benchmarks/figures.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import ours
import torch
from ours import EVERY_ENCODING, configuration
from peak import resident_bytes, resident_peak_bytes
from results import Results, Row
from rich import box
from rich.console import Console
from rich.table import Table
from torch.nn import functional

from poslab.attention import Visibility
from poslab.attention.distance import attend_by_distance
from poslab.runs.recipe import Recipe

EVALUATION, TRAINING = "evaluation", "training"
DTYPES = ("float32", "bfloat16")
HEADS, HEAD_DIM, VOCAB_SIZE = 8, 64, 257
LENGTH, WARM_UP = 32_768, 256


def main() -> None:
    """Measure in processes of their own, write the figures as they come, and print those of this run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=(EVALUATION, TRAINING), default=(EVALUATION, TRAINING))
    parser.add_argument("--encodings", nargs="+", choices=EVERY_ENCODING, default=EVERY_ENCODING, help="default: all")
    parser.add_argument("--length", type=int, default=LENGTH, help="tokens of the text (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="256 tokens: does it run?")
    parser.add_argument("--again", action="store_true", help="measures anew what the file has already")
    parser.add_argument("--output", type=Path, help="the JSON file that figures go to (default: none)")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # the encoding or dtype that this process measures
    arguments = parser.parse_args()
    length = 256 if arguments.quick else arguments.length
    if arguments.one is not None:
        (part,) = arguments.parts
        print(json.dumps({EVALUATION: evaluation, TRAINING: training}[part](arguments.one, length)))
        return
    results = Results(arguments.output, arguments.again)
    served = [name for name in arguments.encodings if "blockwise" not in ours.routes(name)]
    rows: list[Row] = [{"part": EVALUATION, "precision": "float32", "encoding": name} for name in served]
    rows += [{"part": TRAINING, "precision": dtype} for dtype in DTYPES]
    for row in rows:
        row |= {"length": length, "batch": 1}
        if row["part"] in arguments.parts and results.missing(row):
            results.add({**row, **_in_a_process(row["part"], row.get("encoding") or row["precision"], length)})
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("part", "encoding or dtype"):
        table.add_column(column)
    for column in ("T", "GiB"):
        table.add_column(column, justify="right")
    for row in results.rows:
        peak = f"{row['peak_bytes'] / 2**30:.2f}" if "peak_bytes" in row else "-"
        table.add_row(row["part"], row.get("encoding") or row["precision"], f"{row['length']:,}", peak)
    Console().print(table)


def evaluation(encoding: str, length: int) -> Row:
    """Return the peak of this process after an evaluation."""
    choices = [f"encoding={encoding}"]
    model = Recipe.of(configuration(choices)).model.build(VOCAB_SIZE)
    if model.max_length is not None and model.max_length < length:
        model = Recipe.of(configuration([*choices, f"encoding.max_length={length}"])).model.build(VOCAB_SIZE)
    tokens_BT = torch.randint(VOCAB_SIZE, (1, length + 1))
    with torch.inference_mode():
        logits_BTV = model.eval()(tokens_BT[:, :-1])
        functional.cross_entropy(logits_BTV.flatten(0, 1), tokens_BT[:, 1:].flatten())
    return {"peak_bytes": resident_peak_bytes()}


def training(dtype: str, length: int) -> Row:
    """Return the peak above what must be there: a step forward and backward of the distance route."""
    if length > WARM_UP:
        training(dtype, WARM_UP)  # what libraries allocate when they are first called is not the route's
    q, k, v, gradient = (torch.randn(1, HEADS, length, HEAD_DIM, dtype=getattr(torch, dtype)) for _ in range(4))
    bias = torch.randn(HEADS, 2 * length - 1).requires_grad_()
    leaves = [x.requires_grad_() for x in (q, k, v)]
    before = resident_bytes()
    attend_by_distance(q, k, v, bias, Visibility(), HEAD_DIM**-0.5).backward(gradient)
    gradients = sum(x.numel() * x.element_size() for x in leaves)
    return {"peak_bytes": resident_peak_bytes() - before - gradients}


def _in_a_process(part: str, one: str, length: int) -> Row:
    command = [sys.executable, __file__, "--parts", part, "--one", one, "--length", str(length)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode < 0:  # killed, which on Linux is how a process without memory ends
        return {"left_out": f"ended by signal {-done.returncode}"}
    if done.returncode:
        raise RuntimeError(f"{part} of {one} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
