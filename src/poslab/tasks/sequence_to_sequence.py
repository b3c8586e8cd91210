"""The task of writing a text of a source: translation, a headline, a reply."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric
from torchmetrics.functional.text import rouge_score
from torchmetrics.text import CHRFScore, SacreBLEUScore

from poslab.data.batch import IGNORE, PairBatch, TokenBatch
from poslab.data.tokenizers import Tokenizer
from poslab.decoding import Continuation, Writing, beam_search
from poslab.models import Decoder, EncoderDecoder
from poslab.tasks.target_prediction import TargetPrediction
from poslab.tasks.task import Measurement, Observation, Task


class SequenceToSequence(TargetPrediction):
    """Write the target of a source: an encoder-decoder does, or a decoder that goes on with the source.

    In the test, targets are written by greedy decoding as well, and compared with the right ones, both as the tokenizer
    gives them back: BLEU and chrF (0 to 100) of all texts, and means over them of ROUGE-1, 2 and L (F measure) and of
    exact matches.

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
        texts = [
            (self.tokenizer.decode(ours.tolist()), self.tokenizer.decode(theirs[theirs != IGNORE].tolist()))
            for ours, theirs, counts in zip(written, batch.targets, counts_B, strict=True)
            if counts
        ]
        return Observation(sums, texts)

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
    """Loss and accuracy, and of texts that are written their likeness to the right ones."""

    def __init__(self, task: Task, split: str) -> None:
        super().__init__(task, split)
        if split == "test":
            self.bleu = SacreBLEUScore()
            self.chrf = CHRFScore(n_word_order=0)
            self.rouge_1, self.rouge_2, self.rouge_l = MeanMetric(), MeanMetric(), MeanMetric()
            self.exact_match = MeanMetric()

    def update(self, observation: Observation) -> None:
        super().update(observation)
        texts: Sequence[tuple[str, str]] | None = observation.answers
        if not texts:
            return
        ours, references = [pair[0] for pair in texts], [[pair[1]] for pair in texts]
        self.bleu.update(ours, references)
        self.chrf.update(ours, references)
        for told, right in texts:
            # One by one, as means: torchmetrics' own ROUGE cannot be gathered from processes that have unequal numbers.
            rouge = rouge_score(told, right, rouge_keys=("rouge1", "rouge2", "rougeL"))
            for mean, key in ((self.rouge_1, "rouge1"), (self.rouge_2, "rouge2"), (self.rouge_l, "rougeL")):
                mean.update(rouge[f"{key}_fmeasure"].item())
            self.exact_match.update(float(told.strip() == right.strip()))

    def figures(self) -> dict[str, float]:
        figures = super().figures()
        if self.split != "test":
            return figures
        means = {
            name: getattr(self, name).compute().item() for name in ("rouge_1", "rouge_2", "rouge_l", "exact_match")
        }
        bleu, chrf = self.bleu.compute().item(), self.chrf.compute().item()  # type: ignore[union-attr]
        return {**figures, "bleu": 100 * bleu, "chrf": 100 * chrf, **means}
