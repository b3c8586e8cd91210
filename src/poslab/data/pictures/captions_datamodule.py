"""The batches of a run over pictures and their captions."""

from collections.abc import Sequence

import numpy as np

from poslab.data.batch import Collate
from poslab.data.pictures.captions import CaptionSource
from poslab.data.pictures.datamodule import PictureBatches, PictureDataModule
from poslab.data.pictures.preparation import StoredPictures
from poslab.data.tokenizers import load_tokenizer


class CaptionDataModule(PictureDataModule):
    """Pictures and their captions; a length is a side, at which the test has all of its pictures.

    Attributes after `setup`, beside those of `PictureDataModule`:
        captions: tokens of each caption, its end included, in the order of their numbers.
        num_cut: captions that are cut.
    """

    source: CaptionSource

    def setup(self, stage: str | None = None) -> None:
        super().setup(stage)
        self.tokenizer = load_tokenizer(self.source.cache / self._prepared)
        self.vocab_size = self.tokenizer.vocab_size
        whole = [self.tokenizer.encode(caption) for caption in self.facts.classes]
        most = self.source.caption_length - 1
        self.num_cut = sum(len(tokens) > most for tokens in whole)
        self.captions = [np.append(tokens[:most], self.tokenizer.end_id).astype(np.int64) for tokens in whole]

    def report_lines(self) -> list[str]:
        lines, source = super().report_lines(), self.source
        cut = f", {self.num_cut:,} of them cut after {source.caption_length} tokens" if self.num_cut else ""
        captions = f"{len(self.captions):,} different captions ({source.tokenizer}, {self.vocab_size:,} tokens){cut}"
        return [*lines, captions]

    def _batches(self, split: str, side: int) -> "CaptionBatches":
        return CaptionBatches(self._stored_at(split, side), self.source.patch, self.captions, self.task.collate)


class CaptionBatches(PictureBatches):
    """Batches of pictures and captions by number; `label` is the tokens of a caption.

    Args:
        stored, patch, collate: as of `PictureBatches`.
        captions: their tokens, in the order of their numbers.
    """

    def __init__(self, stored: StoredPictures, patch: int, captions: Sequence[np.ndarray], collate: Collate) -> None:
        super().__init__(stored, patch, captions, collate)
        self.num_tokens = self.num_tokens + np.array([len(tokens) - 1 for tokens in captions])[stored.labels]
