"""The splits of images and their captions."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from poslab.data.batch import Collate
from poslab.data.patched.patched_splits import ArrayBatches, PatchedSplits
from poslab.data.patched.preparation import StoredArrays
from poslab.data.run_data import Collating
from poslab.data.tokenizers import load_tokenizer


class CaptionSplits(PatchedSplits):
    """Images and their captions; a length is a side, at which the test has all of its images.

    Attributes:
        captions: tokens of each caption, its end included, in the order of their numbers.
        num_cut: captions that are cut.
    """

    source: Any

    def __init__(self, source: Any) -> None:
        super().__init__(source)
        self.tokenizer = load_tokenizer(self.folder)
        whole = [self.tokenizer.encode(caption) for caption in self.facts.classes]
        most = source.caption_length - 1
        self.num_cut = sum(len(tokens) > most for tokens in whole)
        self.captions = [np.append(tokens[:most], self.tokenizer.end_id).astype(np.int64) for tokens in whole]

    def report_lines(self, max_length: int | None) -> list[str]:
        lines, source = super().report_lines(max_length), self.source
        cut = f", {self.num_cut:,} of them cut after {source.caption_length} tokens" if self.num_cut else ""
        captions = (
            f"{len(self.captions):,} different captions ({source.tokenizer}, {self.tokenizer.vocab_size:,} tokens){cut}"
        )
        return [*lines, captions]

    def _batches(self, split: str, length: int, task: Collating) -> "CaptionBatches":
        return CaptionBatches(self.stored(split, length), self.source, self.captions, task.collate)


class CaptionBatches(ArrayBatches):
    """Batches of images and captions by number; `label` is the tokens of a caption.

    Args:
        stored, source, collate: as of `ArrayBatches`.
        captions: their tokens, in the order of their numbers.
    """

    def __init__(self, stored: StoredArrays, source: Any, captions: Sequence[np.ndarray], collate: Collate) -> None:
        super().__init__(stored, source, captions, collate)
        self.num_written = np.array([len(tokens) - 1 for tokens in captions])[stored.labels]

    @property
    def num_tokens(self) -> np.ndarray:
        """Tokens of each example, (N,): patches, and its caption without the end."""
        return super().num_tokens + self.num_written
