"""Parts of an evaluation, one file each, named as the part; a new part needs nothing else.

A file has `PLACE`, the place of its section in the report, and `make(subjects, settings)`, which returns an
`Evaluation` with its section, metrics and frames, or an empty one.
"""

from __future__ import annotations

import pkgutil


def names() -> list[str]:
    """Return the names of all parts without importing them: a command line is checked before any slow import."""
    return [module.name for module in pkgutil.iter_modules(__path__)]
