"""The positions of a model, layer by layer, as lines of a table and as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from poslab.pretrained.inspection.findings import Finding, findings_of
from poslab.pretrained.inspection.layers import Layer, layers_of, logit_factor, max_length
from poslab.pretrained.inspection.sources import Description, describe
from poslab.pretrained.inspection.spectrum import Rope


@dataclass(frozen=True)
class Inspection:
    """The positions of a model.

    Args:
        description: what the model's file has, with the defaults of its class.
        context: tokens of the text for which it is inspected.
        layers: positions of each layer.
        findings: contradictions and limits, warnings first.
    """

    description: Description
    context: int
    layers: list[Layer]
    findings: list[Finding]

    @property
    def groups(self) -> list[tuple[list[int], Layer]]:
        """Equal layers with their numbers."""
        firsts = [n for n, layer in enumerate(self.layers) if layer not in self.layers[:n]]
        return [([m for m, other in enumerate(self.layers) if other == self.layers[n]], self.layers[n]) for n in firsts]

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain data; frequencies are in radians per token, at the length of the text."""
        groups = [
            {"layers": numbers, **asdict(layer), "rope": layer.rope and self._rope(layer.rope)}
            for numbers, layer in self.groups
        ]
        return {
            "model": self.description.name,
            "origin": self.description.origin,
            "num_layers": len(self.layers),
            "max_position_embeddings": max_length(self.description),
            "context": self.context,
            "groups": groups,
            "findings": [asdict(finding) for finding in self.findings],
        }

    def rows(self, layer: Layer) -> Iterator[tuple[str, str]]:
        """Yield the properties of a layer, each with its value in words."""
        details = {
            "latent (MLA)": layer.is_latent,
            f"{'chunks' if layer.attention == 'chunked' else 'window'} of {layer.window} tokens": layer.window,
            "sinks": layer.has_sinks,
            f"logits capped at {layer.softcap}": layer.softcap,
        }
        yield "attention", ", ".join([layer.attention, *(detail for detail, holds in details.items() if holds)])
        if (rope := layer.rope) is None:
            yield "rotation", layer.rotation
        else:
            half, last = rope.rotary_dim // 2, rope.first + rope.rotary_dim - 1
            pairs = {
                "half-split": f"half-split pairs, m with m + {half}",
                "interleaved": "interleaved pairs, 2m with 2m + 1",
            }
            pairing = pairs.get(str(rope.pairing), "pairs are unknown")
            yield "rotation", f"channels {rope.first}-{last} of {rope.head_dim}; {pairing}"
            yield "base", f"{rope.base:,.10g}"
            hidden = ("rope_type", "type", "rope_theta", "divisors")
            values = [f"{key}={_short(value)}" for key, value in rope.block.items() if key not in hidden]
            yield "scaling", ", ".join([str(rope.block.get("rope_type")), *values])
            yield "attention factor", f"{rope.attention_factor:.6g}"
            if (scale := logit_factor(self.description, rope)) != 1:
                yield "logit factor", f"{scale:.6g} (mscale_all_dim), after the attention factor"
            waves = 2 * math.pi / np.array([f for f in rope.frequencies(self.context) if f])
            if waves.size:
                turned = f"{(waves <= rope.original_length).sum()} of {len(rope.plain)} pairs rotate once"
                yield (
                    "wavelengths",
                    f"{waves.min():,.1f} to {waves.max():,.0f} tokens; {turned} in {rope.original_length:,}",
                )
        yield from (("positions", other) for other in layer.others)
        yield from (("with length", change) for change in layer.with_length)

    def _rope(self, rope: Rope) -> dict[str, Any]:
        return {
            **{key: getattr(rope, key) for key in ("type", "base", "factor", "attention_factor", "original_length")},
            **{key: getattr(rope, key) for key in ("head_dim", "first", "rotary_dim", "pairing")},
            "parameters": dict(rope.block),
            "logit_factor": logit_factor(self.description, rope),
            "inverse_frequencies": rope.frequencies(self.context).tolist(),
        }


def inspect_positions(source: str, context: int | None = None) -> Inspection:
    """Return what a model does with positions, without loading its weights or running code of its folder.

    Args:
        source: folder with `config.json`, such a file, a GGUF file, the name of a class of transformers or of its
            `model_type` (`LlamaForCausalLM`, `llama`), or of a model of the hub that is on this machine.
        context: tokens of the text for which it is inspected, at least 1; None is `max_position_embeddings`.

    Raises:
        ValueError: in one sentence, for a source that is not there or is damaged, or a context below 1.
    """
    if context is not None and (isinstance(context, bool) or not isinstance(context, int) or not 0 < context < 2**31):
        raise ValueError(f"context must be a positive integer, got {context!r}")
    description = describe(source)
    layers, length = layers_of(description), context or max_length(description)
    distinct = [layer for n, layer in enumerate(layers) if layer not in layers[:n]]
    return Inspection(description, length, layers, findings_of(description, distinct, length))


def ranges(numbers: list[int]) -> str:
    """Return `0-4, 6` of 0, 1, 2, 3, 4, 6."""
    starts = [n for n in numbers if n - 1 not in numbers]
    ends = [n for n in numbers if n + 1 not in numbers]
    return ", ".join(f"{start}-{end}" if end > start else str(start) for start, end in zip(starts, ends, strict=True))


def _short(value: object) -> str:
    """Return a value as in JSON, of a long list only its ends."""
    if isinstance(value, list) and len(value) > 4:
        return f"[{value[0]}, ..., {value[-1]}] ({len(value)})"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
