"""The base class of all sources of text."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from poslab.arguments import Count
from poslab.data.kinds.kind import WINDOWS
from poslab.data.source import Source

if TYPE_CHECKING:
    from datasets import Dataset

    from poslab.data.text_splits import TextSplits


class Corpus(Source):
    """A source of text and the settings of its windows of tokens. Subclasses provide the text.

    Args:
        sequence_length: tokens T of a training window, at least 1 (default 256).
        length_multiples: evaluate windows of each of these times `sequence_length` that validation and test fill; 1 is
            among them (default 1, 2, 4, 8).
        deduplicate: drop repeated paragraphs, and drop from validation and test what training still holds; needs the
            text in memory.
        document_boundaries: number the documents of a window (`TokenBatch.segments`) and predict nothing across
            their boundaries; otherwise documents follow one another as one text.
        others: those of `Source`; a batch is of windows.
    """

    kind = WINDOWS

    sequence_length: Count = 256
    length_multiples: Sequence[Count] = (1, 2, 4, 8)
    deduplicate: bool = False
    document_boundaries: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if 1 not in self.length_multiples:
            raise ValueError(f"length_multiples must hold 1, the training length, got {list(self.length_multiples)}")

    @property
    def longest(self) -> int:
        """Tokens of the longest evaluation window."""
        return self.sequence_length * max(self.length_multiples)

    @property
    def has_few_documents(self) -> bool:
        """True if there are too few to hold whole ones out, so that they are cut into parts first."""
        return False

    @property
    def streaming(self) -> bool:
        """True if training reads the text from its source, and only its beginning is prepared."""
        return False

    def prepare(self, joined: bool = False) -> Path:
        from poslab.data.preparation import prepare

        return prepare(self)

    def open(self, joined: bool = False) -> "TextSplits":
        from poslab.data.text_splits import TextSplits

        return TextSplits(self, self.prepare())

    @abstractmethod
    def documents(self) -> "dict[str, Dataset]":
        """Return the text by split, a document a row in a column `text`: `train`, and any held-out split of its own."""

    def training_batches(self, epoch: int, batch_size: int) -> Iterator[list[str]]:
        """Return one pass over a streamed training text, in the order of this epoch, as lists of documents."""
        raise NotImplementedError(f"{type(self).__name__} is not streamed")
