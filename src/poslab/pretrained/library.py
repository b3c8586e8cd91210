"""The transformers package, which is optional."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def require_transformers(purpose: str) -> None:
    """Raise ValueError, beginning with the purpose, if transformers is missing or of another major version."""
    try:
        found = version("transformers")
    except PackageNotFoundError:
        found = "none"
    major, _, rest = found.partition(".")
    if major != "5" or int(rest.partition(".")[0]) < 20:
        raise ValueError(
            f"{purpose} needs transformers from 5.20 to below 6, got {found}: pip install -e '.[pretrained]'"
        )
