"""Time and memory of every encoding over `none`: `python benchmarks/encodings.py`.

What is measured is forward, cross-entropy and backward of the default decoder (`size=tiny`) in float32 on the CPU,
under each choice of conf/encoding. The model under test and the one without an encoding take turns step by step in one
process, so that whatever else the machine does meets both; a ratio is that of two steps side by side. Peak memory is
the most bytes that PyTorch's CPU allocator held at once during a step beyond what it held before: activations, what is
kept for the backward pass, temporaries and gradients, but not the weights.

The figures are written to benchmarks/encodings.json, which docs/encodings.md is made of.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from peak import peak_bytes
from rich import box
from rich.console import Console
from rich.table import Table
from torch.nn import functional

from poslab.models import Decoder
from poslab.models.build import build_model

ROOT = Path(__file__).resolve().parents[1]
CONF = ROOT / "conf"
RESULTS = Path(__file__).with_suffix(".json")
EVERY_ENCODING = sorted(path.stem for path in (CONF / "encoding").glob("*.yaml"))
BASELINE = "none"
VOCAB_SIZE = 257


def decoder(encoding: str, sequence_length: int) -> Decoder:
    """The default decoder under an encoding, as a training run would build it."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        overrides = [f"encoding={encoding}", f"dataset.sequence_length={sequence_length}"]
        return build_model(compose("train", overrides), VOCAB_SIZE).train()


def step(model: Decoder, tokens_BT: torch.Tensor) -> None:
    """Forward, loss and backward."""
    logits_BTV = model(tokens_BT[:, :-1])
    functional.cross_entropy(logits_BTV.flatten(0, 1), tokens_BT[:, 1:].flatten()).backward()
    model.zero_grad()


def seconds(model: Decoder, tokens_BT: torch.Tensor) -> float:
    """The time of a step."""
    began = time.perf_counter()
    step(model, tokens_BT)
    return time.perf_counter() - began


def measure(names: list[str], steps: int, sequence_length: int, batch_size: int) -> dict[str, dict[str, float]]:
    """Seconds and peak bytes of a step under each encoding, and both over those without one.

    Args:
        names: choices of conf/encoding.
        steps: how many steps of each are timed; the step before them, whose memory is measured, warms up.
        sequence_length, batch_size: tokens of a row, rows of a step.
    """
    torch.manual_seed(0)
    tokens_BT = torch.randint(VOCAB_SIZE, (batch_size, sequence_length + 1))
    baseline = decoder(BASELINE, sequence_length)
    step(baseline, tokens_BT)
    baseline_bytes = peak_bytes(partial(step, baseline, tokens_BT))
    figures = {}
    for name in names:
        model = decoder(name, sequence_length)
        own_bytes = peak_bytes(partial(step, model, tokens_BT))
        own, ratios = [], []
        for _ in range(steps):
            without = seconds(baseline, tokens_BT)
            own.append(seconds(model, tokens_BT))
            ratios.append(own[-1] / without)
        figures[name] = {
            "seconds": round(statistics.median(own), 4),
            "time_over_none": round(statistics.median(ratios), 3),
            "peak_bytes": own_bytes,
            "memory_over_none": round(own_bytes / baseline_bytes, 3),
        }
    return figures


def machine() -> dict[str, Any]:
    """What the figures depend on, and nothing that tells whose machine it is."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__.partition("+")[0],
    }


def main() -> None:
    """Measures, writes the figures and prints a table."""
    parser = argparse.ArgumentParser(description="Time and memory of every encoding over none.")
    parser.add_argument("--steps", type=int, default=20, help="steps of each that are timed (default: %(default)s)")
    parser.add_argument("--encodings", nargs="+", choices=EVERY_ENCODING, default=EVERY_ENCODING, help="default: all")
    parser.add_argument("--sequence-length", type=int, default=512, help="tokens of a row (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=2, help="rows of a step (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=RESULTS, help="where the figures go (default: %(default)s)")
    arguments = parser.parse_args()

    figures = measure(arguments.encodings, arguments.steps, arguments.sequence_length, arguments.batch_size)
    setting = {"sequence_length": arguments.sequence_length, "batch_size": arguments.batch_size}
    report = {"machine": machine(), **setting, "steps": arguments.steps, "encodings": figures}
    arguments.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")

    table = Table(box=box.SIMPLE_HEAD, caption=f"medians of {arguments.steps} steps", caption_justify="left")
    table.add_column("encoding", no_wrap=True)
    for name in ("ms", "time over none", "peak MB", "memory over none"):
        table.add_column(name, no_wrap=True, justify="right")
    for name, figure in figures.items():
        times, memory = f"{figure['time_over_none']:.2f}", f"{figure['memory_over_none']:.2f}"
        table.add_row(name, f"{1e3 * figure['seconds']:.0f}", times, f"{figure['peak_bytes'] / 1e6:.0f}", memory)
    Console().print(table)


if __name__ == "__main__":
    main()
