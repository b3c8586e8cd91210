import glob
import importlib.util
import logging
import multiprocessing
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import absl.logging
import numpy as np
import pytest
import torch
from filelock import FileLock

from poslab.compiled import library

pytest_plugins = ["tests.storages"]

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "docs"))  # as for `python docs/make.py`: a script imports what lies next to it

# Two workers with two threads each get in each other's way on two cores: tests of small models then take four times as
# long. The variable is for the commands that tests start.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"
# Tests write thousands of files and databases that reach the disk before they go on. In memory that takes no time.
IN_MEMORY, BYTES_OF_TESTS = Path("/dev/shm"), 2**31
if os.access(IN_MEMORY, os.W_OK):
    memory = os.statvfs(IN_MEMORY)
    if memory.f_bavail * memory.f_frsize > BYTES_OF_TESTS and not memory.f_flag & os.ST_NOEXEC:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(IN_MEMORY))
# A process that is forked begins where these have been imported, which takes a new interpreter five seconds or more.
multiprocessing.set_forkserver_preload(["datasets", "lightning", "optuna", "pandas", "scipy.stats", "transformers"])
# What torch.compile makes in tests runs for less time than a C++ compiler takes to optimise it.
os.environ["TORCHINDUCTOR_DEBUG_COMPILE"] = "1"

# The handler that absl adds when it is imported closes its stream when Hydra sets up logging. Unless it is the standard
# error, that is the file in which pytest captures it, and every later test of this process fails.
absl.logging.get_absl_handler().python_handler.stream = sys.__stderr__


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test that needs a path or glob, a program or a Python package which this machine lacks."""
    for name in (name for mark in item.iter_markers("needs") for name in mark.args):
        if not (glob.glob(name) if name.startswith("/") else shutil.which(name) or importlib.util.find_spec(name)):
            pytest.skip(f"needs {name}")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests that take longest, which say so by a timeout, so that no worker waits for another's."""
    items.sort(key=lambda item: -sum(mark.args[0] for mark in item.iter_markers("timeout")))


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test draws the same numbers, whatever ran before it.

    `torch.manual_seed` would also note for each kind of device that is not there where it was called: a millisecond.
    """
    torch.default_generator.manual_seed(0)


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers of NumPy, the same for every test."""
    return np.random.default_rng(0)


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Every test takes the handlers along that it adds to the root logger: later tests have other streams."""
    before = logging.root.handlers[:]
    yield
    for handler in logging.root.handlers[:]:
        if handler not in before and not type(handler).__module__.startswith("_pytest"):
            logging.root.removeHandler(handler)
            handler.close()


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """Makes a folder of a name once for all tests of all workers, and returns it: copy it before you change it."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent  # each worker has a folder of its own in there

    def once(name: str, make: Callable[[Path], object]) -> Path:
        folder, made = shared / name, shared / f"{name}.made"
        with FileLock(shared / f"{name}.lock"):
            if not made.exists():
                make(folder)
                made.touch()
        return folder

    return once


@pytest.fixture(scope="session")
def operators(once: Callable[..., Path]) -> Path:
    """The folder of the compiled operators; skips where they cannot be compiled."""
    try:
        return once("operators", library.compile_kernel)
    except library.NoKernelError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def trained_run(once: Callable[..., Path]) -> Path:
    """The directory of a run of four steps."""

    def train(run: Path) -> None:
        command = [sys.executable, "-m", "src.train", "debug=fast", "trainer=cpu", f"hydra.run.dir={run}"]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)

    return once("trained_run", train)
