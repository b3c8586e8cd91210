"""Loss of the decoders of x-transformers after few steps, in a loop of their own.

    python benchmarks/learning_speed.py                       # as preset=small of comparisons/encoding_choice.yaml
    python benchmarks/learning_speed.py --steps 4000 --encodings none

In 600 steps our decoder learns little under `none`, `learned` and `sinusoidal`. This loop shares nothing with ours but
the text: it trains the decoder of x-transformers at the same sizes, with PyTorch's AdamW and schedules, at several
learning rates, and prints the bits per byte of the test text in windows of the trained length.
"""

from __future__ import annotations

import argparse
import math

import numpy as np
import torch
from ours import configuration
from peers import X_TRANSFORMERS, peers_of
from plan import Size
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

from poslab.data.corpus import TextSplits
from poslab.runs.recipe import Recipe
from poslab.training.components import prepared_data

SIZE = Size(d_model=64, num_layers=2, sequence_length=128, batch_size=8)
ENCODINGS = ("none", "learned", "sinusoidal", "rotary", "alibi", "t5")
RATES = (2e-3, 4e-3, 8e-3)


def main() -> None:
    """Train, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=600, help="default: %(default)s")
    parser.add_argument("--encodings", nargs="+", choices=ENCODINGS, default=ENCODINGS, help="default: all")
    arguments = parser.parse_args()
    steps = arguments.steps
    data = _text()
    table = Table(box=box.SIMPLE_HEAD, title=f"bits per byte after {steps:,} steps", title_justify="left")
    table.add_column("encoding")
    for rate in RATES:
        table.add_column(f"lr {rate:g}", justify="right")
    for name in arguments.encodings:
        table.add_row(name, *(f"{_bits_per_byte(_trained(name, rate, steps, data), data):.3f}" for rate in RATES))
    Console().print(table)


def _text() -> TextSplits:
    """Return the Python documentation as bytes."""
    choices = ["dataset=python_docs", f"dataset.sequence_length={SIZE.sequence_length}", "dataset.length_multiples=[1]"]
    splits = prepared_data(Recipe.of(configuration(choices))).splits
    assert isinstance(splits, TextSplits)
    return splits


def _trained(encoding: str, rate: float, steps: int, data: TextSplits) -> nn.Module:
    """Return a decoder after so many steps; the learning rate rises for a tenth of them, and falls as a cosine."""
    torch.manual_seed(1)
    (peer,) = (peer for peer in peers_of(encoding) if peer.name == X_TRANSFORMERS)
    model = peer.decoder(SIZE).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=0.1)
    rising = max(1, steps // 10)
    schedules = [LinearLR(optimizer, 1 / rising, 1, rising), CosineAnnealingLR(optimizer, steps - rising, 0.02 * rate)]
    schedule = SequentialLR(optimizer, schedules, [rising])
    tokens, random = np.asarray(data.tokens("train")), np.random.default_rng(1)
    for _ in range(steps):
        starts = random.integers(len(tokens) - SIZE.sequence_length, size=SIZE.batch_size)
        _loss(model, tokens[starts[:, None] + np.arange(SIZE.sequence_length + 1)]).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    return model.eval()


@torch.no_grad()
def _bits_per_byte(model: nn.Module, data: TextSplits) -> float:
    """Return the bits per byte of the test text in windows that do not overlap."""
    tokens, length = np.asarray(data.tokens("test")), SIZE.sequence_length
    windows = [tokens[first : first + length + 1] for first in range(0, len(tokens) - length, length)]
    losses = [_loss(model, np.stack(windows[first : first + 64])).item() for first in range(0, len(windows), 64)]
    counts = [len(windows[first : first + 64]) for first in range(0, len(windows), 64)]
    return float(np.average(losses, weights=counts)) / math.log(2) / data.bytes_per_token["test"]


def _loss(model: nn.Module, windows_BU: np.ndarray) -> Tensor:
    ids = torch.from_numpy(windows_BU.astype(np.int64))
    logits: Tensor = model(ids[:, :-1])
    return functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())


if __name__ == "__main__":
    main()
