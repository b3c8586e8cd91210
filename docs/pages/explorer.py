"""Makes docs/explorer.html: `python docs/make.py explorer`.

`python docs/make.py --explorer T5_RUN FIRE_RUN` first computes the numbers that the page does not compute itself: the
smallest bases of rotary, and the biases that two runs have learned. It takes some minutes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor

import poslab
from poslab.encodings.bias.fire import Fire
from poslab.encodings.bias.t5 import T5Bias
from poslab.evaluation.base_bound import smallest_base
from poslab.explorer import DATA, write_explorer
from poslab.io.files import read_json
from poslab.runs.checkpoint import load_checkpoint
from poslab.runs.directory import RunDirectory

PAGE = Path(__file__).resolve().parents[1] / "explorer.html"

HEAD_DIMS = (16, 32, 64, 96, 128, 192, 256)
LENGTHS = tuple(2**exponent for exponent in range(6, 17))
"""The lengths of the page's knobs, up to the one beyond which the search takes long."""


def make(draws: bool) -> None:
    """Write the page, which has no drawings."""
    write_explorer(PAGE)


def make_data(t5_run: Path, fire_run: Path) -> None:
    """Write the numbers, and then the page.

    Args:
        t5_run, fire_run: directories of runs under `encoding=t5` and `encoding=fire`; their best checkpoints are read.
    """
    bases = {d: {length: _rounded(smallest_base(d, length), 7) for length in LENGTHS} for d in HEAD_DIMS}
    DATA.write_text(json.dumps({"smallest_bases": bases, "t5": t5(t5_run), "fire": fire(fire_run)}) + "\n", "utf-8")
    make(draws=False)


def t5(run: Path) -> dict[str, Any]:
    """Return the bias of each head in each bucket, as added to the logits."""
    encoding = poslab.load(run).encodings.distinct[0]
    assert isinstance(encoding, T5Bias)
    buckets = {"num_buckets": encoding.num_buckets, "max_distance": encoding.max_distance}
    return _about(run) | buckets | {"table": _numbers(encoding.table.T * encoding.logit_scale)}


def fire(run: Path) -> dict[str, Any]:
    """Return the weights of the network of each layer."""
    layers = []
    for encoding in poslab.load(run).encodings.distinct:
        assert isinstance(encoding, Fire)
        hidden = {"weight": encoding.hidden.weight, "bias": encoding.hidden.bias}
        weights = hidden | {"output": encoding.output.weight} | encoding.learned()
        layers.append({name: _numbers(weight.squeeze()) for name, weight in weights.items()})
    return _about(run) | {"layers": layers}


def _about(run: Path) -> dict[str, Any]:
    directory = RunDirectory.of(run)
    chosen = read_json(directory.environment_file)["choices"]
    config = directory.config()
    return {
        "command": " ".join(["python -m src.train", *(word for word in chosen if not word.startswith("trainer="))]),
        "steps": load_checkpoint(directory.best_checkpoint)["global_step"],
        "num_heads": config["model"]["num_heads"],
        "length": config["dataset"]["sequence_length"],
    }


def _numbers(tensor: Tensor) -> Any:
    return _rounded(tensor.tolist(), 6)


def _rounded(value: Any, digits: int) -> Any:
    """Return a number, or each number of nested lists, to some significant digits."""
    if isinstance(value, list):
        return [_rounded(each, digits) for each in value]
    return None if value is None else float(f"{value:.{digits}g}")
