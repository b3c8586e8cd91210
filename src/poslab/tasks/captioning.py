"""The task of writing the caption of an image after its patches.

Dimension letters: B images, T tokens (patches, then text), P values of a patch, G grids of a row, V vocabulary.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from poslab.data.batch import IGNORE
from poslab.data.kinds import Rows
from poslab.data.patched.arrays import CAPTIONS, normalised, patches_of
from poslab.data.patched.captions import CaptionFolder
from poslab.data.patched.images import read_image
from poslab.data.tokenizers import Tokenizer
from poslab.encodings import Centred, MRope, Positions, PositionSampler
from poslab.encodings.tokens import PADDING, PATCH
from poslab.generation.decoding import Continuation, beam_search
from poslab.models import Model
from poslab.tasks.patch_classification import OF_SIDES, PatchesRecord
from poslab.tasks.sequence_to_sequence import TargetWriting
from poslab.tasks.task import Prediction, Search, device_of


class CaptionBatch(NamedTuple):
    """Images with the beginnings of their captions, in one row each: patches, then tokens of text."""

    tokens: Tensor  # (B, T) int64, `PATCH`, then the caption without its end, then `PADDING`
    patches: Tensor  # (B, T, P) float32, pixels of the patches; 0 elsewhere
    targets: Tensor  # (B, T) int64, the caption and its end, from the last patch on; `IGNORE` elsewhere
    # rows, columns: of the highest and of the widest image, in patches
    rows: int
    columns: int
    # (B, 2) int64, rows and columns of each image; None if all have `rows` and `columns`
    sizes: Tensor | None = None

    @property
    def real(self) -> Tensor:
        """False at padding, (B, T)."""
        return self.tokens != PADDING

    @property
    def positions(self) -> Positions:
        """Positions on time, height and width; the text lies on the diagonal after the image, as under M-RoPE."""
        length, device = self.tokens.shape[1], self.tokens.device
        most = torch.tensor([self.rows, self.columns], device=device)
        sizes = most if self.sizes is None else self.sizes  # (2,) or (B, 2)
        image = torch.cat([torch.ones_like(sizes[..., :1]), sizes], dim=-1)
        is_text = torch.arange(length, device=device) < length - sizes.prod(-1, keepdim=True)
        text = is_text.long().unsqueeze(-1).expand(*is_text.shape, 3)  # grids of one cell each
        grids = torch.cat([image.unsqueeze(-2), text], dim=-2)
        positions = Positions.grids(grids, length, (1, self.rows, self.columns))
        return MRope()(positions, len(self.tokens))

    def images(self, rows_R: Tensor, num_patches: int) -> CaptionBatch:
        """Return the images of these rows, which have so many patches each, without text."""
        tokens, patches, targets = (part[rows_R, :num_patches] for part in self[:3])
        return CaptionBatch(
            tokens, patches, targets, self.rows, self.columns, None if self.sizes is None else self.sizes[rows_R]
        )


class Captioning(TargetWriting):
    """Write the caption of each image: a decoder reads its patches, and continues them with text.

    Only tokens of the caption and its end count, of which the first is predicted at the last patch. The test also
    writes captions by greedy decoding, with the metrics of `TargetWriting`. All images are normalised by mean and
    deviation of each channel in training.
    """

    kind = CAPTIONS
    needs = frozenset({"causal", "cache", "patches"})
    record_type = PatchesRecord
    aggregate_lengths = False
    length_words = OF_SIDES

    def __init__(self, tokenizer: Tokenizer, source: CaptionFolder, mean: list[float], deviation: list[float]) -> None:
        super().__init__(tokenizer)
        self.source = source
        self.mean = mean
        self.deviation = deviation

    @classmethod
    def check(cls, source: Any, positions: PositionSampler | None) -> None:
        if isinstance(positions, Centred):
            raise ValueError(
                "positions must not be centred where text follows an image: all of it would be in the middle"
            )

    @classmethod
    def of(cls, data: Any) -> Captioning:
        return cls(data.tokenizer, data.source, data.splits.facts.mean, data.splits.facts.deviation)

    @classmethod
    def restored(cls, record: Any, tokenizer: Any, source: Any) -> Captioning:
        if record.outputs is not None or tuple(record.patch) != source.patch_sizes:
            raise ValueError(f"it has learned no captions of patches of {source.patch} x {source.patch} pixels")
        return cls(tokenizer, source, record.mean, record.deviation)

    def record(self) -> PatchesRecord:
        return PatchesRecord(patch=list(self.source.patch_sizes), mean=self.mean, deviation=self.deviation)

    def collate(self, rows: Rows, counts: np.ndarray) -> CaptionBatch:
        """Return the batch of images, (H, W, channels) uint8, and tokens of captions with their end."""
        patch, captions = self.source.patch_sizes, rows["label"]
        cut = [normalised(patches_of(image, patch), self.mean, self.deviation) for image in rows["array"]]
        length = max(len(patches) + len(caption) - 1 for patches, caption in zip(cut, captions, strict=True))
        tokens_BT, targets_BT = (np.full((len(cut), length), fill, np.int64) for fill in (PADDING, IGNORE))
        patches_BTP = np.zeros((*tokens_BT.shape, cut[0].shape[-1]), np.float32)
        for row, (patches, caption) in enumerate(zip(cut, captions, strict=True)):
            first, end = len(patches), len(patches) + len(caption) - 1
            tokens_BT[row, :first], patches_BTP[row, :first] = PATCH, patches
            tokens_BT[row, first:end] = caption[:-1]
            if counts[row]:
                targets_BT[row, first - 1 : end] = caption
        sizes_B2 = np.array([image.shape[:2] for image in rows["array"]], np.int64) // np.array(patch)
        high, wide = sizes_B2.max(0).tolist()
        are_alike = bool((sizes_B2 == (high, wide)).all())
        tokens, inputs, targets = map(torch.from_numpy, (tokens_BT, patches_BTP, targets_BT))
        return CaptionBatch(tokens, inputs, targets, high, wide, None if are_alike else torch.from_numpy(sizes_B2))

    def logits(self, model: Model, batch: Any) -> Tensor:
        # Padding comes last, where no token sees it.
        return model(batch.tokens, batch.positions, patches=batch.patches)

    def hidden_states(self, model: Model, batch: Any) -> Tensor:
        named: dict[str, Any] = {"patches": batch.patches}  # which a model that does not declare them cannot take
        return model.hidden_states(batch.tokens, batch.positions, **named)

    def written(self, model: Model, batch: CaptionBatch) -> list[Tensor]:
        """Return the captions that greedy decoding writes for the images of a batch.

        Images of as many patches are read together, so that none is padded.
        """
        num_patches_B = (batch.tokens == PATCH).sum(-1)
        texts: dict[int, Tensor] = {}
        for count in num_patches_B.unique().tolist():
            rows_R = (num_patches_B == count).nonzero()[:, 0]
            written = self._written(
                model, batch.images(rows_R, count), Search(max_new_tokens=self.source.caption_length)
            )
            texts |= dict(zip(rows_R.tolist(), written, strict=True))
        return [texts[row] for row in range(len(num_patches_B))]

    def _written(self, model: Model, batch: CaptionBatch, search: Search) -> list[Tensor]:
        most, first = search.max_new_tokens, batch.tokens
        if model.max_length is not None:
            most = max(1, min(most, model.max_length - first.shape[1]))
        decoding = Continuation(model, first={"positions": batch.positions, "patches": batch.patches})
        end, beams, penalty = self.tokenizer.end_id, search.beams, search.length_penalty
        return beam_search(decoding, first, max_new_tokens=most, end_id=end, beams=beams, length_penalty=penalty)

    def predict(self, model: Model, text: str, search: Search) -> Prediction:
        """Write the caption of the image in a file, which is named by its path."""
        image = self.source.at_side(
            read_image("prompt", Path(os.path.expanduser(text)), len(self.mean)), self.source.side
        )
        only_end = np.array([self.tokenizer.end_id])
        batch = self.collate({"array": [image], "label": [only_end]}, np.array([True]))
        tokens, patches, targets = (part.to(device_of(model)) for part in batch[:3])
        (written,) = self._written(model, CaptionBatch(tokens, patches, targets, *batch[3:]), search)
        return Prediction(self.tokenizer.decode(written.tolist()).strip())
