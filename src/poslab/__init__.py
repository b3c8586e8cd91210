"""Poslab: a laboratory for positional encodings."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from poslab.loading import load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    """Imports `load` when it is first used: `import poslab` alone takes no torch."""
    if name == "load":
        from poslab.loading import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
