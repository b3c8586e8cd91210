"""Measurements that need a GPU, in at most nine minutes: `python benchmarks/gpu.py`.

It prints each table as it is measured, and writes all of them to a page. What the time does not allow is left out, and
said to be. On a CPU it runs in a reduced form, which shows that it runs. Parts:

- `routes`: output and gradients of each route of attention beside the dense one, in float32.
- `kernels`: which kernels of PyTorch's attention serve a rotation, and how long they take.
- `biases`: time and memory of the routes under a bias.
- `lengths`: memory of one attention layer at long lengths.
- `steps`: a training step of whole decoders in bf16-mixed: as it is, compiled, compiled by block, and with recomputed
  activations; tokens a second, and the share of what the machine's matrix products alone would take.
- `sharding`: a step under FSDP2 on one device beside one without.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import ours
import torch
from compiled_steps import flops_of_products, flops_per_token, products
from machine import machine
from ours import AttentionLayer
from plain_loop import PlainLoop, device, random_batch
from rich import box
from rich.console import Console
from rich.table import Table
from size import Size
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.attention import SDPBackend, sdpa_kernel
from turns import Call, now, seconds_of, take_turns

from poslab.attention import Route, Visibility, attend
from poslab.attention.routes import SERVED_HOOKS
from poslab.encodings import PositionalEncoding, Positions
from poslab.experiments.speed import peak_bytes
from poslab.models import Model
from poslab.runs.trainer_settings import TrainerSettings
from poslab.training.fit import set_up_passes

MINUTES = 8.0
"""After which no further row is begun; one takes less than another minute."""
ENCODINGS = ["none", "rotary", "alibi", "t5", "tupe", "fire"]
"""One of each kind that a fused route serves: nothing, a rotation, biases of distance, biases of both positions."""
SIZES = {
    "85M": Size(d_model=768, num_layers=12, num_heads=12, sequence_length=2048, batch_size=8),
    "304M": Size(d_model=1024, num_layers=24, num_heads=16, sequence_length=2048, batch_size=4),
    "1B": Size(d_model=2048, num_layers=20, num_heads=16, sequence_length=2048, batch_size=2),
}
REDUCED = {"reduced": Size(d_model=64, num_layers=2, num_heads=2, sequence_length=64, batch_size=2)}
WAYS = {
    "as it is": TrainerSettings(1),
    "compiled": TrainerSettings(1, compile=True),
    "compiled by block": TrainerSettings(1, compile="blocks"),
    "recomputed activations": TrainerSettings(1, activation_checkpointing=True),
}
KERNELS = (
    *(SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION),
    *(SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH),
)

Row = tuple[str, ...]


@dataclass(frozen=True)
class Part:
    """A table: its title, its columns, and what yields a row at a time."""

    title: str
    columns: Row
    rows: Callable[[], Iterator[Row]]


def main() -> int:
    """Measure, print and write the parts; return 1 if a row could not be measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="default: all")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="time in all (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("outputs/gpu.md"), help="the page (default: %(default)s)")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    facts = machine()
    hardware = facts["gpu"] or f"{facts['processor']}, {facts['threads']} threads (reduced)"
    page, failed = [f"# Poslab on {hardware}", f"torch {facts['torch']}"], False
    ends = time.monotonic() + 60 * arguments.minutes
    for name in arguments.parts:
        rows, problem = measured(PARTS[name], ends)
        failed |= problem.startswith("failed")
        table = Table(*PARTS[name].columns, box=box.SIMPLE_HEAD, title=PARTS[name].title, title_justify="left")
        for row in rows:
            table.add_row(*row)
        Console().print(table)
        lines = [PARTS[name].columns, ("---",) * len(PARTS[name].columns), *rows]
        page += [f"## {PARTS[name].title}", "\n".join(f"| {' | '.join(line)} |" for line in lines)]
        if problem:
            Console().print(problem)
            page.append(problem)
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text("\n\n".join(page) + "\n", encoding="utf-8")
    print(f"written to {arguments.output}")
    return int(failed)


def measured(part: Part, ends: float) -> tuple[list[Row], str]:
    """Return the rows of a part that could be measured, and why there are no more of them."""
    rows = []
    iterator = part.rows()
    while time.monotonic() < ends:
        try:
            rows.append(next(iterator))
        except StopIteration:
            return rows, ""
        except Exception as error:  # the page of the other parts is worth having
            return rows, f"failed: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return rows, "The rest was left out: the time was over."


