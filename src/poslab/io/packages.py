"""Files that installed Python packages carry, found without an import: some packages then print or download."""

import importlib.util
from pathlib import Path

PACKAGE = "package:"
"""The beginning of a path in a package, such as `package:some_package/folder`."""


class NotInstalledError(ValueError):
    """Data or a package that a dataset needs is not installed on this machine; the settings may be right."""


def package_folder(name: str) -> Path | None:
    """Return the folder of an installed package by its name in Python; None if it is not installed."""
    spec = importlib.util.find_spec(name)
    places = None if spec is None else spec.submodule_search_locations
    return Path(next(iter(places))) if places else None


def in_package(path: str) -> str:
    """Return a path with the folder of the package that it begins with; any other path as it is.

    Raises:
        NotInstalledError: beginning with `path`, if the package is not installed.
    """
    if not path.startswith(PACKAGE):
        return path
    name, _, rest = path.removeprefix(PACKAGE).partition("/")
    folder = package_folder(name) if name.isidentifier() else None
    if folder is None:
        distribution = name.replace("_", "-")
        raise NotInstalledError(f"path={path} needs the package {distribution}: pip install --no-deps {distribution}")
    return str(folder / rest)
