"""The operators of `kernel.cpp`, compiled on this machine: attention on a CPU, faster than PyTorch's kernel.

They serve the operators of `distance.py`, whose arguments they have, and compute logits of a block of queries in
float32. Nothing is compiled unless `load_kernel` is called.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from poslab.attention.distance_blocks import OfRows

SOURCE = Path(__file__).with_name("kernel.cpp")

DTYPES = (torch.bfloat16, torch.float32)

MAX_KEYS = 4096
"""Most keys of a window: the logits of a block of more leave the cache, and the gain over PyTorch's kernel falls."""

COMPILE_TIMEOUT_S = 300

_enabled = False
"""True if the operators are used."""

_served: list[torch.dtype] = []
"""Types that the loaded operators multiply on this processor: some have no instructions for bfloat16."""


class NoKernelError(ValueError):
    """The operators cannot be compiled or do not run on this machine."""


def serves(q_BHTD: Tensor, num_keys: int) -> bool:
    """Return True if the operators are in use, and compute attention of these queries to so many keys."""
    width = q_BHTD.shape[-1]
    return (
        q_BHTD.device.type == "cpu"
        and q_BHTD.dtype in _served
        and num_keys <= MAX_KEYS
        and width % 2 == 0  # bfloat16 is stored in pairs
        and _enabled
    )


def attend(
    q_BHTD: Tensor,
    k_BGSD: Tensor,
    v_BGSD: Tensor,
    bias_HN: Tensor | None,
    nearest: int,
    furthest: int,
    scale: float,
    of_rows: OfRows,
) -> tuple[Tensor, Tensor]:
    """Return the output and the logs of the sums of exponentials, as `distance_attention` does.

    Raises:
        IndexError: for places whose differences are no numbers of the bias.
    """
    _check_places(bias_HN, of_rows)
    inputs = (*map(_by_even_rows, (q_BHTD, k_BGSD, v_BGSD)), _turned(bias_HN, of_rows))
    output, log_sum = torch.ops.poslab_kernel.attend(*inputs, nearest, furthest, scale, *_as_read(of_rows))
    return output, log_sum


