"""Text for language modelling as LightningDataModules, one for each source."""

from typing import Any, ClassVar

import lightning.pytorch as pl
from torch.utils.data import DataLoader

from poslab.data import cache
from poslab.data.batch import TokenBatch
from poslab.data.corpus import Corpus
from poslab.data.hub_text import HubTextCorpus
from poslab.data.order import BatchPlan
from poslab.data.preparation import HELD_OUT, prepare
from poslab.data.python_docs import PythonDocsCorpus
from poslab.data.streaming import StreamLoader
from poslab.data.text_files import TextFilesCorpus
from poslab.data.tokenizers import Tokenizer, load_tokenizer
from poslab.data.windows import RunLoader, evaluation_loader, training_loader


class TextDataModule(pl.LightningDataModule):
    """Windows of text for language modelling. Subclasses say which corpus they hold.

    The trainer must leave batches as they are: `Trainer(max_steps=..., use_distributed_sampler=False)`.

    Args:
        arguments: those of the class in `corpus_type`, by keyword.

    Attributes that the caller sets:
        max_length: longer windows are left out of the evaluation, for a model whose positions end there (default None).

    Attributes after `setup`:
        tokenizer: the tokenizer.
        vocab_size: number of its token ids.
        num_tokens: tokens by split; of a stream, no `train`.
        bytes_per_token: bytes of text per predicted token by split; ends of documents are tokens. It turns a loss in
            nats per token into bits per byte: `loss / ln 2 / bytes_per_token`.
        overlap: share of the bytes of `validation` and `test` inside 60-byte strings that training holds too (of a
            stream: that its first documents hold too).

    Raises:
        ValueError: one sentence that begins with the name of the argument to change.
    """

    corpus_type: ClassVar[type[Corpus]]

    tokenizer: Tokenizer
    vocab_size: int
    num_tokens: dict[str, int]
    bytes_per_token: dict[str, float]
    overlap: dict[str, float]

    def __init__(self, **arguments: Any) -> None:
        super().__init__()
        self.corpus = self.corpus_type(**arguments)
        self.max_length: int | None = None
        self._tokens: dict[str, cache.TokenFile] = {}

    def check(self) -> None:
        """Find the mistakes that need nothing slow to be known, such as a file that is not there; raises ValueError."""
        self.corpus.check()

    def prepare_data(self) -> None:
        """Tokenise the text unless that was done before."""
        prepare(self.corpus)

    def setup(self, stage: str | None = None) -> None:
        """Open the tokens, and see that each split fills a window."""
        if self._tokens:
            return
        folder = prepare(self.corpus)
        facts = cache.read_facts(folder)
        tokens = {name: cache.TokenFile(cache.token_path(folder, name), facts.dtype) for name in cache.SPLITS}
        self._require_a_window(facts.num_tokens)
        self.tokenizer = load_tokenizer(folder)
        self.vocab_size = self.tokenizer.vocab_size
        self.num_tokens = {
            n: count for n, count in facts.num_tokens.items() if n in HELD_OUT or not self.corpus.is_stream
        }
        self.bytes_per_token = {name: facts.num_bytes[name] / self._num_predicted(facts, name) for name in cache.SPLITS}
        self.overlap = facts.overlap
        self._tokens = tokens

    @property
    def lengths(self) -> list[int]:
        """The window lengths that are evaluated, ascending, none above `max_length`.

        Raises:
            ValueError: validation or test does not fill one window of that length.
        """
        lengths = sorted({self.corpus.sequence_length * multiple for multiple in self.corpus.length_multiples})
        lengths = [length for length in lengths if self.max_length is None or length <= self.max_length]
        for name in HELD_OUT:
            for length in lengths:
                if self.num_tokens[name] <= length:
                    raise ValueError(
                        f"length_multiples asks for windows of {length} tokens (and one to predict),"
                        f" but {name} holds only {self.num_tokens[name]}"
                    )
        return lengths

    def train_dataloader(self) -> RunLoader | StreamLoader:
        """The micro-batches of the whole run for this process, from the trainer's present step on."""
        assert self.trainer is not None
        plan = BatchPlan.of(self.trainer, self.corpus.batch_size)
        length, seed = self.corpus.sequence_length, self.corpus.seed
        return training_loader(self._tokens["train"], length, self._boundary, plan, seed, self.corpus.num_workers)

    def val_dataloader(self) -> list[DataLoader[TokenBatch]]:
        """One loader for each of `lengths`."""
        return [self._evaluation_loader("validation", length) for length in self.lengths]

    def test_dataloader(self) -> list[DataLoader[TokenBatch]]:
        """One loader for each of `lengths`."""
        return [self._evaluation_loader("test", length) for length in self.lengths]

    def report_lines(self) -> list[str]:
        """What a person should know of the data before training, in a few lines."""
        tokens = ", ".join(f"{count:,} {name}" for name, count in self.num_tokens.items())
        shared = ", ".join(f"{share:.2%} of {name}" for name, share in self.overlap.items())
        training = "the first training documents hold" if self.corpus.is_stream else "training holds"
        return [
            f"{self.corpus.label}: {tokens} tokens, vocabulary {self.vocab_size:,} ({self.corpus.tokenizer})",
            f"overlap: {shared} bytes stand in 60-byte strings that {training} too",
        ]

    @property
    def _boundary(self) -> int | None:
        return self.tokenizer.end_id if self.corpus.document_boundaries else None

    def _evaluation_loader(self, split: str, length: int) -> DataLoader[TokenBatch]:
        assert self.trainer is not None
        processes = self.trainer.world_size
        # As many tokens in a batch as training has in a micro-batch, so that what trains can be evaluated.
        tokens_per_step = self.corpus.batch_size * self.corpus.sequence_length
        rows = max(1, tokens_per_step // (length * processes * self.trainer.accumulate_grad_batches))
        return evaluation_loader(
            self._tokens[split],
            length,
            self._boundary,
            rows,
            processes,
            self.trainer.global_rank,
            self.corpus.num_workers,
        )

    def _num_predicted(self, facts: cache.Facts, split: str) -> int:
        """Targets of a split: all tokens but the first, or but the first of each document where boundaries count."""
        return facts.num_tokens[split] - (facts.num_documents[split] if self.corpus.document_boundaries else 1)

    def _require_a_window(self, num_tokens: dict[str, int]) -> None:
        needed = self.corpus.sequence_length + 1
        for name, count in num_tokens.items():
            if count < needed:
                raise ValueError(
                    f"sequence_length of {self.corpus.sequence_length} takes {needed} tokens a window"
                    f" (one more to predict), and {name} holds only {count}"
                )


class PythonDocs(TextDataModule):
    """The text of the Python reference. Arguments: `PythonDocsCorpus`."""

    corpus_type = PythonDocsCorpus


class TextFiles(TextDataModule):
    """A user's own text files. Arguments: `TextFilesCorpus`."""

    corpus_type = TextFilesCorpus


class HubText(TextDataModule):
    """A text data set of the Hugging Face Hub, or local files in one of its formats. Arguments: `HubTextCorpus`."""

    corpus_type = HubTextCorpus
    corpus: HubTextCorpus

    def train_dataloader(self) -> RunLoader | StreamLoader:
        if not self.corpus.streaming:
            return super().train_dataloader()
        assert self.trainer is not None
        plan = BatchPlan.of(self.trainer, self.corpus.batch_size)
        return StreamLoader(self.corpus, self.tokenizer, self._boundary, plan)
