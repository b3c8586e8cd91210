"""The splits of a corpus, as windows of tokens."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from poslab.data import cache
from poslab.data.loaders import RunLoader, training_loader
from poslab.data.order import BatchPlan, IndependentOrder, WindowOrder
from poslab.data.run_data import HELD_OUT, Collating, DataSplits
from poslab.data.streaming import StreamLoader
from poslab.data.tokenizers import Tokenizer, load_tokenizer
from poslab.data.windows import DrawnWindows, EvaluationWindows, TrainingWindows, num_windows

TOKENS_AT_ONCE = 2**24
"""Tokens of a file that are searched together, which bounds the memory."""


class TextSplits(DataSplits):
    """Windows of a prepared corpus for language modelling.

    Args:
        corpus: the text and its settings.
        folder: of its prepared tokens.

    Attributes:
        num_tokens: tokens by split; of a stream, no `train`.
        bytes_per_token: bytes of text per predicted token by split, see `bytes_per_token`. It turns a loss in nats per
            token into bits per byte: `loss / ln 2 / bytes_per_token`.
        overlap: share of the bytes of `validation` and `test` inside 60-byte strings that training, or the first
            documents of a stream, hold too.
    """

    length_means = "number of tokens of a window"

    def __init__(self, corpus: Any, folder: Path) -> None:
        facts = cache.read_facts(folder, cache.Facts)
        self.corpus = corpus
        self.state = {"prepared": folder.name}  # the name changes with the tokens
        self.tokenizer = load_tokenizer(folder)
        self._counts = facts.num_tokens
        self.num_tokens = {name: n for name, n in facts.num_tokens.items() if name in HELD_OUT or not corpus.streaming}
        self._tokens = {name: cache.TokenFile(folder / f"{name}.bin", facts.dtype) for name in cache.SPLITS}
        self.bytes_per_token = {
            name: bytes_per_token(facts.num_bytes[name], self.tokens(name), self.tokenizer, self.boundary)
            for name in cache.SPLITS
            if facts.num_tokens[name] > 1
        }
        self.overlap = facts.overlap

    def check_training(self, num_earlier: int) -> None:
        length = self.corpus.sequence_length
        for name, count in self._counts.items():
            if name == "train" and num_earlier and count < (whole := num_earlier + length + 1):
                raise ValueError(
                    f"sequence_length of {length} takes {whole} tokens a window with the {num_earlier} before it that "
                    f"the teacher reads, and train holds only {count}"
                )
            if count < length + 1:
                raise ValueError(
                    f"sequence_length of {length} takes {length + 1} tokens a window"
                    f" (one more to predict), and {name} holds only {count}"
                )

    def tokens(self, split: str) -> np.ndarray:
        """Return the token ids of a split (`train`, `validation` or `test`), mapped into memory."""
        return self._tokens[split].ids

    @property
    def lengths(self) -> Sequence[int]:
        """All window lengths of the corpus, ascending."""
        return sorted({self.corpus.sequence_length * multiple for multiple in self.corpus.length_multiples})

    @property
    def longest_trained(self) -> int:
        return self.corpus.sequence_length

    def lengths_of(self, split: str, max_length: int | None) -> list[int]:
        """Return the window lengths that both held-out splits fill, up to `max_length`, ascending."""
        return [length for length in self._lengths_up_to(max_length) if length < self.num_tokens[self._shortest]]

    def training_batches(
        self, task: Collating, plan: BatchPlan, draws_independently: bool, num_earlier: int
    ) -> RunLoader | StreamLoader:
        corpus = self.corpus
        if corpus.streaming:
            return StreamLoader(corpus, self.tokenizer, task.collate, plan)
        tokens = self._tokens["train"]
        if draws_independently:
            rows = DrawnWindows(tokens, corpus.sequence_length, task.collate)
            return training_loader(
                rows, plan, IndependentOrder(len(rows), corpus.batch_size, corpus.seed).draws, corpus.num_workers
            )
        repeat = corpus.batch_size if corpus.overfit else None
        order = WindowOrder(len(tokens), corpus.sequence_length, corpus.seed, repeat)
        windows = TrainingWindows(tokens, corpus.sequence_length, task.collate, num_earlier)
        return training_loader(windows, plan, order.items, corpus.num_workers)

    @property
    def num_rows(self) -> int | None:
        return None if self.corpus.streaming else num_windows(self._tokens["train"], self.corpus.sequence_length)

    def held_out(self, split: str, length: int, task: Collating, max_length: int | None) -> EvaluationWindows:
        if not 1 <= length < (most := self.num_tokens[split]):
            raise ValueError(
                f"lengths must lie between 1 and {most - 1:,}, which the text fills, got {length:,}: the {split} split "
                f"has {most:,} tokens, and more text or a larger dataset.{split}_fraction gives it more"
            )
        return EvaluationWindows(self._tokens[split], length, task.collate)

    def identity(self, split: str, length: int) -> str:
        return f"{self.state['prepared']}/{split}@{length}"

    def report_lines(self, max_length: int | None) -> list[str]:
        tokens = ", ".join(f"{count:,} {name}" for name, count in self.num_tokens.items())
        shared = ", ".join(f"{100 * share:.2f} % of {name}" for name, share in self.overlap.items())
        training = "the beginning of training" if self.corpus.streaming else "training"
        lines = [
            f"{self.corpus.title}: {tokens} tokens ({self.corpus.tokenizer}, {self.tokenizer.vocab_size:,})",
            f"overlap with {training}: {shared} (60-byte strings)",
        ]
        shown = self.lengths_of("test", max_length)
        if left_out := [f"{length:,}" for length in self._lengths_up_to(max_length) if length not in shown]:
            held = f"{self._shortest} holds only {self.num_tokens[self._shortest]:,}"
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
        return self.tokenizer.end_id if self.corpus.document_boundaries else None


def bytes_per_token(num_bytes: int, tokens: np.ndarray, tokenizer: Tokenizer, boundary: int | None) -> float:
    """Return the bytes of text per predicted token, which turn nats per token into bits per byte.

    The first token of the text, or of each document where documents are kept apart, is not predicted: neither its cost
    nor its bytes count. Ends of documents are tokens without bytes.

    Example: with boundaries, the documents "ab" and "cde" have 3 bytes in 5 predicted tokens: b, d, e and two ends.

    Args:
        num_bytes: of the whole text.
        tokens: (N,) of the text, each document with its end.
        tokenizer: of the tokens.
        boundary: the token that ends a document, where documents are kept apart; else None.
    """
    unpredicted = [np.asarray(tokens[:1])]
    if boundary is not None:
        for start in range(0, len(tokens) - 1, TOKENS_AT_ONCE):
            piece = np.asarray(tokens[start : start + TOKENS_AT_ONCE + 1])
            unpredicted.append(piece[1:][piece[:-1] == boundary])
    firsts = np.concatenate(unpredicted)
    return (num_bytes - tokenizer.num_bytes(firsts)) / (len(tokens) - len(firsts))
