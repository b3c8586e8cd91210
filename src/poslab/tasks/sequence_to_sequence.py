"""The task of writing a target from a source (a translation, a headline, a reply), and metrics of written texts.

Dimension letters: B pairs, T tokens.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import numpy as np
import regex
import torch
from torch import Tensor, distributed
from torchmetrics.functional.text import rouge_score

from poslab.data.batch import IGNORE, TokenBatch, mask_or_none, padded
from poslab.data.examples.pairs import PAIRS
from poslab.data.kinds import Rows
from poslab.data.tokenizers import Tokenizer
from poslab.generation.decoding import Continuation, beam_search
from poslab.models import Decoding, Model
from poslab.tasks.measurement import ItemSums, Measurement, Observation, TaskRecord
from poslab.tasks.task import Prediction, Search, Task, device_of
from poslab.tasks.token_prediction import PairBatch, TargetPrediction

if TYPE_CHECKING:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF


class TargetWriting(TargetPrediction):
    """A task whose test writes targets by greedy decoding and compares them with the right ones.

    Both are compared as the tokenizer decodes them. Metrics are from 0 to 100: BLEU and chrF are sacrebleu's of all
    texts together; ROUGE-1, 2 and L (F measure) and exact match are means over texts.
    """

    generation_options = ("max_new_tokens", "beams")
    decodes_in_test = True
    shown: ClassVar[tuple[str, ...]] = ("bleu", "chrf", "rouge_l", "exact_match", "loss")

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer

    @abstractmethod
    def written(self, model: Model, batch: Any) -> list[Tensor]:
        """Return the texts that greedy decoding writes for the sources of a batch."""

    def observe(self, model: Model, batch: Any, split: str) -> Observation:
        sums = self.loss(model, batch)
        return Observation(sums, self._compared(model, batch) if split == "test" else None)

    def observe_rows(self, model: Model, batch: Any, split: str) -> list[Observation]:
        observations = super().observe_rows(model, batch, split)
        if split != "test":
            return observations
        compared = self._compared(model, batch)
        return [Observation(row.sums, [comparison]) for row, comparison in zip(observations, compared, strict=True)]

    def scores(self, observation: Observation) -> ItemSums:
        written = {name: (getattr(comparison, name), 1) for comparison in observation.answers or [] for name in MEANS}
        return {**super().scores(observation), **written}

    def _compared(self, model: Model, batch: Any) -> list[Likeness]:
        """Compare what a model writes with the targets of the rows that count."""
        counts_B = (batch.targets != IGNORE).any(-1)
        return [
            compare(self.tokenizer.decode(text.tolist()), self.tokenizer.decode(target[target != IGNORE].tolist()))
            for text, target, counts in zip(self.written(model, batch), batch.targets, counts_B, strict=True)
            if counts
        ]

    def metrics(self, split: str) -> Measurement:
        return WritingMeasurement(self, split)


class SequenceToSequence(TargetWriting):
    """Write the target of a source, which the model reads as a whole.

    Args:
        tokenizer: of the texts.
        longest: the most tokens that the test writes; at most 2 S + 50 for a source of S tokens.
        source_length: the most tokens of a source that are read, its end included; None reads all.
    """

    kind = PAIRS
    needs = frozenset({"source", "cache"})
    columns = ("source_tokens", "target_tokens")

    def __init__(self, tokenizer: Tokenizer, longest: int = 0, source_length: int | None = None) -> None:
        super().__init__(tokenizer)
        self.longest = longest
        self.source_length = source_length

    @classmethod
    def of(cls, data: Any) -> Self:
        return cls(data.tokenizer, longest=2 * max(map(len, data.splits.examples("train")["target_tokens"])))

    @classmethod
    def restored(cls, record: TaskRecord, tokenizer: Any, source: Any) -> Self:
        if record.outputs is not None:
            raise ValueError("it has not learned to write")
        return cls(tokenizer, source_length=source.source_length)

    def collate(self, rows: Rows, counts: np.ndarray) -> PairBatch | TokenBatch:
        """Return a batch; a target begins, as it ends, with the token that ends a document."""
        source, real_source = padded([np.asarray(row) for row in rows["source_tokens"]])
        targets, real_target = padded([np.asarray(row) for row in rows["target_tokens"]])
        target = targets.roll(1, dims=1)
        target[:, 0] = self.tokenizer.end_id
        targets = targets.masked_fill(~real_target, IGNORE)
        targets[torch.from_numpy(~counts)] = IGNORE
        return PairBatch(source, mask_or_none(real_source), target, targets)

    def written(self, model: Model, batch: Any) -> list[Tensor]:
        decoding, first, real, room = self._begun(model, batch)
        # The limit keeps a text without end, as of an untrained model, from holding up the others. It depends only on
        # the source, so that its text is the same whatever else is in its batch.
        most_B = [min(self.longest, 2 * length + 50) for length in real.sum(-1).tolist()]
        most = max(most_B) if room is None else max(1, min(max(most_B), room))
        texts = beam_search(decoding, first, max_new_tokens=most, end_id=self.tokenizer.end_id)
        return [text[:most] for text, most in zip(texts, most_B, strict=True)]

    def _begun(self, model: Model, batch: Any) -> tuple[Decoding, Tensor, Tensor, int | None]:
        """Return the decoding of a batch, its first tokens, the mask of its sources, and its room in tokens."""
        real = torch.ones_like(batch.source) if batch.real_source is None else batch.real_source
        return model.begin(batch.source, batch.real_source), batch.target[:, :1], real, model.max_length

    def predict(self, model: Model, text: str, search: Search) -> Prediction:
        tokens = encoded(self.tokenizer, text)
        read = tokens if self.source_length is None else tokens[: self.source_length - 1]
        return written(model, self.tokenizer, [*read, self.tokenizer.end_id], search)

    def example_prompt(self) -> str:
        return '"some text"'


class Continuing(SequenceToSequence):
    """Write the target of a source as its continuation: the target follows the source in one text."""

    kind = PAIRS
    needs = frozenset({"causal", "cache"})
    single_sequence = True

    def collate(self, rows: Rows, counts: np.ndarray) -> TokenBatch:
        """Return a batch that predicts nothing but targets."""
        pairs = list(zip(rows["source_tokens"], rows["target_tokens"], strict=True))
        tokens, real = padded([np.concatenate(pair)[:-1] for pair in pairs])
        targets = torch.full_like(tokens, IGNORE)
        for row, (source, target) in enumerate(pairs):
            if counts[row]:
                first = len(source) - 1
                targets[row, first : first + len(target)] = torch.as_tensor(np.asarray(target, dtype=np.int64))
        return TokenBatch(tokens, targets, real=mask_or_none(real))

    def _begun(self, model: Model, batch: Any) -> tuple[Decoding, Tensor, Tensor, int | None]:
        first, real = prompts(batch)
        room = None if model.max_length is None else model.max_length - first.shape[1]
        return Continuation(model, real), first, real, room


def prompts(batch: TokenBatch) -> tuple[Tensor, Tensor]:
    """Return the tokens before the targets of a batch, padded on the left, and their mask, (B, T) both."""
    first_B = (batch.targets != IGNORE).int().argmax(-1) + 1
    width = int(first_B.max())
    position_T = torch.arange(width, device=first_B.device)
    real_BT = position_T >= width - first_B.unsqueeze(-1)
    from_BT = (position_T - (width - first_B.unsqueeze(-1))).clamp_min(0)
    return batch.tokens.gather(1, from_BT), real_BT


class WritingMeasurement(Measurement):
    """Loss and accuracy, and in the test the likeness of written texts to the right ones."""

    def __init__(self, task: Task, split: str) -> None:
        super().__init__(task, split)
        self.comparisons: list[Likeness] = []

    def begin(self, device: torch.device) -> None:
        super().begin(device)
        self.comparisons = []

    def update(self, observation: Observation) -> None:
        super().update(observation)
        self.comparisons += observation.answers or []

    def compute(self) -> dict[str, float]:
        metrics, comparisons = super().compute(), self.comparisons
        if self.split != "test":
            return metrics
        if distributed.is_initialized():  # BLEU and chrF of the whole are not means over the shares of processes
            shares: list[list[Likeness]] = [[]] * distributed.get_world_size()
            distributed.all_gather_object(shares, comparisons)
            comparisons = [comparison for share in shares for comparison in share]
        return metrics | corpus_scores(comparisons)


UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"
"""Scripts that put no space between words: each of their characters counts as a word, as is usual for Chinese."""

WORD = regex.compile(rf"(?V1){UNSPACED}\p{{M}}*|[[\p{{L}}\p{{N}}\p{{M}}]--{UNSPACED}]+")

ROUGE = {"rouge_1": "rouge1", "rouge_2": "rouge2", "rouge_l": "rougeL"}

MEANS = (*ROUGE, "exact_match")  # the metrics of a corpus that are means over its texts


@torch.no_grad()
def written(model: Model, tokenizer: Tokenizer, source: Sequence[int], search: Search) -> Prediction:
    """Return the text that a model writes from a source: token ids, with the token that ends it.

    A model that declares `source` reads it, any other continues it. ValueError if the source leaves no room in the
    positions of the model.
    """
    read = torch.tensor([[*source]], device=device_of(model))
    has_source, most = "source" in model.capabilities, search.max_new_tokens
    if model.max_length is not None:
        room = model.max_length - (0 if has_source else read.shape[1])
        if room < 1 or read.shape[1] > model.max_length:
            raise ValueError(
                f"prompt must leave room in the {model.max_length} positions at which the model's encoding ends, "
                f"got {read.shape[1]} tokens"
            )
        most = min(most, room)
    end = tokenizer.end_id
    decoding = model.begin(read) if has_source else Continuation(model)
    first = torch.full((1, 1), end, device=read.device) if has_source else read
    (tokens,) = beam_search(
        decoding, first, beams=search.beams, length_penalty=search.length_penalty, max_new_tokens=most, end_id=end
    )
    return Prediction(tokenizer.decode(tokens.tolist()).strip())


def encoded(tokenizer: Any, text: str) -> list[int]:
    """Return the tokens of a prompt; ValueError for symbols that its task does not have."""
    try:
        tokens: list[int] = tokenizer.encode(text).tolist()
    except ValueError as error:
        raise ValueError(f"prompt: {error}") from error
    return tokens


class Likeness(NamedTuple):
    """The likeness of a written text to the right one."""

    # bleu, chrf: sacrebleu's counts, whose sums over all texts give the metrics of the corpus
    bleu: list[int]
    chrf: list[int]
    # rouge_1, rouge_2, rouge_l: F measures, 0 to 100
    rouge_1: float
    rouge_2: float
    rouge_l: float
    exact_match: float  # 0 or 100


def compare(text: str, reference: str) -> Likeness:
    """Compare a text with the right one; an exact match ignores outer white space.

    ROUGE ignores case and punctuation. Texts of ASCII letters have the words of Google's `rouge-score`, which drops all
    other letters; here letters of every script count.

    Source: Lin, "ROUGE: A Package for Automatic Evaluation of Summaries" (2004).
    """
    keys = tuple(ROUGE.values())
    scores = rouge_score(text, reference, rouge_keys=keys, normalizer=str.lower, tokenizer=WORD.findall)
    rouge = {name: 100 * scores[f"{key}_fmeasure"].item() for name, key in ROUGE.items()}
    # sacrebleu's own `corpus_score` is these two steps in one, and keeps the n-grams of all texts together: 0.5 GB of
    # 10,000 short ones.
    bleu, chrf = (metric._extract_corpus_statistics([text], [[reference]])[0] for metric in _metrics())
    return Likeness(bleu, chrf, **rouge, exact_match=100.0 * (text.strip() == reference.strip()))


def corpus_scores(comparisons: Sequence[Likeness]) -> dict[str, float]:
    """Return sacrebleu's BLEU and chrF of one or more texts, with its defaults, and the means of the other metrics."""
    bleu, chrf = _metrics()
    means = {name: sum(getattr(comparison, name) for comparison in comparisons) / len(comparisons) for name in MEANS}
    return {
        "bleu": bleu._aggregate_and_compute([comparison.bleu for comparison in comparisons]).score,
        "chrf": chrf._aggregate_and_compute([comparison.chrf for comparison in comparisons]).score,
        **means,
    }


@cache
def _metrics() -> tuple[BLEU, CHRF]:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    return BLEU(force=True), CHRF()  # force: no advice on texts that look tokenised
