"""The memory of long texts on a CPU. Every measurement is the peak of a separate process.

- `evaluation`: logits and loss of the default decoder (conf/train.yaml, untrained) on one text, for every encoding of
  which no layer takes the blockwise route: the resident memory of the process, Python and PyTorch included. An
  encoding that ends earlier is made as long as the text.
- `training`: the distance route by itself, forward and backward under a bias that learns, 8 heads of 64: resident
  memory above inputs, outputs' gradient, and the gradients of queries, keys and values.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import ours
import torch
from attention import DTYPES
from ours import configuration
from plan import Plan
from results import Measurement, Results, Row
from torch.nn import functional

from poslab.attention import Visibility
from poslab.attention.distance import attend_by_distance
from poslab.runs.processes import set_up_cpu
from poslab.runs.recipe import Recipe

HEADS, HEAD_DIM, VOCAB_SIZE = 8, 64, 257
WARM_UP = 256


def memory(plan: Plan, results: Results) -> Iterator[Measurement]:
    """Yield the evaluation under each encoding, and the training of the distance route in each precision."""
    shape = {"length": plan.text_length, "batch": 1}
    for dtype in DTYPES:
        cell: Row = {"part": "training", "precision": dtype, **shape}
        yield cell, partial(_in_a_process, "training", dtype, plan.text_length)
    for encoding in plan.encodings:
        if "blockwise" not in ours.routes(encoding, plan.size):
            cell = {"part": "evaluation", "precision": "float32", "encoding": encoding, **shape}
            yield cell, partial(_in_a_process, "evaluation", encoding, plan.text_length)


def evaluation(encoding: str, length: int) -> int:
    """Return the peak of this process after an evaluation."""
    choices = [f"encoding={encoding}"]
    model = Recipe.of(configuration(choices)).model.build(VOCAB_SIZE, digits=ours.DIGITS)
    if model.max_length is not None and model.max_length < length:
        choices.append(f"encoding.max_length={length}")
        model = Recipe.of(configuration(choices)).model.build(VOCAB_SIZE, digits=ours.DIGITS)
    tokens_BT = torch.randint(VOCAB_SIZE, (1, length + 1))
    with torch.inference_mode():
        logits_BTV = model.eval()(tokens_BT[:, :-1])
        functional.cross_entropy(logits_BTV.flatten(0, 1), tokens_BT[:, 1:].flatten())
    return resident_bytes("VmHWM")


def training(dtype: str, length: int) -> int:
    """Return the peak above what must be there: a step forward and backward of the distance route."""
    if length > WARM_UP:
        training(dtype, WARM_UP)  # what libraries allocate when they are first called is not the route's
    q, k, v, gradient = (torch.randn(1, HEADS, length, HEAD_DIM, dtype=DTYPES[dtype]) for _ in range(4))
    bias = torch.randn(HEADS, 2 * length - 1).requires_grad_()
    leaves = [x.requires_grad_() for x in (q, k, v)]
    before = resident_bytes("VmRSS")
    attend_by_distance(q, k, v, bias, Visibility(), HEAD_DIM**-0.5).backward(gradient)
    gradients = sum(x.numel() * x.element_size() for x in leaves)
    return resident_bytes("VmHWM") - before - gradients


def resident_bytes(field: str) -> int:
    """Return the memory of this process now (`VmRSS`), or the most that it has had (`VmHWM`)."""
    status = Path("/proc/self/status")
    if not status.is_file():  # not Linux; its peak, in bytes on macOS, has to do for both
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # What getrusage gives on Linux includes the process that started this one, before it became another program.
    (line,) = (line for line in status.read_text().splitlines() if line.startswith(field + ":"))
    return 1024 * int(line.split()[1])


def _in_a_process(part: str, subject: str, length: int) -> list[Row]:
    command = [sys.executable, __file__, part, subject, str(length)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode < 0:  # killed, which on Linux is how a process without memory ends
        return [{"left_out": f"ended by signal {-done.returncode}"}]
    if done.returncode:
        raise RuntimeError(f"{part} of {subject} failed:\n{done.stderr}")
    return [{"peak_bytes": int(done.stdout.splitlines()[-1])}]


if __name__ == "__main__":
    set_up_cpu()
    print({"evaluation": evaluation, "training": training}[sys.argv[1]](sys.argv[2], int(sys.argv[3])))
