"""Base classes of sources of images and sounds: data sets of the Hugging Face Hub, and folders of files."""

import glob
import hashlib
import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from poslab.data.columns import HubColumns, Splits, as_examples, class_names, is_missing, is_unlabelled
from poslab.data.hub import HubRows
from poslab.data.patched.arrays import PIXELS, require_plain_names
from poslab.data.patched.source import PatchedSource
from poslab.io.files import folder_of, require_regular
from poslab.io.terminal import one_line

if TYPE_CHECKING:
    from datasets import Dataset


MAX_BYTES = 2**30  # most bytes of a file that a row names by its path


class HubArrays(PatchedSource, HubColumns):
    """Files and their classes in the rows of a data set on the Hub: images, or sounds.

    A column has the contents of files, or paths of files on this machine, as `datasets` makes of a folder. Classes, in
    another, have the names that the data set gives them. Rows without a file or a class (-1 or null) are left out.
    """

    label: str = "label"

    file_argument: ClassVar[str]  # the argument that names the column of files
    file_type: ClassVar[str]  # the name of the type of that column in `datasets`

    def examples(self) -> Splits:
        return self._examples

    def files(self, numbers: Sequence[int]) -> Iterator[tuple[BytesIO, str]]:
        """Yield the contents of the files of examples by number, and their names for messages."""
        for number in numbers:
            argument, row = self._located[number]
            yield BytesIO(self._content(self._tables[argument][row], number)), self._named(number)

    @cached_property
    def _examples(self) -> Splits:
        splits, first = {}, 0
        for argument, rows in self._tables.items():
            examples = []
            feature = rows.features["label"]
            name = class_names(feature, self.label)
            for number, row in enumerate(rows, first):
                file = row[self.file_argument] or {}
                has_file = any(part is not None for part in file.values())
                if not has_file or any(map(is_missing, row.values())) or is_unlabelled(row["label"], feature):
                    continue
                content = hashlib.sha256(self._content(row, number)).hexdigest()
                of_document = {} if self.document is None else {"document": row["document"]}
                examples.append({"content": content, "label": name(row["label"]), "number": number, **of_document})
            if not examples:
                raise ValueError(self._without_classes(argument))
            self._check_examples(examples)
            columns = {column: [example[column] for example in examples] for column in examples[0]}
            splits[argument.removesuffix("_split")] = as_examples(**columns)
            first += len(rows)
        return splits

    def _check_examples(self, examples: list[dict[str, Any]]) -> None:
        """Raise ValueError for examples of a split whose mistake the user can correct; a data set has its own."""

    def _without_classes(self, argument: str) -> str:
        """Return the message for a split without any class."""
        return f"{argument} must have classes, and no row of {self.splits[argument]!r} has one"

    @cached_property
    def _tables(self) -> "dict[str, Dataset]":
        """The rows of each split, whose files are not decoded, by the argument that names it."""
        return {argument: self._encoded(self.rows(argument, split)) for argument, split in self.splits.items()}

    def _encoded(self, rows: "Dataset") -> "Dataset":
        feature, column = rows.features[self.file_argument], self.columns[self.file_argument]
        mistake = f"{self.file_argument} must contain {self.kind.name}s, and {column!r} contains {feature}"
        if type(feature).__name__ != self.file_type and not (isinstance(feature, dict) and "bytes" in feature):
            raise ValueError(mistake)
        try:
            return self._undecoded(rows)
        except (NotImplementedError, TypeError) as error:  # as Arrow raises for parts that contain something else
            raise ValueError(mistake) from error

    def _undecoded(self, rows: "Dataset") -> "Dataset":
        import datasets

        return rows.cast_column(self.file_argument, getattr(datasets, self.file_type)(decode=False))

    def _content(self, row: dict[str, Any], number: int) -> bytes:
        file = row[self.file_argument]
        if file["bytes"] is not None:
            return file["bytes"]
        try:
            path = Path(file["path"])
            require_regular(path)
            if (size := path.stat().st_size) > MAX_BYTES:
                raise ValueError(f"it has {size:,} bytes")
            with path.open("rb") as opened:
                return opened.read(size)  # not to its end, which some files of the system do not have
        except (OSError, TypeError, ValueError) as error:
            reason = one_line(str(error))
            raise ValueError(
                f"{self.file_argument} must have files, but the file of {self._named(number)} cannot be read: {reason}"
            ) from error

    def _named(self, number: int) -> str:
        argument, row = self._located[number]
        return f"row {row} of {self.splits[argument]!r}"

    @cached_property
    def _located(self) -> list[tuple[str, int]]:
        """The argument of the split of each example, whose number counts the rows of all, and its row there."""
        return [(argument, row) for argument, rows in self._tables.items() for row in range(len(rows))]


class FolderArrays(HubArrays):
    """Files in one folder for each class, which has its name, or in a folder whose `metadata.csv` has their classes.

    Args:
        path: the folder. A `metadata.csv` in it has the columns `file_name` and `label`.
    """

    folder_format: ClassVar[str]  # the format of such folders in `datasets`

    def check(self) -> None:
        if str(self.path).endswith((".csv", ".tsv")):
            raise ValueError(
                f"path must be a folder, whose metadata.csv has the columns file_name and label, got {self.path!r}"
            )
        folder_of("path", str(self.path))
        super().check()

    @cached_property
    def _kept_rows(self) -> HubRows:
        from datasets import Features, Value

        folder = folder_of("path", str(self.path)).absolute()
        entries = glob.glob(f"{glob.escape(str(folder))}/**", recursive=True)
        for entry in entries:
            if os.path.islink(entry) and not os.path.exists(entry):
                raise ValueError(f"path must contain {self.kind.name}s, but {entry!r} is a link that leads nowhere")
        require_plain_names("path", {os.path.basename(entry) for entry in entries if os.path.isdir(entry)})
        if not any(map(os.path.isfile, entries)):
            raise ValueError(self._without_classes("train"))
        # Paths as text, unless a table has further columns: `datasets` encodes sounds only with the package torchcodec.
        columns = {} if any(folder.glob("metadata.*")) else dict.fromkeys(self.columns.values(), Value("string"))
        options = {"features": Features(columns)} if columns else {}
        files = self.data_files or {"train": f"{glob.escape(str(folder))}/**"}
        return HubRows(self.cache, self.folder_format, self.name, files, options=options, argument="path")

    def _check_examples(self, examples: list[dict[str, Any]]) -> None:
        """Raise ValueError for equal files of two classes, of which only one can be right."""
        first: dict[str, dict[str, Any]] = {}
        for example in examples if self.deduplicate and self.kind is not PIXELS else ():
            if (earlier := first.setdefault(example["content"], example))["label"] != example["label"]:
                files = " and ".join(self._named(number) for number in (earlier["number"], example["number"]))
                raise ValueError(
                    f"path must contain files of one class each, but {files} are equal: delete one, or keep both with "
                    "dataset.deduplicate=false"
                )

    def _without_classes(self, argument: str) -> str:
        return (  # `datasets` takes names of folders for classes only then
            f"path must have a folder of {self.kind.name}s for each class, at least two and none within another, or a "
            f"metadata.csv with classes, got {self.path!r}"
        )

    _encoded = HubArrays._undecoded

    def _named(self, number: int) -> str:
        argument, row = self._located[number]
        return repr(self._tables[argument][row][self.file_argument]["path"])
