"""Settings of the trainer (`trainer=`), and this machine: its hardware, memory, versions and precision."""

from __future__ import annotations

import contextlib
import ctypes
import inspect
import math
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Literal

import torch

from poslab.arguments import Count, Range, check_arguments, nearest, with_checked_arguments
from poslab.io.files import read_json
from poslab.runs.directory import RunDirectory

MAX_STEPS = 10**12
"""More than any run has, and small enough to be counted in 64 bits with micro-batches and devices."""


@with_checked_arguments
@dataclass(frozen=True)
class TrainerSettings:
    """Settings of the trainer. Batch size and steps are global, whatever the number of devices.

    Args:
        max_steps: optimizer steps of the run; 0 measures the weights that it starts from.
        accelerator: `gpu`, `cpu`, or `auto` for a GPU if there is one.
        devices: processes on this machine, one per device; `auto` is all GPUs, or one process on a CPU.
        num_nodes: machines; with more than one, torchrun or SLURM starts the processes on each.
        strategy: `ddp` (each device has the model), `fsdp` (the devices share it), or `auto`.
        context_parallel: processes that share each window of training, for windows longer than fit into one device; 1
            gives each window to one process.
        precision: `auto` is bf16-mixed where the hardware has it, else 32-true. `16-mixed` (float16, under a scale
            of the loss that leaves out steps whose gradients overflow) is for GPUs without bfloat16.
        micro_batch_size: windows that a device processes at once; null is its whole share of the batch.
        validations: number of validations in a run, after each of which the best state is kept; positive.
        saves: number of saves of the last state in a run; positive.
        log_every: steps between two records of training metrics; positive.
        hang_after: seconds without a finished batch after which a run of several processes is ended; positive.
        kernel: attention on a CPU by an operator that the machine's C++ compiler makes once (`compiled`), by PyTorch
            (`torch`), or compiled where there is a compiler and the run is long enough to win back its time (`auto`).
        compile: True compiles the model (torch.compile), `blocks` each of its blocks by itself, which is ready sooner,
            and `auto` Poslab's blocks on a GPU, and on a CPU in runs that are long enough to win back its time.
        activation_checkpointing: True keeps only the input of each block, and computes the rest again in the backward
            pass: less memory for about a third more time, and the same numbers.
        deterministic: True runs only algorithms that give the same bits each time; a GPU has faster ones that do not.
        profiler: prints where the time is spent, `simple` or `advanced`; null for none.
        lightning: further arguments of Lightning's Trainer; null for none.
    """

    max_steps: Annotated[int, Range(at_least=0), Range(at_most=MAX_STEPS)]
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: int | Literal["auto"] = 1
    num_nodes: Count = 1
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    context_parallel: Count = 1
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed", "bf16-true"] = "auto"
    micro_batch_size: Count | None = None
    validations: Count = 5
    saves: Count = 10
    log_every: Count = 10
    hang_after: Count = 1800
    kernel: Literal["auto", "compiled", "torch"] = "auto"
    compile: bool | Literal["auto", "blocks"] = False
    activation_checkpointing: bool = False
    deterministic: bool = False
    profiler: Literal["simple", "advanced"] | None = None
    lightning: Mapping[str, Any] | None = None

    def require_devices(self) -> None:
        """Raise ValueError if this machine does not have the devices."""
        if self.on_gpu and not torch.cuda.is_available():
            raise ValueError("trainer.accelerator=gpu needs a GPU, and this machine has none")
        if self.on_gpu and self.kernel == "compiled":
            raise ValueError("trainer.kernel=compiled is of a CPU, and this run is on a GPU: leave it at auto")
        if self.precision == "16-mixed" and not self.on_gpu:
            raise ValueError("trainer.precision=16-mixed needs a GPU: on a CPU, choose bf16-mixed or 32-true")
        available = torch.cuda.device_count() if self.on_gpu else max(2, os.cpu_count() or 1)
        if self.devices != "auto" and not 1 <= self.devices <= available:
            kind = "GPUs" if self.on_gpu else "CPU cores"
            span = f"between 1 and the {available} {kind} of this machine"
            raise ValueError(f"trainer.devices must lie {span}, got {self.devices}")

    def micro_batches(self, batch_size: int) -> int:
        """Return the micro-batches of a process's share of the global batch; ValueError if it cannot be divided."""
        if self.processes % self.context_parallel:
            raise ValueError(
                f"trainer.context_parallel must divide the number of devices, {self.processes}, "
                f"got {self.context_parallel}"
            )
        share, rest = divmod(batch_size, self.data_parallel)
        if rest:
            of = "devices" if self.context_parallel == 1 else "groups of devices that share a window"
            raise ValueError(
                f"dataset.batch_size must be divisible by the number of {of}, {self.data_parallel}, got {batch_size}"
            )
        micro_batches, rest = divmod(share, self.micro_batch_size or share)
        if rest:
            raise ValueError(
                f"trainer.micro_batch_size must divide the {share} windows that each device has of a batch, "
                f"got {self.micro_batch_size}"
            )
        return micro_batches

    @property
    def on_gpu(self) -> bool:
        """True if the run uses GPUs."""
        return self.accelerator == "gpu" or (self.accelerator == "auto" and torch.cuda.is_available())

    @property
    def must_compile(self) -> bool:
        """True if the run compiles whatever its length, and is an error where that cannot be."""
        return self.compile not in (False, "auto")

    @property
    def local_processes(self) -> int:
        """Processes on this machine."""
        if self.devices == "auto":
            return torch.cuda.device_count() if self.on_gpu else 1
        return self.devices

    @property
    def processes(self) -> int:
        """Processes on all machines."""
        return self.local_processes * self.num_nodes

    @property
    def data_parallel(self) -> int:
        """Groups of processes that have their own windows; a group of one without context parallelism."""
        return self.processes // self.context_parallel

    @property
    def validate_every(self) -> int:
        """Steps between two validations; the last step is validated too."""
        return max(1, math.ceil(self.max_steps / self.validations))

    @property
    def save_every(self) -> int:
        """Steps between two saves of the last state, which is also saved after every validation."""
        return max(1, math.ceil(self.max_steps / self.saves))

    @property
    def resolved_precision(self) -> str:
        """Precision in Lightning's terms, with `auto` decided by the hardware."""
        if self.precision != "auto":
            return self.precision
        native = torch.cuda.get_device_capability() >= (8, 0) if self.on_gpu else cpu_has_bfloat16()
        return "bf16-mixed" if native else "32-true"


