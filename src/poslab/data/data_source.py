"""The base class of all datasets that a configuration can name; it imports nothing slow."""

from dataclasses import dataclass
from typing import Any, ClassVar, dataclass_transform

from poslab.arguments import with_checked_arguments
from poslab.data.kinds.kind import Kind


@dataclass_transform(kw_only_default=True)
class DataSource:
    """A source of text, of examples, of an algorithmic task, or of arrays such as images.

    Every subclass is a dataclass: its attributes with an annotation are arguments, given by keyword and checked.
    """

    split_version: ClassVar[int] = 1
    """Version of the rule that divides its examples into splits. From 2 on, near-copies stay together."""

    @property
    def kind(self) -> Kind:
        """The kind of its data, by which its task is found."""
        raise NotImplementedError

    def prepare(self, joined: bool = False) -> Any:
        """Write the data that `open` reads, unless it is there; `joined` is True if texts of a pair are read as one."""

    def open(self, joined: bool = False) -> Any:
        """Return training, validation and test, which are prepared first if they are not yet."""
        raise NotImplementedError

    def reaches(self) -> list[str]:
        """Return what it reads beyond the files of this machine, or writes outside the user's cache, in a few words.

        A run of somebody else does so only after `trust=data`.
        """
        return []

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        with_checked_arguments(dataclass(kw_only=True)(cls))
