"""Causal transformer."""

from __future__ import annotations

from poslab.models.sequence_model import SequenceModel


class Decoder(SequenceModel):
    """Causal transformer: each token sees itself and those before it, and its outputs are logits of the next."""

    causal = True
    capabilities = frozenset({"causal", "cache", "pooled", "patches", "context_parallel"})