def cpu_has_bfloat16() -> bool:
    """Return True if the CPU is known to multiply bfloat16 in hardware (avx512_bf16 or amx_bf16)."""
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(cpuinfo("flags").split())


def cpuinfo(key: str) -> str:
    """Return what Linux knows of the first processor under a key, such as `model name`; "" elsewhere."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")


SET_BY = {
    **{name: f"trainer.{name}" for name in ("accelerator", "devices", "num_nodes", "strategy", "precision")},
    **{name: f"trainer.{name}" for name in ("max_steps", "deterministic", "profiler")},
    **dict.fromkeys(("max_epochs", "min_epochs", "min_steps", "limit_train_batches"), "trainer.max_steps"),
    **dict.fromkeys(("val_check_interval", "check_val_every_n_epoch", "num_sanity_val_steps"), "trainer.validations"),
    **dict.fromkeys(("gradient_clip_val", "gradient_clip_algorithm"), "optimizer.gradient_clip"),
    "accumulate_grad_batches": "trainer.micro_batch_size",
    "log_every_n_steps": "trainer.log_every",
    "enable_checkpointing": "trainer.saves",
    "callbacks": "the group callbacks",
    "logger": "the group logger",
    "default_root_dir": "hydra.run.dir",
    "fast_dev_run": "debug=fast",
    "overfit_batches": "debug=overfit",
}
"""Arguments that Poslab sets itself, each with what sets it."""

FIXED = {
    *("plugins", "barebones", "inference_mode", "use_distributed_sampler", "reload_dataloaders_every_n_epochs"),
    *("enable_progress_bar", "limit_test_batches", "limit_predict_batches", "model_registry"),
}
"""Arguments that a run does not leave open: its tests read everything, and its order of the data is its own."""


def open_arguments() -> list[str]:
    """Return the names of the arguments that pass through."""
    import lightning as L

    return sorted(inspect.signature(L.Trainer).parameters.keys() - SET_BY.keys() - FIXED)


def check_lightning_arguments(given: Mapping[str, Any]) -> None:
    """Raise ValueError, naming the key, for names, types and ranges; these by making a trainer of the arguments."""
    import lightning as L
    from lightning.fabric.utilities.exceptions import MisconfigurationException
    from lightning.pytorch.callbacks import Timer

    parameters = inspect.signature(L.Trainer, eval_str=True).parameters
    open_ones = open_arguments()
    for name in given:
        if name in SET_BY:
            raise ValueError(f"trainer.lightning.{name} must be left out: {SET_BY[name]} sets it")
        if name not in open_ones:
            raise ValueError(
                f"trainer.lightning.{name} must be one of {', '.join(open_ones)}{nearest(name, open_ones)}"
            )
    check_arguments(given, parameters, "trainer.lightning.")
    if given.get("limit_val_batches") == 0:
        raise ValueError("trainer.lightning.limit_val_batches must be above 0: validations choose the state to keep")
    try:
        trainer = L.Trainer(
            accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False, **given
        )
    except (MisconfigurationException, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"trainer.lightning: {error}") from error
    callbacks = trainer.callbacks  # type: ignore[attr-defined]  # which Lightning sets without declaring it
    timer = next((callback for callback in callbacks if isinstance(callback, Timer)), None)
    if timer is not None and (timer.time_remaining() or 0) <= 0:
        raise ValueError(f"trainer.lightning.max_time must be above 0, got {given['max_time']}")


MIXED = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
"""Type of products in each mixed precision, whose weights are float32."""


def precision_of(run: RunDirectory) -> str | None:
    """Return the precision of a run's training; None if it is not known."""
    try:
        precision = read_json(run.environment_file).get("precision")
    except ValueError:  # the file is lost
        return None
    return precision if isinstance(precision, str) else None


