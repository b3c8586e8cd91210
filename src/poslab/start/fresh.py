"""The encoding's own initial values."""

from __future__ import annotations

from collections.abc import Iterable

from poslab.models import Model
from poslab.start.base import Reading, Start


class Fresh(Start):
    """The encoding begins with its own initial values, the default."""

    needs_earlier = False

    def apply(self, model: Model, earlier: Model, readings: Iterable[Reading] = ()) -> list[str]:
        return []