def on_gpu() -> bool:
    """Return True if this machine has a GPU."""
    return torch.cuda.is_available()


def operands(heads: int, length: int, dim: int, dtype: torch.dtype, batch: int = 1) -> list[Tensor]:
    """Return random queries, keys and values, (B, H, T, D), that learn."""
    shape = (3, batch, heads, length, dim)
    return [x.requires_grad_() for x in torch.randn(shape, dtype=dtype, device=device()).unbind()]


def timed(call: Callable[[], object], turns: int = 5) -> str:
    """Return the median milliseconds of a call that has warmed up, or what it lacks."""
    try:
        for _ in range(2):
            call()
        return f"{1e3 * statistics.median(seconds_of(call) for _ in range(turns if on_gpu() else 1)):,.2f}"
    except torch.OutOfMemoryError:
        return "out of memory"


def held(call: Callable[[], object]) -> str:
    """Return the most MiB that a call holds at once, or that they are not there."""
    try:
        return f"{peak_bytes(call) / 2**20:,.0f}"
    except torch.OutOfMemoryError:
        return "out of memory"


@dataclass(frozen=True)
class Pass:
    """Attention forward and backward under an encoding, made anew with its tables each time.

    Args:
        name: choice of conf/encoding.
        sources: queries, keys and values.
        visibility: keys that each query sees.
    """

    name: str
    sources: list[Tensor]
    visibility: Visibility

    @cached_property
    def encoding(self) -> PositionalEncoding:
        """Encoding of a layer of these heads."""
        _, heads, length, dim = self.sources[0].shape
        size = Size(d_model=heads * dim, num_layers=1, num_heads=heads, sequence_length=length)
        return ours.encodings(self.name, size).layer(0).to(device())

    @property
    def routes(self) -> list[Route]:
        """Routes that are exact here; on a CPU, FlexAttention has no backward pass."""
        exact: list[Route] = [route for route, served in SERVED_HOOKS.items() if self.encoding.hooks <= served]
        return [route for route in exact if route != "flex" or on_gpu()]

    def __call__(self, route: Route = "auto") -> list[Tensor]:
        """Return the output, and the gradients of sources and parameters under random weights; zero without one."""
        positions = Positions.range(self.sources[0].shape[-2], device=device())
        tables = self.encoding.prepare(positions, positions)
        query, key, value = self.sources
        y = attend(query, key, value, self.encoding, tables, self.visibility, route)
        weights = torch.linspace(-1, 1, y.numel(), device=y.device, dtype=y.dtype).view_as(y)
        learning = [*self.sources, *self.encoding.parameters()]
        gradients = torch.autograd.grad((y * weights).sum(), learning, allow_unused=True)
        return [y, *(torch.zeros((), device=y.device) if gradient is None else gradient for gradient in gradients)]


def routes() -> Iterator[Row]:
    """Yield the largest difference of each route from the dense one, over the largest number of each tensor."""
    torch.set_float32_matmul_precision("highest")
    real = torch.arange(300, device=device()) < torch.tensor([[300], [211]], device=device())
    rules = {"causal": Visibility(), "window of 40": Visibility(window=40), "padded": Visibility(real_keys=real)}
    for name in ENCODINGS:
        for rule, visibility in rules.items():
            one = Pass(name, operands(4, 300, 64, torch.float32, batch=2), visibility)
            exact = one("dense")
            for route in one.routes:
                if route != "dense":
                    pairs = zip(one(route), exact, strict=True)
                    worst = max(((a - b).abs().max() / b.abs().max().clamp(min=1)).item() for a, b in pairs)
                    yield name, rule, route, f"{worst:.1e}"


def kernels() -> Iterator[Row]:
    """Yield the milliseconds of each kernel of PyTorch's attention, forward and backward, under a rotation."""
    length, dtype = (4096, torch.bfloat16) if on_gpu() else (128, torch.float32)
    one = Pass("rotary", operands(16, length, 64, dtype, batch=2), Visibility())
    yield "PyTorch's choice", f"{length:,}", timed(one)
    for kernel in KERNELS:
        with sdpa_kernel(kernel):
            try:
                took = timed(one)
            except RuntimeError:  # no kernel of this kind for this hardware, type or shape
                took = "not served"
        yield kernel.name.lower(), f"{length:,}", took


