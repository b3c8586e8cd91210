"""Packages in the current directory, which the command `poslab` imports only if `trust=` names them.

`python -m src.train` and `python -m poslab` have the whole directory on their path, as Python does it.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

from poslab.configuration.build import DATA


class OwnPackages(MetaPathFinder):
    """Finds some packages in a directory, after everything that is installed.

    What such a package imports is found there too: its directory is on the path once it is imported, and no sooner, so
    that a file there named as a library, or as a plugin of Hydra, is not run by itself.

    Args:
        names: top-level names of the packages.
        directory: that holds them.
    """

    def __init__(self, names: Sequence[str], directory: str) -> None:
        self._names = names
        self._directory = directory

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if path is not None or fullname not in self._names:
            return None
        found = PathFinder.find_spec(fullname, [self._directory])
        if found is not None and self._directory not in sys.path:
            sys.path.append(self._directory)
        return found


def find_trusted_packages(words: Sequence[str]) -> None:
    """Let the packages that `trust=` names on a command line be imported from the current directory."""
    named = [word.partition("=")[2] for word in words if word.lstrip("+").startswith("trust=")]
    names = [name.partition(".")[0] for name in re.findall(r"[\w.]+", " ".join(named)) if name != DATA]
    if names and not sys.flags.safe_path:
        sys.meta_path.append(OwnPackages(names, os.getcwd()))
