"""Sources of text, and their splits as windows of tokens. Subclasses of `Corpus` provide the text.

Dimension letters: B windows, T tokens of a window, U = T + 1 (its tokens and the one that follows), E tokens before it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from poslab.arguments import Count
from poslab.data import cache
from poslab.data.kinds import WINDOWS
from poslab.data.preparation import VERSION, TextFacts, check_tokens, split_documents, tokenizer_settings, write_text
from poslab.data.source import HELD_OUT, SPLITS, Collating, DataSplits, Source
from poslab.data.tokenizers import Tokenizer, load_tokenizer

if TYPE_CHECKING:
    from datasets import Dataset

    from poslab.data.batch import Batch, Collate
    from poslab.data.order import BatchPlan

TOKENS_AT_ONCE = 2**24  # tokens of a file that are searched together, which bounds the memory


MAX_COUNTED = 10_000_000  # most tokens of a training text whose frequencies are counted


class Corpus(Source):
    """A source of text and the settings of its windows of tokens. Subclasses provide the text.

    Args:
        sequence_length: tokens T of a training window, at least 1 (default 256).
        length_multiples: evaluate windows of each of these times `sequence_length` that validation and test fill; 1 is
            among them (default 1, 2, 4, 8).
        deduplicate: drop repeated paragraphs, and drop from validation and test what training still contains; needs the
            text in memory.
        document_boundaries: number the documents of a window (`TokenBatch.segments`) and predict nothing across
            their boundaries; otherwise documents follow one another as one text.
        others: as in `Source`; a batch is of windows.
    """

    kind = WINDOWS

    sequence_length: Count = 256
    length_multiples: Sequence[Count] = (1, 2, 4, 8)
    deduplicate: bool = False
    document_boundaries: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if 1 not in self.length_multiples:
            raise ValueError(f"length_multiples must contain 1, the training length, got {list(self.length_multiples)}")

    @property
    def longest(self) -> int:
        """Tokens of the longest evaluation window."""
        return self.sequence_length * max(self.length_multiples)

    @property
    def has_few_documents(self) -> bool:
        """True if there are too few to hold whole ones out, so that they are cut into parts first."""
        return False

    def prepare(self, joined: bool = False) -> Path:
        """Make the token files unless they are there; return their folder."""
        self.check()
        settings = {"longest": self.longest} if self.has_few_documents else {}
        settings |= {"version": VERSION, "deduplicate": self.deduplicate}
        folder = self.prepared_folder(**settings, **tokenizer_settings(self))
        if cache.verify_or_discard(folder, check_tokens):
            return folder
        part_length = self.longest if self.has_few_documents else None
        documents = split_documents(self.documents(), self.deduplicate, self.fractions, part_length)
        with cache.new_folder(folder) as temporary:
            write_text(self, documents, temporary)
        return folder

    def open(self, joined: bool = False) -> TextSplits:
        return TextSplits(self, self.prepare())

    @abstractmethod
    def documents(self) -> dict[str, Dataset]:
        """Return the text by split, a document a row in a column `text`: `train`, and any held-out split it has."""


class TextSplits(DataSplits):
    """Windows of a prepared corpus for language modelling.

    Attributes:
        num_tokens: tokens by split; of a stream, no `train`.
        bytes_per_token: by split; turns a loss in nats per token into bits per byte: `loss / ln 2 / bytes_per_token`.
        overlap: as of `TextFacts`; of a stream, with its first documents.
    """

    length_means = "number of tokens of a window"
    measured_text = "training"  # the text of training that is prepared

    source: Corpus

    def __init__(self, corpus: Corpus, folder: Path) -> None:
        facts = cache.read_facts(folder, TextFacts)
        self.source = corpus
        self.state = {"prepared": folder.name}  # the name changes with the tokens
        self.tokenizer = load_tokenizer(folder)
        self._counts = facts.num_tokens
        self.num_tokens = dict(facts.num_tokens)
        self._tokens = {name: cache.TokenFile(folder / f"{name}.bin", facts.dtype) for name in SPLITS}
        self.bytes_per_token = {
            name: bytes_per_token(facts.num_bytes[name], self.tokens(name), self.tokenizer, self.boundary)
            for name in SPLITS
            if facts.num_tokens[name] > 1
        }
        self.overlap = facts.overlap

    def check_training(self, num_earlier: int) -> None:
        length = self.source.sequence_length
        for name, count in self._counts.items():
            if name == "train" and num_earlier and count < (whole := num_earlier + length + 1):
                raise ValueError(
                    f"sequence_length of {length} takes {whole} tokens a window with the {num_earlier} before it that "
                    f"the teacher reads, and train has only {count}"
                )
            if count < length + 1:
                raise ValueError(
                    f"sequence_length of {length} takes {length + 1} tokens a window"
                    f" (one more to predict), and {name} has only {count}"
                )

    def tokens(self, split: str) -> np.ndarray:
        """Return the token ids of a split (`train`, `validation` or `test`), mapped into memory."""
        return self._tokens[split].ids

    @cached_property
    def unigram(self) -> np.ndarray:
        """Nats of each token by its frequency in the training text, (V,): what a model can know without a context."""
        counts = np.bincount(self.tokens("train")[:MAX_COUNTED], minlength=self.tokenizer.vocab_size) + 1.0
        return -np.log(counts / counts.sum())

    @property
    def unigram_loss(self) -> float:
        """Mean nats of the tokens of the test by their frequency in the training text."""
        return float(self.unigram[self.tokens("test")[:MAX_COUNTED]].mean())

    @property
    def lengths(self) -> Sequence[int]:
        """All window lengths of the corpus, ascending."""
        return sorted({self.source.sequence_length * multiple for multiple in self.source.length_multiples})

    def lengths_of(self, split: str, max_length: int | None) -> list[int]:
        """Return the window lengths that both held-out splits fill, up to `max_length`, ascending."""
        return [length for length in self._lengths_up_to(max_length) if length < self.num_tokens[self._shortest]]

    def training_batches(self, task: Collating, plan: BatchPlan) -> Iterable[Batch]:
        from poslab.data.order import IndependentOrder, WindowOrder, training_loader

        corpus, tokens = self.source, self._tokens["train"]
        if plan.draws_independently:
            rows = DrawnWindows(tokens, corpus.sequence_length, task.collate)
            return training_loader(
                rows, plan, IndependentOrder(len(rows), corpus.batch_size, corpus.seed).draws, corpus.num_workers
            )
        repeat = corpus.batch_size if corpus.overfit else None
        order = WindowOrder(len(tokens), corpus.sequence_length, corpus.seed, repeat)
        windows = TrainingWindows(tokens, corpus.sequence_length, task.collate, plan.num_earlier)
        return training_loader(windows, plan, order.items, corpus.num_workers)

    @property
    def num_rows(self) -> int | None:
        return num_windows(self._tokens["train"], self.source.sequence_length)

    def held_out(self, split: str, length: int, task: Collating, max_length: int | None) -> EvaluationWindows:
        if not 1 <= length < (most := self.num_tokens[split]):
            raise ValueError(
                f"lengths must lie between 1 and {most - 1:,}, which the text fills, got {length:,}: the {split} split "
                f"has {most:,} tokens, and more text or a larger dataset.{split}_fraction gives it more"
            )
        return EvaluationWindows(self._tokens[split], length, task.collate)

    def report_lines(self, max_length: int | None) -> list[str]:
        tokens = ", ".join(f"{count:,} {name}" for name, count in self.num_tokens.items())
        shared = ", ".join(f"{100 * share:.2f}% of {name}" for name, share in self.overlap.items())
        is_avoidable = not self.source.deduplicate and max(self.overlap.values(), default=0) >= 0.05
        hint = "; dataset.deduplicate=true drops it" if is_avoidable else ""
        lines = [
            f"{self.source.title}: {tokens} tokens ({self.source.tokenizer}, {self.tokenizer.vocab_size:,})",
            f"overlap with {self.measured_text}: {shared} (60-byte strings{hint})",
        ]
        shown = self.lengths_of("test", max_length)
        if left_out := [f"{length:,}" for length in self._lengths_up_to(max_length) if length not in shown]:
            held = f"{self._shortest} has only {self.num_tokens[self._shortest]:,}"
            lines.append(f"windows of {' and '.join(left_out)} tokens are left out: {held}")
        return lines

    def _lengths_up_to(self, max_length: int | None) -> list[int]:
        """Return the window lengths of the corpus for which the model has positions, ascending."""
        return [length for length in self.lengths if max_length is None or length <= max_length]

    @property
    def _shortest(self) -> str:
        """The held-out split with fewer tokens."""
        return min(HELD_OUT, key=self.num_tokens.__getitem__)

    @property
    def boundary(self) -> int | None:
        """The token that ends a document, where documents are kept apart; None where they are not."""
        return self.tokenizer.end_id if self.source.document_boundaries else None


def bytes_per_token(num_bytes: int, tokens: np.ndarray, tokenizer: Tokenizer, boundary: int | None) -> float:
    """Return the bytes of text per predicted token, which turn nats per token into bits per byte.

    The first token of the text, or of each document where a `boundary` ends it, is not predicted: neither its cost nor
    its bytes count. Ends of documents are tokens without bytes.

    Example: with boundaries, the documents "ab" and "cde" have 3 bytes in 5 predicted tokens: b, d, e and two ends.
    """
    unpredicted = [np.asarray(tokens[:1])]
    if boundary is not None:
        for start in range(0, len(tokens) - 1, TOKENS_AT_ONCE):
            piece = np.asarray(tokens[start : start + TOKENS_AT_ONCE + 1])
            unpredicted.append(piece[1:][piece[:-1] == boundary])
    firsts = np.concatenate(unpredicted)
    return (num_bytes - tokenizer.num_bytes(firsts)) / (len(tokens) - len(firsts))


class WindowRows(NamedTuple):
    """Windows as a task gets them."""

    tokens: np.ndarray  # token ids, (B, U), any integer dtype
    numbers: Sequence[int]  # of the windows, B; random choices in a window are a function of its number
    # token ids of the text before each window, (B, E); None where nobody reads them
    earlier: np.ndarray | None = None


def num_windows(tokens: cache.TokenFile, length: int) -> int:
    """Return the number of windows that do not overlap, the last of which may be shorter."""
    return -(-(len(tokens) - 1) // length)


@dataclass(eq=False)
class Windows:
    """Windows of a token file, with a length in tokens."""

    tokens: cache.TokenFile
    length: int
    collate: Collate


@dataclass(eq=False)
class TrainingWindows(Windows):
    """Windows anywhere in a token file, numbered by their first token."""

    num_earlier: int = 0
    """E, tokens before each window that a batch has too; the end of the file comes before its beginning."""

    def __getitems__(self, starts: Sequence[int]) -> Batch:
        first_B1 = np.asarray(starts)[:, None]
        index_BU = first_B1 + np.arange(self.length + 1)
        index_BE = (first_B1 + np.arange(-self.num_earlier, 0)) % len(self.tokens)
        earlier = self.tokens.ids[index_BE] if self.num_earlier else None
        windows = WindowRows(self.tokens.ids[index_BU], starts, earlier)
        return self.collate(windows, np.ones_like(index_BU, dtype=bool))


class EvaluationWindows(Windows):
    """The non-overlapping windows of a token file, by number. Together they have each token but the first as a target.

    The last window is filled up with tokens that do not count, and every window past it consists of them.
    """

    def __len__(self) -> int:
        return num_windows(self.tokens, self.length)

    @property
    def longest(self) -> int:
        """Tokens of each window."""
        return self.length

    @property
    def num_tokens(self) -> np.ndarray:
        return np.full(len(self), self.length)

    def __getitems__(self, numbers: Sequence[int]) -> Batch:
        return self.batch(numbers, numbers)

    def batch(self, places: Sequence[int], numbers: Sequence[int]) -> Batch:
        """Return the windows at some indices, by whose numbers a task makes its random choices."""
        index_BU = self.length * np.asarray(places)[:, None] + np.arange(self.length + 1)
        last = len(self.tokens) - 1
        return self.collate(WindowRows(self.tokens.ids[np.minimum(index_BU, last)], numbers), index_BU <= last)


class DrawnWindows(EvaluationWindows):
    """The same windows by numbers of draws, as `IndependentOrder.draws` has them: no two steps share one."""

    def __getitems__(self, draws: Sequence[int]) -> Batch:
        return self.batch([draw % (len(self) + 1) for draw in draws], draws)
