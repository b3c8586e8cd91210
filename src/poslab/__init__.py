"""Poslab: a laboratory for positional encodings."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from poslab.pretrained.borrow import borrow, exchange
    from poslab.runs.exporting import export
    from poslab.runs.loading import load
    from poslab.runs.serving import serve

__all__ = ["borrow", "exchange", "export", "load", "serve"]


def __getattr__(name: str) -> Any:
    """Import these when they are first used: `import poslab` alone imports no torch."""
    if name in ("borrow", "exchange"):
        from poslab.pretrained import borrow as borrowing

        return getattr(borrowing, name)
    if name == "export":
        from poslab.runs.exporting import export

        return export
    if name == "load":
        from poslab.runs.loading import load

        return load
    if name == "serve":
        from poslab.runs.serving import serve

        return serve
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