def gradients(
    gradient_BHTD: Tensor,
    q_BHTD: Tensor,
    k_BGSD: Tensor,
    v_BGSD: Tensor,
    bias_HN: Tensor | None,
    output_BHTD: Tensor,
    log_sum_BHT: Tensor,
    bias_learns: bool,
    nearest: int,
    furthest: int,
    scale: float,
    of_rows: OfRows,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of queries, keys, values and bias, as `distance_gradients.gradients` does.

    Raises:
        IndexError: as of `attend`.
    """
    _check_places(bias_HN, of_rows)
    operands = map(_by_even_rows, (gradient_BHTD, q_BHTD, k_BGSD, v_BGSD))
    outputs = (output_BHTD.contiguous(), log_sum_BHT.contiguous())
    settings = (bias_learns, nearest, furthest, scale, *_as_read(of_rows))
    q, k, v, bias = torch.ops.poslab_kernel.attend_backward(*operands, _turned(bias_HN, of_rows), *outputs, *settings)
    return q, k, v, bias if of_rows.query_places is not None else bias.flip(-1)


def _check_places(bias_HN: Tensor | None, of_rows: OfRows) -> None:
    """Raise IndexError for places whose differences are no numbers of the bias, which the operators do not check."""
    queries, keys = of_rows.query_places, of_rows.key_places
    if bias_HN is not None and queries is not None and keys is not None and queries.numel():
        first, last = queries.min() - keys.max(), queries.max() - keys.min()
        if first < 0 or last >= bias_HN.shape[1]:
            raise IndexError(f"places must differ by 0 to {bias_HN.shape[1] - 1}, got {int(first)} to {int(last)}")


def _by_even_rows(x: Tensor) -> Tensor:
    """Return x with contiguous channels, and rows an even number apart, which do not overlap."""
    is_plain = x.stride(-1) == 1 and x.stride(-2) >= x.shape[-1] and x.stride(-2) % 2 == 0
    return x if is_plain else x.contiguous()


def _turned(bias_HN: Tensor | None, of_rows: OfRows) -> Tensor | None:
    """Return a bias of distance with the largest first, as it meets successive keys; others as they are."""
    if bias_HN is None or of_rows.query_places is not None:
        return None if bias_HN is None else bias_HN.contiguous()
    return bias_HN.flip(-1).contiguous()


def _as_read(of_rows: OfRows) -> OfRows:
    """Return numbers of rows that are contiguous, of the dtypes that the operators read."""
    return OfRows(
        *(
            x if x is None else x.to(torch.bool if name == "real_keys" else torch.int64).contiguous()
            for name, x in zip(OfRows._fields, of_rows, strict=True)
        )
    )


def disable() -> None:
    """Leave attention to PyTorch's kernel from now on."""
    global _enabled
    _enabled = False


def is_compiled(folder: Path) -> bool:
    """Return True if a folder has a whole library for this machine; errors as of `compile_kernel`."""
    library = _library(folder, _compiler_command())
    if not library.is_file():
        return False
    content = library.read_bytes()  # loading what is cut off would end the process
    return content == _with_digest(content[: -hashlib.sha256().digest_size])


def compile_kernel(folder: Path) -> None:
    """Compile the operators for this machine, which takes about 15 seconds.

    Args:
        folder: folder of this user's libraries, made if it is missing. A library is kept under a hash of everything
            that it depends on.

    Raises:
        NoKernelError: if there is no compiler, it fails, or the folder cannot be written.
    """
    command = _compiler_command()
    library = _library(folder, command)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Under a name of its own until it is whole: several processes may compile at once.
        with tempfile.TemporaryDirectory(dir=folder) as unfinished:
            made = Path(unfinished) / library.name
            call = [command[0], str(SOURCE), *command[1:], "-o", str(made)]
            subprocess.run(
                call, check=True, capture_output=True, text=True, errors="replace", timeout=COMPILE_TIMEOUT_S
            )
            made.write_bytes(_with_digest(made.read_bytes()))
            made.replace(library)
    except subprocess.CalledProcessError as error:
        lines = [line for line in error.stderr.splitlines() if "error" in line]
        first = lines[0] if lines else error.stderr[:200] or f"exit status {error.returncode}"
        raise NoKernelError(f"{command[0]} cannot compile {SOURCE.name}: {first}") from error
    except subprocess.TimeoutExpired as error:
        raise NoKernelError(f"{command[0]} cannot compile {SOURCE.name} in {COMPILE_TIMEOUT_S} seconds") from error
    except OSError as error:
        raise NoKernelError(f"{command[0]} cannot compile {SOURCE.name}: {error}") from error


def _with_digest(library: bytes) -> bytes:
    """Return the bytes of a library and, behind its end, which no loader reads, their digest."""
    return library + hashlib.sha256(library).digest()


def load_kernel(folder: Path) -> None:
    """Use the operators from now on, compiled first unless a folder has them; arguments as of `compile_kernel`.

    Raises:
        NoKernelError: if they cannot be compiled, or the processor lacks their instructions.
    """
    global _enabled
    if not hasattr(torch.ops.poslab_kernel, "attend"):
        if not is_compiled(folder):
            compile_kernel(folder)
        try:
            torch.ops.load_library(str(_library(folder, _compiler_command())))
        except (OSError, RuntimeError) as error:
            raise NoKernelError(f"the compiled attention cannot be loaded: {error}") from error
        for dtype in DTYPES:
            x = torch.ones(1, 1, 16, 16, dtype=dtype)
            with contextlib.suppress(RuntimeError):
                attend(x, x, x, None, 0, 16, 1.0, OfRows())
                _served.append(dtype)
    if not _served:
        raise NoKernelError("oneDNN has no products for this processor")
    _enabled = True


def _library(folder: Path, command: list[str]) -> Path:
    """Return the path of the library of this source, this torch and this processor, whose instructions it may need."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else [platform.processor()]
    flags = next((line for line in lines if line.startswith("flags")), lines[0])
    facts = (SOURCE.read_bytes(), torch.__version__, flags, *command)
    return folder / f"attention_{hashlib.sha256(repr(facts).encode()).hexdigest()[:16]}.so"


def _compiler_command() -> list[str]:
    """Return the command that compiles for this machine, without the names of files."""
    from torch.utils.cpp_extension import include_paths

    names = (os.environ.get("CXX"), "g++", "clang++", "c++")
    compiler = next((path for name in names if name and (path := shutil.which(name))), None)
    if compiler is None:
        raise NoKernelError("no C++ compiler is installed")
    capability = torch.backends.cpu.get_cpu_capability()
    libraries = Path(torch.__file__).parent / "lib"
    return [
        *(compiler, "-O3", "-std=c++20", "-shared", "-fPIC", "-fopenmp", "-march=native"),
        *(f"-DCPU_CAPABILITY={capability}", f"-DCPU_CAPABILITY_{capability}"),
        *(f"-I{path}" for path in include_paths()),
        *(f"-L{libraries}", f"-Wl,-rpath,{libraries}", "-ltorch_cpu", "-ltorch", "-lc10"),
    ]
