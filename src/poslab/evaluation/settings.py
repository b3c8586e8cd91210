"""Settings of an evaluation, checked without importing torch, and the progress of its slow steps."""

from __future__ import annotations

import hashlib
import re
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from poslab.arguments import Count, Range, nearest, shown, with_checked_arguments
from poslab.configuration.command_line import LENGTH, whole_tokens
from poslab.evaluation.parts import names
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
        file, numbers = None, None
        if self._kept is not None:
            file = self._kept / f"{hashlib.sha256(f'{self._part} {label}'.encode()).hexdigest()}.npy"
            with suppress(OSError, ValueError, EOFError):  # there are none, or none that can be read
                numbers = np.load(file, allow_pickle=False)
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
        """Return what makes steps of a model, whose labels start with its name."""
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


@with_checked_arguments
@dataclass(frozen=True)
class Retrieval:
    """Prompts of the part `retrieval`; None is the default of `parts/retrieval.py`.

    Args:
        tasks: names of tasks.
        lengths: most tokens of a prompt with its answer.
        depths: of the fact to be found, from 0 to 1.
        prompts: number of prompts of each task, length and depth.
    """

    tasks: Sequence[str] | None = None
    lengths: Sequence[Count] | None = None
    depths: Sequence[Annotated[float, Range(0, 1)]] | None = None
    prompts: Count | None = None

    def __post_init__(self) -> None:
        for name in ("tasks", "lengths", "depths"):
            if getattr(self, name) is not None and not getattr(self, name):
                raise ValueError(f"{name} must not be empty; null is the default")


@with_checked_arguments
@dataclass(frozen=True)
class Settings:
    """Settings of the parts of an evaluation.

    Args:
        parts: names of the files in `parts` to run; None is all.
        lengths: window lengths in tokens; None is 1, 2, 4, 8 and 16 times the training length, as far as the text
            fills them.
        stride: tokens between the starts of sliding windows, at most the shortest of `lengths`; None is half of each
            window.
        text: shown token by token with its attention; None is the beginning of the evaluated text.
        seed: of the bootstrap and of retrieval prompts.
        retrieval: prompts of the part `retrieval`.
        progress: of the parts through their slow steps.
    """

    parts: Sequence[str] | None = None
    lengths: Sequence[Count] | None = None
    stride: Count | None = None
    text: str | None = None
    seed: Annotated[int, Range(0, 2**32 - 1)] = 1
    retrieval: Retrieval = Retrieval()
    progress: Progress = field(default_factory=Progress, compare=False)

    def __post_init__(self) -> None:
        known = names()
        if self.parts is not None and (wrong := next((part for part in self.parts if part not in known), "")):
            raise ValueError(f"parts must be of {', '.join(known)}, got {wrong}{nearest(wrong, known)}")
        for name in ("parts", "lengths", "text"):
            if getattr(self, name) is not None and not getattr(self, name):
                raise ValueError(f"{name} must not be empty; null is the default")
        in_tokens = [length for length in self.lengths or () if isinstance(length, int)]  # a request has multiples too
        if in_tokens and self.stride is not None and self.stride > (shortest := min(in_tokens)):
            raise ValueError(f"stride must lie between 1 and the shortest of lengths, {shortest}, got {self.stride}")


@with_checked_arguments
@dataclass(frozen=True)
class Request(Settings):
    """An evaluation as a command line requests it.

    Args:
        split: split of the text of each run.
        tokens: number of its tokens to read, from the beginning; None is all.
        device: of the models; `auto` is a GPU if there is one.
        output: directory of the results; None is the one in the run, or a new one.
        figure_width: in inches of plots as PDF; None is the width in the page.
        trust: packages that define parts of the runs.
        typed: words of the command line, for the report.
        lengths: as in the settings, or multiples of the training length such as `0.5x`.
    """

    split: Literal["test", "validation"] = "test"
    tokens: Annotated[int, Range(at_least=2)] | None = None
    device: str = "auto"
    output: str | Path | None = None
    figure_width: Annotated[float, Range(3, 20)] | None = None
    trust: Sequence[str] = ()
    typed: Sequence[str] = ()
    lengths: Any = None

    def __post_init__(self) -> None:
        is_list = isinstance(self.lengths, Sequence) and not isinstance(self.lengths, str)
        if self.lengths is not None and not (is_list and all(re.fullmatch(LENGTH, str(n)) for n in self.lengths)):
            raise ValueError(
                f"lengths must be a list of integers such as 512, or multiples such as 4x, got {shown(self.lengths)}"
            )
        super().__post_init__()

    def with_tokens(self, trained: int) -> Request:
        """Return the request with lengths in tokens, by the training length `trained`."""
        if self.lengths is None:
            return self
        return replace(self, lengths=[whole_tokens(length, trained) for length in self.lengths])
