"""The English text of the Python reference, which every Python carries in its standard library."""

import hashlib
from functools import cached_property
from typing import TYPE_CHECKING

from poslab.data.columns import as_examples
from poslab.data.corpus import Corpus

if TYPE_CHECKING:
    from datasets import Dataset


class PythonDocs(Corpus):
    """`pydoc_data.topics` as one document, its topics in alphabetical order: some 465 kB, half prose and half code.

    Its topics contain one another, so `deduplicate` is on by default; without it most of the test text may be in
    training too.
    """

    deduplicate: bool = True

    title = "python_docs"

    @property
    def has_few_documents(self) -> bool:
        return True

    @cached_property
    def identity(self) -> str:
        return hashlib.sha256(reference_text().encode()).hexdigest()

    def documents(self) -> "dict[str, Dataset]":
        return {"train": as_examples(text=[reference_text()])}


def reference_text() -> str:
    """Return all topics, joined by blank lines."""
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name] for name in sorted(topics))
