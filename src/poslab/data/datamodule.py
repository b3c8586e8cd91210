"""The batches of a run over a corpus."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch.utils.data import DataLoader

from poslab.data import cache
from poslab.data.batch import Batch
from poslab.data.corpus import Corpus
from poslab.data.loaders import RunLoader, training_loader
from poslab.data.order import BatchPlan, IndependentOrder, WindowOrder
from poslab.data.preparation import prepare
from poslab.data.run_data import HELD_OUT, RunData
from poslab.data.streaming import StreamLoader
from poslab.data.tokenizers import Tokenizer, load_tokenizer
from poslab.data.windows import DrawnWindows, EvaluationWindows, TrainingWindows

TOKENS_AT_ONCE = 2**24
"""Tokens of a file that are searched together, which bounds the memory."""


class TextDataModule(RunData):
    """Windows of a corpus for language modelling.

    Attributes after `setup`, beside those of `RunData`:
        num_tokens: tokens by split; of a stream, no `train`.
        bytes_per_token: bytes of text per predicted token by split, see `bytes_per_token`. It turns a loss in nats per
            token into bits per byte: `loss / ln 2 / bytes_per_token`.
        overlap: share of the bytes of `validation` and `test` inside 60-byte strings that training, or the first
            documents of a stream, hold too.
    """

    num_tokens: dict[str, int]
    bytes_per_token: dict[str, float]
    overlap: dict[str, float]

    length_means = "number of tokens of a window"

    def __init__(self, corpus: Corpus) -> None:
        super().__init__(corpus)
        self.corpus = corpus
        self._tokens: dict[str, cache.TokenFile] = {}

    def prepare_data(self) -> None:
        prepare(self.corpus)

    def setup(self, stage: str | None = None) -> None:
        """Open the tokens; ValueError if a split does not fill a training window, unless the stage is `test`."""
        if self._tokens:
            return
        folder = prepare(self.corpus)
        facts = cache.read_facts(folder, cache.Facts)
        tokens = {name: cache.TokenFile(folder / f"{name}.bin", facts.dtype) for name in cache.SPLITS}
        if stage != "test":
            self._check_windows(facts.num_tokens)
        self.tokenizer = load_tokenizer(folder)
        self.vocab_size = self.tokenizer.vocab_size
        self.num_tokens = {
            n: count for n, count in facts.num_tokens.items() if n in HELD_OUT or not self.corpus.streaming
        }
        self.bytes_per_token = {
            name: bytes_per_token(facts.num_bytes[name], tokens[name].ids, self.tokenizer, self.boundary)
            for name in cache.SPLITS
        }
        self.overlap = facts.overlap
        self._tokens = tokens
        self._prepared = folder.name

    def _check_windows(self, num_tokens: Mapping[str, int]) -> None:
        """Raise ValueError if a split, with that many tokens, does not fill a training window."""
        for name, count in num_tokens.items():
            needed = self.corpus.sequence_length + 1
            if name == "train" and self.num_earlier and count < (whole := self.num_earlier + needed):
                raise ValueError(
                    f"sequence_length of {self.corpus.sequence_length} takes {whole} tokens a window with the "
                    f"{self.num_earlier} before it that the teacher reads, and train holds only {count}"
                )
            if count < needed:
                raise ValueError(
                    f"sequence_length of {self.corpus.sequence_length} takes {needed} tokens a window"
                    f" (one more to predict), and {name} holds only {count}"
                )

    def tokens(self, split: str) -> np.ndarray:
        """Return the token ids of a split (`train`, `validation` or `test`), mapped into memory; after `setup`."""
        return self._tokens[split].ids

    def state_dict(self) -> dict[str, Any]:
        """Return the name of the prepared text, which changes with its tokens, for a checkpoint."""
        return {"prepared": self._prepared}

    def lengths_of(self, split: str) -> list[int]:
        return self.lengths

    @property
    def lengths_asked(self) -> Sequence[int]:
        """All window lengths of the corpus, ascending."""
        return sorted({self.corpus.sequence_length * multiple for multiple in self.corpus.length_multiples})

    @property
    def lengths(self) -> list[int]:
        """The window lengths of the evaluation, ascending: those that both splits fill, up to `max_length`."""
        return [length for length in self._lengths_taken if length < self.num_tokens[self._shortest]]

    def training_batches(self, plan: BatchPlan) -> RunLoader | StreamLoader:
        corpus = self.corpus
        if corpus.streaming:
            return StreamLoader(corpus, self.tokenizer, self.task.collate, plan)
        tokens = self._tokens["train"]
        if self.draws_independently:
            rows = self._rows_of_training()
            drawn = IndependentOrder(len(rows), corpus.batch_size, corpus.seed)
            return training_loader(rows, plan, drawn.draws, corpus.num_workers)
        repeat = corpus.batch_size if corpus.overfit else None
        order = WindowOrder(len(tokens), corpus.sequence_length, corpus.seed, repeat)
        windows = TrainingWindows(tokens, corpus.sequence_length, self.task.collate, self.num_earlier)
        return training_loader(windows, plan, order.items, corpus.num_workers)

    @property
    def num_rows(self) -> int | None:
        return None if self.corpus.streaming else len(self._rows_of_training())

    def _rows_of_training(self) -> DrawnWindows:
        """Return the windows of the training text that do not overlap."""
        return DrawnWindows(self._tokens["train"], self.corpus.sequence_length, self.task.collate)

    def held_out(self, split: str, length: int) -> EvaluationWindows:
        if not 1 <= length < (most := self.num_tokens[split]):
            raise ValueError(
                f"lengths must lie between 1 and {most - 1:,}, which the text fills, got {length:,}: the {split} split "
                f"has {most:,} tokens, and more text or a larger dataset.{split}_fraction gives it more"
            )
        return EvaluationWindows(self._tokens[split], length, self.task.collate)

    def identity(self, split: str, length: int) -> str:
        return f"{self._prepared}/{split}@{length}"

    def evaluation_loader(self, split: str, length: int) -> DataLoader[Batch]:
        windows = self.held_out(split, length)
        return self.loader_of_all(windows, len(windows), length)

    def report_lines(self) -> list[str]:
        tokens = ", ".join(f"{count:,} {name}" for name, count in self.num_tokens.items())
        shared = ", ".join(f"{100 * share:.2f} % of {name}" for name, share in self.overlap.items())
        training = "the beginning of training" if self.corpus.streaming else "training"
        lines = [
            f"{self.corpus.title}: {tokens} tokens ({self.corpus.tokenizer}, {self.vocab_size:,})",
            f"overlap with {training}: {shared} (60-byte strings)",
        ]
        if left_out := [f"{length:,}" for length in self._lengths_taken if length not in self.lengths]:
            held = f"{self._shortest} holds only {self.num_tokens[self._shortest]:,}"
            lines.append(f"windows of {' and '.join(left_out)} tokens are left out: {held}")
        return lines

    @property
    def _lengths_taken(self) -> list[int]:
        """The window lengths of the corpus for which the model has positions, ascending."""
        return [length for length in self.lengths_asked if self.max_length is None or length <= self.max_length]

    @property
    def _shortest(self) -> str:
        """The held-out split with the fewest tokens."""
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
