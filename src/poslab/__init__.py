"""Poslab: a laboratory for positional encodings."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from poslab.pretrained.borrow import borrow, exchange
    from poslab.pretrained.inspection import inspect_positions
    from poslab.runs.loading import export, load, serve

    __version__: str

__all__ = ["__version__", "borrow", "exchange", "export", "inspect_positions", "load", "serve"]


def __getattr__(name: str) -> Any:
    """Import these when they are first used: `import poslab` imports no torch."""
    if name in ("borrow", "exchange"):
        from poslab.pretrained import borrow as borrowing

        return getattr(borrowing, name)
    if name == "export":
        from poslab.runs.loading import export

        return export
    if name == "inspect_positions":
        from poslab.pretrained.inspection import inspect_positions

        return inspect_positions
    if name == "load":
        from poslab.runs.loading import load

        return load
    if name == "serve":
        from poslab.runs.loading import serve

        return serve
    if name == "__version__":
        from importlib.metadata import version

        return version("poslab")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names, those that are not imported yet too."""
    return sorted({*globals(), *__all__} - {"TYPE_CHECKING", "Any"})