def biases() -> Iterator[Row]:
    """Yield milliseconds and MiB of the routes under biases, forward and backward, in bfloat16."""
    for name in ("alibi", "t5", "fire"):
        for length in (4096, 16384) if on_gpu() else (256,):
            one = Pass(name, operands(8, length, 64, torch.bfloat16), Visibility())
            for route in one.routes:
                if route != "dense" or length <= 4096:
                    yield name, f"{length:,}", route, timed(partial(one, route)), held(partial(one, route))


def lengths() -> Iterator[Row]:
    """Yield the MiB of one attention layer of 8 heads of 64, forward and backward, in bfloat16."""
    for name in ENCODINGS:
        for length in (32_768, 131_072) if on_gpu() else (512, 1024):
            size = Size(d_model=512, num_layers=1, num_heads=8, sequence_length=length, batch_size=1)
            layer = AttentionLayer(name, size).to(device())
            x_BTM = torch.randn(1, length, 512, device=device(), requires_grad=True)

            def step(layer: nn.Module = layer, x_BTM: Tensor = x_BTM) -> None:
                with torch.autocast(device(), torch.bfloat16):
                    layer(x_BTM).float().sum().backward()

            yield name, f"{length:,}", held(step)


def steps() -> Iterator[Row]:
    """Yield seconds, MiB, tokens a second and share of the matrix products of a step of whole decoders."""
    for name, size in (SIZES if on_gpu() else REDUCED).items():
        for way, settings in WAYS.items():
            torch._dynamo.reset()
            model = ours.decoder("rotary", size)
            set_up_passes(model, settings)
            share = flops_per_token(model, size) / flops_of_products(model)
            calls: dict[str, Call] = {
                "step": partial(PlainLoop(model, "bf16-mixed").step, random_batch(size)),
                "products": products(model, size),
            }
            try:
                for _ in range(3):  # the first ones compile
                    take_turns(calls, 1)
                seconds = {each: statistics.median(took) for each, took in take_turns(calls, 10).items()}
                memory = held(calls["step"])
            except torch.OutOfMemoryError:
                yield name, way, "out of memory", "-", "-", "-"
                continue
            finally:
                del model, calls  # before the next one is made
            step, ideal = seconds["step"], share * seconds["products"]
            yield name, way, f"{1e3 * step:,.1f}", memory, f"{size.tokens / step:,.0f}", f"{ideal / step:.2f}"


def sharding() -> Iterator[Row]:
    """Yield milliseconds of a step and the loss after ten of them, with and without FSDP2 on one device."""
    size = SIZES["85M"] if on_gpu() else REDUCED["reduced"]
    batch = random_batch(size)
    with tempfile.TemporaryDirectory() as folder:
        distributed.init_process_group(
            "nccl" if on_gpu() else "gloo", init_method=f"file://{folder}/store", rank=0, world_size=1
        )
        try:
            for name in ("whole", "sharded"):
                torch.manual_seed(0)
                model = ours.decoder("rotary", size).to(device())
                if name == "sharded":
                    _shard(model)
                loop = PlainLoop(model, "32-true")
                began = now()
                for _ in range(10):
                    loop.step(batch)
                took = (now() - began) / 10
                with torch.no_grad():
                    loss = nn.functional.cross_entropy(model(batch.tokens).flatten(0, 1), batch.targets.flatten())
                yield name, f"{1e3 * took:,.1f}", f"{loss.item():.6f}"
        finally:
            distributed.destroy_process_group()


def _shard(model: Model) -> None:
    mesh = init_device_mesh(device(), (1,))
    for block in model.attention_sites:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


PARTS = {
    "routes": Part(
        "Routes beside the dense one, float32", ("encoding", "visible", "route", "largest difference"), routes
    ),
    "kernels": Part("Kernels under a rotation, forward and backward", ("kernel", "tokens", "ms"), kernels),
    "biases": Part("Biases, forward and backward, bfloat16", ("encoding", "tokens", "route", "ms", "MiB"), biases),
    "lengths": Part("Memory of a layer, forward and backward", ("encoding", "tokens", "MiB"), lengths),
    "steps": Part(
        "Training steps under rotary, bf16-mixed",
        ("size", "way", "ms", "MiB", "tokens/s", "of products"),
        steps,
    ),
    "sharding": Part("FSDP2 on one device, float32", ("model", "ms", "loss after 10 steps"), sharding),
}

if __name__ == "__main__":
    sys.exit(main())
