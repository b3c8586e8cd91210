"""A training step beside x-transformers: `python benchmarks/train_step.py`.

Both models have the same sizes, tied embeddings, rotary encoding on whole heads, RMSNorm, SwiGLU and no biases (but for
one that x-transformers always has in its gate), and take the same steps: forward, cross-entropy, backward, clipping,
fused AdamW. They take turns step by step in one process, so that whatever else the machine does meets both; a ratio is
that of two steps side by side. A third row is our model as `python -m src.train` drives it: what it loses is the time
of Lightning's loop.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import time
import warnings
from dataclasses import dataclass, field
from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities.warnings import PossibleUserWarning
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader
from x_transformers import Decoder as XDecoder
from x_transformers import TransformerWrapper

from poslab.data.batch import TokenBatch
from poslab.encodings import Rotary
from poslab.models import Decoder
from poslab.training.language_modelling import LanguageModelling
from poslab.training.learner import Learner
from poslab.training.optimizer import AdamWithCosine

PRECISIONS = ("32-true", "bf16-mixed")
WARM_UP = 2
LEARNING_RATE = 1e-3
OURS, THEIRS, OURS_IN_TRAINER = "Poslab", "x-transformers", "Poslab, Trainer"


@dataclass(frozen=True)
class Size:
    """What is measured, by default as `model.d_model=256 model.num_layers=4 model.num_heads=4` on bytes."""

    d_model: int = 256
    num_layers: int = 4
    num_heads: int = 4
    sequence_length: int = 512
    batch_size: int = 8
    vocab_size: int = 257

    @property
    def tokens(self) -> int:
        """Tokens of a step."""
        return self.batch_size * self.sequence_length

    def ours(self) -> Decoder:
        """Our decoder."""
        return Decoder(self.vocab_size, Rotary, self.d_model, self.num_layers, self.num_heads)

    def theirs(self) -> nn.Module:
        """The decoder of x-transformers."""
        mlp_hidden = self.ours().get_submodule("blocks.0.mlp.output").in_features
        head_dim = self.d_model // self.num_heads
        layers = XDecoder(
            dim=self.d_model,
            depth=self.num_layers,
            heads=self.num_heads,
            attn_dim_head=head_dim,
            attn_flash=True,
            rotary_pos_emb=True,
            rotary_emb_dim=head_dim,  # by default half of a head turns
            use_rmsnorm=True,
            ff_glu=True,
            ff_swish=True,
            ff_no_bias=True,
            ff_mult=mlp_hidden / self.d_model,  # type: ignore[operator]
        )
        return TransformerWrapper(
            num_tokens=self.vocab_size,
            max_seq_len=self.sequence_length,
            attn_layers=layers,
            use_abs_pos_emb=False,
            tie_embedding=True,
        )


class PlainLoop:
    """The training steps of a model, without anything around them.

    Args:
        model: tokens in, logits out.
        precision: `32-true`, or `bf16-mixed` for autocast.
    """

    def __init__(self, model: nn.Module, precision: str) -> None:
        self.model = model.train()
        self.autocast = precision == "bf16-mixed"
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, fused=True)

    def step(self, batch: TokenBatch) -> None:
        """One step."""
        with torch.autocast(batch.tokens.device.type, torch.bfloat16, enabled=self.autocast):
            logits_BTV: Tensor = self.model(batch.tokens)
        loss = functional.cross_entropy(logits_BTV.flatten(0, 1).float(), batch.targets.flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()


@dataclass
class TakeTurns(L.Callback):
    """Between any two steps of a Trainer, one step of each plain loop.

    Attributes:
        seconds: of the steps of each, by name.
    """

    loops: dict[str, PlainLoop]
    seconds: dict[str, list[float]] = field(default_factory=dict)
    _began: float = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._began = _now()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: TokenBatch, batch_idx: int
    ) -> None:
        self.seconds.setdefault(OURS_IN_TRAINER, []).append(_now() - self._began)
        for name in sorted(self.loops, reverse=batch_idx % 2 == 1):
            began = _now()
            self.loops[name].step(batch)
            self.seconds.setdefault(name, []).append(_now() - began)
        self._began = _now()


def measure(precision: str, steps: int, size: Size) -> tuple[dict[str, list[float]], dict[str, int]]:
    """Seconds of each step, and parameters, by name.

    Args:
        precision: one of PRECISIONS.
        steps: how many steps of each are measured, after some to warm up.
        size: of models and batches.
    """
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokens = torch.randint(size.vocab_size, (size.batch_size, size.sequence_length + 1), device=device)
    batch = TokenBatch(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous(), None)
    models = {OURS: size.ours(), THEIRS: size.theirs()}
    turns = TakeTurns({name: PlainLoop(model.to(device), precision) for name, model in models.items()})
    learner = Learner(
        size.ours(),
        LanguageModelling({"train": 1.0}),
        AdamWithCosine(LEARNING_RATE),
        batch_size=size.batch_size,
        lengths=[size.sequence_length],
        seed=0,
        log_every=10,
    )
    trainer = L.Trainer(
        accelerator="auto",
        devices=1,
        precision=precision,  # type: ignore[arg-type]
        max_steps=WARM_UP + steps,
        limit_val_batches=0,
        callbacks=[turns],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(learner, DataLoader([batch] * (WARM_UP + steps), batch_size=None))  # type: ignore[arg-type]
    parameters = {name: sum(p.numel() for p in model.parameters()) for name, model in models.items()}
    parameters[OURS_IN_TRAINER] = parameters[OURS]
    return {name: seconds[WARM_UP:] for name, seconds in turns.seconds.items()}, parameters


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(description="A training step of Poslab beside one of x-transformers.")
    parser.add_argument("--steps", type=int, default=20, help="steps of each that are measured (default: %(default)s)")
    parser.add_argument("--precision", choices=PRECISIONS, nargs="+", default=PRECISIONS, help="default: both")
    parser.add_argument("--quick", action="store_true", help="two steps of a very small model: does it run?")
    arguments = parser.parse_args()
    size = Size(d_model=64, num_layers=2, num_heads=2, sequence_length=32, batch_size=2) if arguments.quick else Size()
    steps = 2 if arguments.quick else max(2, arguments.steps)

    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", category=PossibleUserWarning)
    warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)` is deprecated")
    hardware = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    table = Table(
        box=box.SIMPLE_HEAD,
        title=f"{size.num_layers} layers of {size.d_model}, {size.num_heads} heads, {size.batch_size} windows of "
        f"{size.sequence_length}; torch {torch.__version__}, {hardware}",
        title_justify="left",
        caption=f"medians of {steps} steps; of a ratio also the quartiles",
        caption_justify="left",
    )
    for name in ("precision", "model"):
        table.add_column(name, no_wrap=True)
    for name in ("parameters", "tokens/s", "over theirs"):
        table.add_column(name, no_wrap=True, justify="right")
    for precision in arguments.precision:
        seconds, parameters = measure(precision, steps, size)
        for name in (OURS, OURS_IN_TRAINER, THEIRS):
            speed = size.tokens / statistics.median(seconds[name])
            ratios = [theirs / own for own, theirs in zip(seconds[name], seconds[THEIRS], strict=True)]
            lower, median, upper = statistics.quantiles(ratios, n=4, method="inclusive")
            ratio = "" if name == THEIRS else f"{median:.2f} ({lower:.2f} to {upper:.2f})"
            table.add_row(precision, name, f"{parameters[name]:,}", f"{speed:,.0f}", ratio)
    Console().print(table)


def _now() -> float:
    """Seconds, once all that was begun is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


if __name__ == "__main__":
    main()
