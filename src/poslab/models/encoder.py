"""Bidirectional transformer."""

from __future__ import annotations

from poslab.models.sequence_model import SequenceModel


class Encoder(SequenceModel):
    """Bidirectional transformer: each token sees all of its sequence."""

    causal = False
    capabilities = frozenset({"bidirectional", "pooled", "patches"})
