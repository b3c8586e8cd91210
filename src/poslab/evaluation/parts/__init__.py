"""The parts of an evaluation, a file each, which is all that a new one needs: its name is that of the file.

A file has `PLACE`, where its section stands in the report, and `make(subjects, settings)`, which returns an
`Evaluation` of its section, metrics and frames, or an empty one where it has nothing to show.
"""

from __future__ import annotations

import pkgutil


def names() -> list[str]:
    """Return the names of all parts, importing none: a command line is checked before anything slow is imported."""
    return [module.name for module in pkgutil.iter_modules(__path__)]
