"""The beginning of an encoding that takes the place of another one: fresh, from rows, or fitted."""

from poslab.start.base import Start

__all__ = ["Start"]
