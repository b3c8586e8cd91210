"""The slow steps of an evaluation: announced with the time that is left, and kept until it is written."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from poslab.io.files import replacing
from poslab.report.text import roughly

StepRunner = Callable[[str, float, Callable[[], np.ndarray]], np.ndarray]
"""Returns the numbers that a function makes: of a label, its work in any unit, and the function."""


def at_once(label: str, work: float, make: Callable[[], np.ndarray]) -> np.ndarray:
    """Return the numbers of a step, neither announced nor kept."""
    return make()


class Progress:
    """Progress of an evaluation through its parts, and their steps.

    Args:
        announce: called with the part, or with the step that begins and the estimated time until its part ends.
        kept: folder with the numbers of finished steps, from which an evaluation that was killed continues; None keeps
            nothing.
        clock: seconds.
    """

    def __init__(
        self,
        announce: Callable[[str], None] = lambda text: None,
        kept: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._announce, self._kept, self._clock, self._part = announce, kept, clock, ""
        self.begin("")

    def begin(self, part: str, work: float = 1) -> None:
        """Announce a part, whose steps have so much work together."""
        if part != self._part:
            self._announce(f"{part} ...")
        self._part, self._left, self._made, self._began = part, work, 0.0, self._clock()

    def step(self, label: str, work: float, make: Callable[[], np.ndarray]) -> np.ndarray:
        """Return the numbers of a step, which are made unless they are kept; its label is like no other of its part."""
        file = None
        if self._kept is not None:
            file = self._kept / f"{hashlib.sha256(f'{self._part} {label}'.encode()).hexdigest()}.npy"
        numbers = None if file is None else _read(file)
        if numbers is None:
            taken = (self._clock() - self._began) / self._made if self._made else None
            left = "" if taken is None else f", {roughly(taken * self._left)} left in this part"
            self._announce(f"{self._part}: {label}{left}")
            numbers = make()
            self._made += work
            if file is not None:
                self._keep(file, numbers)
        elif not self._made:
            self._began = self._clock()
        self._left -= work
        return numbers

    def of(self, name: str) -> StepRunner:
        """Return what makes steps of a model, whose labels begin with its name."""
        return lambda label, work, make: self.step(f"{name}, {label}", work, make)

    def _keep(self, file: Path, numbers: np.ndarray) -> None:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with replacing(file) as opened:
                np.save(opened, numbers, allow_pickle=False)
        except OSError:  # a cache that cannot be written, or is full
            self._kept = None

    def forget(self) -> None:
        """Delete the numbers of finished steps, once they are written elsewhere."""
        if self._kept is not None:
            shutil.rmtree(self._kept, ignore_errors=True)


def _read(file: Path) -> np.ndarray | None:
    """Return the numbers in a file; None if there are none that can be read."""
    try:
        numbers: np.ndarray = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return numbers