def autocast(precision: str | None, device: torch.device) -> torch.autocast:
    """Return the context in which a model with float32 weights computes as in training in a precision."""
    dtype = None if precision is None else MIXED.get(precision)
    return torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None)


PACKAGES = (
    *("poslab", "torch", "lightning", "hydra-core", "omegaconf"),
    *("torchmetrics", "datasets", "tokenizers", "numpy"),
)


def environment(settings: TrainerSettings) -> dict[str, Any]:
    """Return versions, commit, hardware and precision, as plain data."""
    return {
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "commit": commit(),
        "command": sys.argv,
        "host": platform.node(),
        "platform": platform.platform(),
        "processor": cpuinfo("model name") or platform.processor(),
        "cpu_cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "precision": settings.resolved_precision,
    }


def reset_peak_memory() -> None:
    """Reset the peak of this process, such as the peak of an earlier run of a multirun, if the system can."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(AttributeError, OSError, TypeError):  # only glibc keeps freed memory, and has this
        ctypes.CDLL(None).malloc_trim(0)
    with contextlib.suppress(OSError):  # only Linux has it
        Path("/proc/self/clear_refs").write_text("5")


def memory_bytes(on_gpu: bool) -> int:
    """Return the memory of a GPU, or of this machine, or of the container of this process."""
    if on_gpu:
        return int(torch.cuda.get_device_properties(0).total_memory)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    with contextlib.suppress(OSError, ValueError):  # no container, or one without a limit
        memory = min(memory, int(limit.read_text()))
    return memory


def peak_memory_mb(device: torch.device) -> float:
    """Return the peak memory of the run so far, in MB: of the device, or of the process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e6


def commit() -> str | None:
    """Return the commit of the checkout, with `+` if files differ from it; None outside of a checkout.

    A checkout around an installed package is another project: its settings of git can run code.
    """
    checkout = Path(__file__).parents[3]
    if not (checkout / ".git").exists():
        return None
    git = ["git", "-C", str(checkout)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True)
        changes = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True)
    except FileNotFoundError:
        return None
    return commit.stdout.strip() + ("+" if changes.stdout.strip() else "") if commit.returncode == 0 else None
