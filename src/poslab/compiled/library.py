"""The operators of `attention.cpp` and `rows.cpp`, compiled on this machine.

Nothing is compiled or used unless `load_kernel` is called.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import torch

SOURCES = tuple(Path(__file__).with_name(name) for name in ("attention.cpp", "rows.cpp"))

DTYPES = (torch.bfloat16, torch.float32)

COMPILE_TIMEOUT_S = 300

UNFINISHED = "tmp"  # beginning of the names of folders in which a library is made
_enabled = False  # true if the operators are used

_served: list[torch.dtype] = []
"""Types that the loaded operators multiply on this processor: some have no instructions for bfloat16."""


class NoKernelError(ValueError):
    """The operators cannot be compiled or do not run on this machine."""


def serves(x: torch.Tensor) -> bool:
    """Return True if the operators are in use, and compute with a tensor."""
    return _enabled and x.device.type == "cpu" and x.dtype in _served


def disable() -> None:
    """Leave everything to PyTorch from now on."""
    global _enabled
    _enabled = False


def is_compiled(folder: Path) -> bool:
    """Return True if a folder has a whole library for this machine, whichever compiler made it."""
    library = _library(folder)
    if not library.is_file():
        return False
    content = library.read_bytes()  # loading what is cut off would end the process
    return content == _with_digest(content[: -hashlib.sha256().digest_size])


def compile_kernel(folder: Path) -> None:
    """Compile the operators for this machine, which takes about 15 seconds.

    NoKernelError if there is no compiler, it fails, or the folder cannot be written.

    Args:
        folder: folder of this user's libraries, made if it is missing. A library is kept under a hash of everything
            that it depends on.
    """
    compiler = _compiler()
    name = shlex.join(compiler)
    library = _library(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(f"{UNFINISHED}*"):  # by processes that were killed while they compiled
            with contextlib.suppress(OSError):  # another process may remove it
                if time.time() - left.stat().st_mtime > 2 * COMPILE_TIMEOUT_S:
                    shutil.rmtree(left)
        # Under its own name until it is whole: several processes may compile at once.
        with tempfile.TemporaryDirectory(dir=folder, prefix=UNFINISHED) as unfinished:
            made = Path(unfinished) / library.name
            _run([*compiler, *map(str, SOURCES), *_settings(), "-o", str(made)])
            made.write_bytes(_with_digest(made.read_bytes()))
            made.replace(library)
    except subprocess.CalledProcessError as error:
        lines = [line for line in error.stderr.splitlines() if "error" in line]
        first = lines[0] if lines else error.stderr[:200] or f"exit status {error.returncode}"
        raise NoKernelError(f"{name} cannot compile Poslab's operators: {first}") from error
    except subprocess.TimeoutExpired as error:
        raise NoKernelError(f"{name} cannot compile Poslab's operators in {COMPILE_TIMEOUT_S} seconds") from error
    except OSError as error:
        raise NoKernelError(f"{name} cannot compile Poslab's operators: {error}") from error


def _run(command: list[str]) -> None:
    """Run a compiler, and end the processes that it started with it; errors as of `subprocess.run`."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        process_group=0,
    )
    with process:
        try:
            _, message = process.communicate(timeout=COMPILE_TIMEOUT_S)
        except BaseException:  # Ctrl-C too, which reaches only this process
            os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, stderr=message)


def _with_digest(library: bytes) -> bytes:
    """Return the bytes of a library and, behind its end, which no loader reads, their digest."""
    return library + hashlib.sha256(library).digest()


def load_kernel(folder: Path) -> None:
    """Use the operators from now on, compiled first unless a folder has them; arguments as of `compile_kernel`.

    NoKernelError if they cannot be compiled, or the processor lacks their instructions.
    """
    global _enabled
    if not hasattr(torch.ops.poslab_kernel, "attend"):
        if not is_compiled(folder):
            compile_kernel(folder)
        try:
            torch.ops.load_library(str(_library(folder)))
        except (OSError, RuntimeError) as error:
            raise NoKernelError(f"the compiled attention cannot be loaded: {error}") from error
        for dtype in DTYPES:
            x = torch.ones(1, 1, 16, 16, dtype=dtype)
            with contextlib.suppress(RuntimeError):
                torch.ops.poslab_kernel.attend(x, x, x, None, 0, 16, 1.0, *[None] * 5)
                _served.append(dtype)
    if not _served:
        raise NoKernelError("oneDNN has no products for this processor")
    _enabled = True


def _library(folder: Path) -> Path:
    """Return the path of the library of this source, this torch and this processor, whose instructions it may need."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else [platform.processor()]
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), lines[0])
    facts = (*(source.read_bytes() for source in SOURCES), torch.__version__, flags, *_settings())
    return folder / f"operators_{hashlib.sha256(repr(facts).encode()).hexdigest()[:16]}.so"


def _compiler() -> list[str]:
    """Return the words that call the compiler of this machine: `CXX` may name one behind a cache."""
    try:
        chosen = shlex.split(os.environ.get("CXX", ""))
    except ValueError as error:
        raise NoKernelError(f"CXX must be a command, got {os.environ['CXX']!r}: {error}") from error
    for first, *others in filter(None, (chosen, ["g++"], ["clang++"], ["c++"])):
        if path := shutil.which(first):
            return [path, *others]
    raise NoKernelError("no C++ compiler is installed")


def _settings() -> list[str]:
    """Return how the compiler compiles for this machine."""
    from torch.utils.cpp_extension import include_paths

    capability = torch.backends.cpu.get_cpu_capability()
    libraries = Path(torch.__file__).parent / "lib"
    return [
        *("-O3", "-std=c++20", "-shared", "-fPIC", "-fopenmp", "-march=native"),
        *(f"-DCPU_CAPABILITY={capability}", f"-DCPU_CAPABILITY_{capability}"),
        *(f"-I{path}" for path in include_paths()),
        *(f"-L{libraries}", f"-Wl,-rpath,{libraries}", "-ltorch_cpu", "-ltorch", "-lc10"),
    ]
