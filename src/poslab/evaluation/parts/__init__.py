"""The parts of an evaluation, a file each, which is all that a new one needs: its name is that of the file.

A file has `PLACE`, where its section stands in the report, and `make(subjects, settings)`, which returns an
`Evaluation` of its section, metrics and frames, or an empty one where it has nothing to show.
"""

from __future__ import annotations

import pkgutil

NAMES = tuple(module.name for module in pkgutil.iter_modules(__path__))
"""Of the parts, none of which is imported here: a command line is checked before anything slow is."""
