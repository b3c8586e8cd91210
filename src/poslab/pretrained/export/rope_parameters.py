"""Rotary encodings in the words of transformers' `rope_parameters`. Dimension letters: D head dim."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from poslab.encodings import NoPosition, Rotary, StackEncodings
from poslab.encodings.frequencies import inverse_frequencies
from poslab.encodings.rotary.longrope import longrope
from poslab.encodings.rotary.scalings import llama3, rope_dynamic_ntk, rope_linear, rope_ntk
from poslab.encodings.rotary.yarn import yarn
from poslab.pretrained.directory import MIN_VERSION
from poslab.pretrained.export import NotPlainError

if TYPE_CHECKING:
    from transformers import PretrainedConfig

Parameters = dict[str, Any]

KNOWN_TO_4 = {"default", "linear", "dynamic", "yarn", "llama3", "longrope"}
"""Rotations of transformers 4.57.1. Exports with each of them have the same logits there."""

STILL = 1e30  # divisor of a frequency that is 0: LongRoPE has only divisors, and 1e-30 rotates nothing in float32

ROUNDING = 1e-6
"""Relative difference of two float32 frequencies by the order in which they were computed; 2 to 4 units are 5e-7."""


@dataclass(frozen=True)
class Rope:
    """Rotation of a stack as transformers reads it."""

    parameters: Parameters  # `rope_parameters` of the configuration
    max_length: int  # its `max_position_embeddings`
    # length beyond which angles change with the length of the text; None if they never do
    changes_in_generation: int | None = None

    @property
    def rope_type(self) -> str:
        """Name of the rotation in transformers."""
        return str(self.parameters["rope_type"])

    def end(self, length: int) -> int:
        """Return `max_position_embeddings` of a pretrained model that is trained further at `length` tokens."""
        # A dynamic one is stretched from there on.
        return self.max_length if self.rope_type == "dynamic" else max(self.max_length, length)

    @property
    def notes(self) -> Iterator[str]:
        """Sentences on what differs in use although the logits of a text are the same."""
        if self.changes_in_generation is not None:
            yield (
                f"In generation, a text that grows past {self.changes_in_generation} tokens continues differently: "
                "transformers keeps keys in its cache as they were rotated, Poslab rotates them again."
            )
        if self.rope_type == "dynamic":
            yield "After a long text, transformers keeps its larger base for shorter ones, down to the training length."


def former_keys(rope_parameters: Mapping[str, Any], model_type: str) -> dict[str, Any]:
    """Return a rotation in the keys of transformers 4, which ignores `rope_parameters` without a word.

    So do servers of its time. transformers 5 reads both, and they say the same.
    """
    if "full_attention" in rope_parameters:  # ModernBERT
        full, sliding = (rope_parameters[kind] for kind in ("full_attention", "sliding_attention"))
        scaling: dict[str, Any] = {} if full["rope_type"] == "default" else {"rope_scaling": {**full}}
        keys = {"global_rope_theta": full["rope_theta"], "local_rope_theta": sliding["rope_theta"], **scaling}
        rope_parameters = full
    else:
        is_default = rope_parameters["rope_type"] == "default"
        scaling = {"rope_scaling": None if is_default else {**rope_parameters}}
        keys = {"rope_theta": rope_parameters["rope_theta"], **scaling}
    if model_type == "gpt_neox":
        keys |= {"rotary_emb_base": keys["rope_theta"], "rotary_pct": rope_parameters["partial_rotary_factor"]}
    if rope_parameters["rope_type"] == "longrope":
        keys["original_max_position_embeddings"] = rope_parameters["original_max_position_embeddings"]
    return keys


def least_transformers(config: Mapping[str, Any], needs_poslab: bool) -> str:
    """Return the earliest version of transformers for which a written configuration is known to be right."""
    rope = config.get("rope_parameters") or {}
    kinds = {of_kind["rope_type"] for of_kind in ([rope] if "rope_type" in rope else rope.values())}
    known = {"default"} if config["model_type"] in ("olmo", "olmo2") else KNOWN_TO_4  # others raise an error
    needs_5 = needs_poslab or config["model_type"].startswith("jina") or not kinds <= known
    return MIN_VERSION if needs_5 else "4.57.1"


def rotation_of(encodings: StackEncodings) -> tuple[Rotary | None, list[bool]]:
    """Return the rotation of a stack, None if it has none, and for each layer True if it rotates there.

    NotPlainError for another encoding, or several rotations.
    """
    rotary: Rotary | None = None
    for encoding in encodings:
        if type(encoding) is NoPosition:
            continue
        if type(encoding) is not Rotary:
            raise NotPlainError(f"no class of transformers with these layers has {type(encoding).__name__}")
        if rotary is not None:
            raise NotPlainError("encoding must rotate in the same way in all layers of a class, got several rotations")
        rotary = encoding
    return rotary, [type(encodings.layer(index)) is Rotary for index in range(encodings.shape.num_layers)]


def rope_of(
    rotary: Rotary | None, head_dim: int, length: int, config: Callable[[Rope], PretrainedConfig], host: Any = None
) -> Rope:
    """Return the first form in which transformers computes the frequencies of an encoding.

    Named forms come first, since other programs read them too; any other fixed spectrum is written frequency by
    frequency, as divisors of LongRoPE. NotPlainError if there is no such form.

    Args:
        rotary: the encoding; None is no position.
        head_dim: head dimension D, even, or its channels that the class rotates.
        length: training length, in tokens.
        config: makes the configuration of the model with a form.
        host: rotary module of the class; None is Llama's.
    """
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    default = (host or LlamaRotaryEmbedding).compute_default_rope_parameters
    if rotary is not None and rotary.rotary_dim < head_dim and has_factor_on("rotated", rotary, length):
        raise NotPlainError("an attention factor scales the whole head in this class, not the channels that rotate")
    for rope in _forms(rotary, head_dim, length):
        if _agrees(config(rope), rotary, head_dim, length, default):
            return rope
    assert rotary is not None, "no position is a form of transformers"
    name = getattr(_bound(rotary.scaling)[0], "__name__", "of this run")
    raise NotPlainError(
        f"encoding {name} changes its frequencies with the length of the text in a way that no class "
        "of transformers has: a scaling that does not depend on the length can be exported"
    )


def channel_order(rotary: Rotary | None, head_dim: int) -> list[int]:
    """Return our channel for each channel of transformers, which rotates the pairs (m, m + D / 2) of the whole head.

    `layout=interleaved` on 4 of 6 channels gives `[0, 2, 4, 1, 3, 5]`: channels 4 and 5 do not rotate.
    """
    if rotary is None:
        return list(range(head_dim))
    width, rest = rotary.rotary_dim, list(range(rotary.rotary_dim, head_dim))
    half = len(rest) // 2
    if rotary.layout == "interleaved":
        first, second = list(range(0, width, 2)), list(range(1, width, 2))
    else:
        first, second = list(range(width // 2)), list(range(width // 2, width))
    return [*first, *rest[:half], *second, *rest[half:]]


def has_factor_on(scaled: str, rotary: Rotary, length: int) -> bool:
    """Return True if the scaling of an encoding has an attention factor, on "logits" or "rotated" channels."""
    return rotary.factor_on == scaled and rotary.scaled_frequencies(length)[1] != 1.0


def check_order(rotary: Rotary | None, rotary_dim: int, name: str, layout: str = "half_split") -> None:
    """Raise NotPlainError unless a rotation rotates the pairs of a layout in the first channels, as a class does."""
    if rotary is None:
        return
    if rotary.layout != layout:
        raise NotPlainError(f"{name} has no layout={rotary.layout}, and its weights stay in the order that they have")
    if rotary.rotary_dim != rotary_dim:
        raise NotPlainError(f"{name} rotates {rotary_dim} channels of each head, not {rotary.rotary_dim}")


def _spectrum(rotary: Rotary | None, head_dim: int, length: int) -> tuple[Tensor, float]:
    """Return the frequencies of all pairs, (D / 2,) float32, and the attention factor, at a length of the text."""
    if rotary is None:
        return torch.zeros(head_dim // 2), 1.0
    frequencies, attention_factor = rotary.scaled_frequencies(length)
    return functional.pad(frequencies.float(), (0, head_dim // 2 - len(frequencies))), attention_factor


def _agrees(
    config: PretrainedConfig, rotary: Rotary | None, head_dim: int, length: int, default: Callable[..., Any]
) -> bool:
    """Return True if transformers computes our frequencies and our factor for short and long texts."""
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    rope_type = config.rope_parameters["rope_type"]
    init_function = ROPE_INIT_FUNCTIONS.get(rope_type, default)
    switch = config.rope_parameters.get("original_max_position_embeddings", config.max_position_embeddings)
    for text in (1, switch - 1, switch, switch + 1, 2 * length, 3 * switch, 16 * switch):
        frequencies, factor = init_function(config, seq_len=text)
        ours, our_factor = _spectrum(rotary, head_dim, text)
        same_shape = frequencies.shape == ours.shape
        if not same_shape or not torch.allclose(frequencies, ours, rtol=ROUNDING, atol=1 / STILL):
            return False
        if not math.isclose(factor, our_factor, rel_tol=ROUNDING):
            return False
    return True


NAMED: dict[Callable[..., Any] | None, tuple[str, Sequence[str]]] = {
    rope_linear: ("linear", ("factor",)),
    rope_dynamic_ntk: ("dynamic", ("factor",)),
    yarn: ("yarn", ("factor", "beta_fast", "beta_slow", "attention_factor", "truncate")),
    llama3: ("llama3", ("factor", "low_freq_factor", "high_freq_factor")),
}
"""Scalings of a whole head that transformers has too: their `rope_type`, and the arguments that it reads."""


def _forms(rotary: Rotary | None, head_dim: int, length: int) -> Iterator[Rope]:
    """Yield the forms that may contain an encoding, those that other programs know best first."""
    if rotary is None:
        yield _prefix(10_000.0, 0, head_dim, length)
        yield _longrope(None, head_dim, length, 1.0)
        return
    scaling, arguments = _bound(rotary.scaling)
    whole_head = rotary.rotary_dim == head_dim
    if scaling in NAMED and whole_head:
        yield _named(*NAMED[scaling], rotary.base, arguments, length)
    if scaling is longrope:
        yield _longrope(rotary, head_dim, arguments["training_length"], arguments["factor"])
        return
    base = rotary.base
    if scaling is rope_ntk:
        base *= arguments["factor"] ** (rotary.rotary_dim / (rotary.rotary_dim - 2))
    # Fewer channels rotate by the same frequencies if the base of the whole head is larger.
    base **= head_dim / rotary.rotary_dim
    if math.isfinite(base):
        yield _prefix(base, int(rotary.spectrum(length).count_nonzero()), head_dim, length)
    yield _longrope(rotary, head_dim, length, 1.0)


def _named(rope_type: str, keys: Sequence[str], base: float, arguments: dict[str, Any], length: int) -> Rope:
    """Return a scaling that transformers has by name."""
    parameters: Parameters = {"rope_type": rope_type, "rope_theta": base}
    for key in keys:
        if (value := arguments[key]) is not None:
            parameters[key] = value if isinstance(value, bool) else float(value)
    if rope_type == "linear":
        return Rope(parameters, int(length * parameters["factor"]))
    start = arguments["training_length"]
    if rope_type == "dynamic":  # transformers stretches from max_position_embeddings on
        return Rope(parameters, start, changes_in_generation=start)
    return Rope(parameters | {"original_max_position_embeddings": start}, int(start * parameters["factor"]))


def _bound(scaling: Callable[..., Any] | None) -> tuple[Callable[..., Any] | None, dict[str, Any]]:
    """Return the function of a scaling, and its hyperparameters, defaults included."""
    if scaling is None:
        return None, {}
    parameters = inspect.signature(scaling).parameters.values()
    given = {parameter.name: parameter.default for parameter in parameters if parameter.default is not parameter.empty}
    return scaling.func if isinstance(scaling, partial) else scaling, given


def _prefix(base: float, num_pairs: int, head_dim: int, length: int) -> Rope:
    """Return a geometric spectrum of which the first `num_pairs` pairs rotate and the others do not."""
    if num_pairs == head_dim // 2:
        return Rope({"rope_type": "default", "rope_theta": base}, length)
    share = 2 * num_pairs / head_dim
    return Rope({"rope_type": "proportional", "rope_theta": base, "partial_rotary_factor": share}, length)


def _longrope(rotary: Rotary | None, head_dim: int, switch: int, factor: float) -> Rope:
    """Return divisors of the default frequencies, for texts up to a length and for longer ones."""
    base = 10_000.0 if rotary is None else rotary.base
    default = inverse_frequencies(head_dim, base).double()

    def divisors(length: int) -> list[float]:
        return (default / _spectrum(rotary, head_dim, length)[0].double()).clamp_max(STILL).tolist()

    parameters = {
        "rope_type": "longrope",
        "rope_theta": base,
        "short_factor": divisors(switch),
        "long_factor": divisors(switch + 1),
        "original_max_position_embeddings": switch,
        "factor": factor,
        "attention_factor": _spectrum(rotary, head_dim, switch)[1],
    }
    changes = switch if parameters["short_factor"] != parameters["long_factor"] else None
    return Rope(parameters, int(switch * factor), changes)
