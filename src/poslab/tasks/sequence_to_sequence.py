"""The task of writing a text of a source: translation, a headline, a reply."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, distributed, nn

from poslab.data.batch import IGNORE, PairBatch, TokenBatch
from poslab.data.tokenizers import Tokenizer
from poslab.generation.beam_search import Continuation, Writing, beam_search
from poslab.models import Decoder, EncoderDecoder
from poslab.tasks.target_prediction import TargetPrediction
from poslab.tasks.task import Measurement, Observation, Task
from poslab.tasks.written_text import Comparison, compare, corpus_figures


class SequenceToSequence(TargetPrediction):
    """Write the target of a source: an encoder-decoder does, or a decoder that goes on with the source.

    In the test, targets are written by greedy decoding as well, and compared with the right ones, both as the tokenizer
    gives them back. Figures are from 0 to 100: BLEU and chrF are sacrebleu's of all texts together; ROUGE-1, 2 and L (F
    measure) and exact match are means over texts.

    Args:
        tokenizer: turns tokens into the texts that are compared.
        longest: the most tokens that are written; of a source of S tokens at most 2 S + 50.
    """

    shown: ClassVar[tuple[str, ...]] = ("bleu", "chrf", "rouge_l", "exact_match", "loss")

    def __init__(self, tokenizer: Tokenizer, longest: int) -> None:
        self.tokenizer = tokenizer
        self.longest = longest

    def observe(self, model: nn.Module, batch: PairBatch | TokenBatch, split: str) -> Observation:
        sums = self.sums(model, batch)
        if split != "test":
            return Observation(sums)
        counts_B = (batch.targets != IGNORE).any(-1)
        written = self.written(model, batch)
        compared = [
            compare(self.tokenizer.decode(ours.tolist()), self.tokenizer.decode(theirs[theirs != IGNORE].tolist()))
            for ours, theirs, counts in zip(written, batch.targets, counts_B, strict=True)
            if counts
        ]
        return Observation(sums, compared)

    def written(self, model: nn.Module, batch: PairBatch | TokenBatch) -> list[Tensor]:
        """What greedy decoding writes of the sources of a batch."""
        if isinstance(batch, PairBatch):
            assert isinstance(model, EncoderDecoder)
            writing: Writing = model.begin(batch.source, batch.real_source)
            first, room = batch.target[:, :1], model.max_length
            real = torch.ones_like(batch.source) if batch.real_source is None else batch.real_source
        else:
            assert isinstance(model, Decoder)
            first, real = prompts(batch)
            writing = Continuation(model, real)
            room = None if model.max_length is None else model.max_length - first.shape[1]
        # A text that does not end, as an untrained model writes it, is not to hold up the others. What is written of a
        # source is the same whatever stands beside it in its batch.
        most_B = [min(self.longest, 2 * length + 50) for length in real.sum(-1).tolist()]
        most = max(most_B) if room is None else max(1, min(max(most_B), room))
        written = beam_search(writing, first, max_new_tokens=most, end_id=self.tokenizer.end_id)
        return [text[:own] for text, own in zip(written, most_B, strict=True)]

    def measurement(self, split: str) -> Measurement:
        return WritingMeasurement(self, split)


def prompts(batch: TokenBatch) -> tuple[Tensor, Tensor]:
    """What stands before the targets of a batch, padded on the left, and where it is real, (B, T) both."""
    first_B = (batch.targets != IGNORE).int().argmax(-1) + 1
    width = int(first_B.max())
    place_T = torch.arange(width, device=first_B.device)
    real_BT = place_T >= width - first_B.unsqueeze(-1)
    from_BT = (place_T - (width - first_B.unsqueeze(-1))).clamp_min(0)
    return batch.tokens.gather(1, from_BT), real_BT


class WritingMeasurement(Measurement):
    """Loss and accuracy, and in the test the likeness of all texts that are written to the right ones."""

    def __init__(self, task: Task, split: str) -> None:
        super().__init__(task, split)
        self.comparisons: list[Comparison] = []

    def begin(self, device: torch.device) -> None:
        super().begin(device)
        self.comparisons = []

    def update(self, observation: Observation) -> None:
        super().update(observation)
        self.comparisons += observation.answers or []

    def figures(self) -> dict[str, float]:
        figures = super().figures()
        return figures | corpus_figures(_of_all_processes(self.comparisons)) if self.split == "test" else figures


def _of_all_processes(comparisons: list[Comparison]) -> list[Comparison]:
    """Gather the comparisons of all processes: BLEU and chrF of the whole are not means over shares."""
    if not distributed.is_initialized():
        return comparisons
    shares: list[list[Comparison]] = [[]] * distributed.get_world_size()
    distributed.all_gather_object(shares, comparisons)
    return [one for share in shares for one in share]
