"""Families of Hugging Face models that can run under any encoding: where each keeps what this needs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn

from poslab.encodings import LayerPattern, NoPosition, PretrainedFacts, StackShape
from poslab.encodings.frequencies import inverse_frequencies


@dataclass(frozen=True)
class Family:
    """Dotted paths of the parts of a model."""

    layers: str  # the list of layers, from the base model
    attention: str  # the module that calls the attention function, from a layer
    # the modules from hidden states to token logits, one after another, from the whole model
    head: Sequence[str]
    causal: bool  # True if a token sees only itself and those before it
    # the module that makes the masks and calls the layers, from transformers' base model; "" is that itself
    base: str = ""
    # the module that returns the cosine and sine of positions, from the base; None if there is none
    rotary: str | None = None
    rows: str | None = None  # the learned rows of positions, from the base; None if there are none
    # number of rows before the first position; None: up to the padding's, as in RoBERTa
    rows_before: int | None = 0
    # True if position ids are numbers of rows, so that they begin at `first_row`; False if at 0
    ids_count_rows: bool = False
    # the module that widens embeddings, from the base, which only some models of the family have
    projection: str | None = None
    # True if a model of the family may rotate only a share of each head (`partial_rotary_factor`)
    rotates_share: bool = False
    layout: str = "half_split"  # channels of a pair that rotates, as in `Rotary`
    still: Sequence[str] = ()  # kinds of layers whose attention does not rotate, where others of the model do
    # True if position ids that start again within a row, without a mask, separate its documents
    packs: bool = False
    # tokens that a token sees beyond `sliding_window` on one side: 1 where it does not count itself
    past_window: int = 0

    def base_of(self, model: Any) -> Any:
        """Return the module that makes the masks and calls the layers of a model, with or without a head or a tower."""
        config = text_of(model.config)
        if config is model.config or model.config.model_type in FAMILIES:
            return part(model.base_model, self.base)
        return next(x for x in model.modules() if getattr(x, "config", None) is config and hasattr(x, self.layers))

    def layers_of(self, base: nn.Module) -> list[nn.Module]:
        """Return the layers of a base model that have attention."""
        layers, kinds = list(part(base, self.layers)), declared(base.config, "layer_types")
        return layers if not kinds else [layer for layer, kind in zip(layers, kinds, strict=True) if kind in ATTENTION]

    def scaled(self, logits: Tensor, config: Any) -> Tensor:
        """Return what a head returns, scaled as in Cohere and Granite, and capped as in Gemma 2."""
        scale = (declared(config, "logit_scale") or 1.0) / (declared(config, "logits_scaling") or 1.0)
        cap = declared(config, "final_logit_softcapping")
        logits = logits if scale == 1.0 else logits * scale
        return logits if cap is None else cap * torch.tanh(logits / cap)

    def first_row(self, config: Any) -> int:
        """Return the row of the first position."""
        return int(config.pad_token_id) + 1 if self.rows_before is None else self.rows_before

    def first_id(self, config: Any) -> int:
        """Return the position id of the first token."""
        return self.first_row(config) if self.ids_count_rows else 0

    def windows(self, config: Any) -> list[int | None]:
        """Return for each layer the number of last tokens that a token sees, itself included; None for all."""
        window = declared(config, "sliding_window")
        width = None if window is None else window + self.past_window
        return [width if kind == "sliding_attention" else None for kind in kinds_of(config)]

    def chunks(self, config: Any) -> list[int | None]:
        """Return for each layer the number of tokens of the chunks within which tokens see each other; None for all."""
        chunk = declared(config, "attention_chunk_size")
        return [chunk if kind == "chunked_attention" else None for kind in kinds_of(config)]

    def shape(self, config: Any, digits: Sequence[int] = ()) -> StackShape:
        """Return the shape that encodings see, with the facts of the configuration."""
        heads = config.num_attention_heads
        return StackShape(
            d_model=config.hidden_size,
            num_layers=len(kinds_of(config)),
            num_heads=heads,
            num_kv_heads=declared(config, "num_key_value_heads") or heads,
            head_dim=config.hidden_size // heads if self.rotary is None else sum(head_dims(config)),
            causal=self.causal,
            digits=tuple(digits),
            pretrained=self.facts(config),
        )

    def share(self, config: Any) -> float:
        """Return the share of the channels that rotate: elsewhere the key is not read, or of frequencies not 0."""
        return float(rope_of(config).get("partial_rotary_factor") or 1.0) if self.rotates_share else 1.0

    def on_layers(self, config: Any, encoding: Any) -> Any:
        """Return an encoding as each layer of a model takes it, where it takes the base of the model's own rotation.

        Each kind of layers then has its own base, layers that do not rotate still do not, and a scaling is only in
        layers that see the whole text, if there are some. Others, and a base that is given, are for all layers alike.
        """
        function, given = getattr(encoding, "func", encoding), getattr(encoding, "keywords", {})
        if self.rotary is None or "base" in given or "base" not in getattr(function, "of_pretrained", ()):
            return encoding
        kinds, windows = kinds_of(config), self.windows(config)
        rotates = declared(config, "no_rope_layers") or [kind not in self.still for kind in kinds]
        plain = {key: value for key, value in given.items() if key != "scaling"}
        see_all = None in windows and plain != given
        layers = [
            (bool(turns), rope_of(config, kind)["rope_theta"], see_all and window is not None)
            for turns, kind, window in zip(rotates, kinds, windows, strict=True)
        ]
        if len(different := list(dict.fromkeys(layers))) == 1:
            return encoding
        of_kinds = [
            partial(function, **(plain if is_local else given), base=float(base)) if turns else NoPosition
            for turns, base, is_local in different
        ]
        return LayerPattern(of_kinds, order=[different.index(layer) for layer in layers])

    def facts(self, config: Any) -> PretrainedFacts:
        """Return what encodings take from the model unless they are given it."""
        length = config.max_position_embeddings - (self.first_row(config) if self.ids_count_rows else 0)
        if length < 1:
            raise ValueError(
                f"model must have positions, got max_position_embeddings={config.max_position_embeddings} in its "
                "config.json"
            )
        if self.rotary is None:
            return PretrainedFacts(training_length=length, max_length=length)
        rope = rope_of(config)
        share = self.share(config)
        still, rotated = head_dims(config)
        return PretrainedFacts(
            training_length=rope.get("original_max_position_embeddings") or length,
            base=float(rope["rope_theta"]),
            fraction=share * rotated / (still + rotated),
            layout=self.layout,
            factor_on="rotated",  # of all classes of transformers
            spectrum=partial(_spectrum, config, share),
            stretch=float(rope.get("factor") or 1.0),
        )


POSITIVE = (
    *("rope_theta", "factor", "original_max_position_embeddings", "partial_rotary_factor", "attention_factor"),
    *("beta_fast", "beta_slow", "low_freq_factor", "high_freq_factor"),
)
"""Keys of rope_parameters that are positive numbers, where they are there."""


def text_of(config: Any) -> Any:
    """Return the configuration of the text layers: its own, or the one within a configuration of several towers."""
    text = getattr(config, "text_config", None)
    return text if hasattr(text, "model_type") else config


def check_rotation(config: Any) -> None:
    """Raise ValueError, starting with `model`, for parameters of a rotation of which transformers would make none."""
    rope = getattr(config, "rope_parameters", None)
    if not isinstance(rope, dict):
        return
    for of_kind in [rope] if "rope_type" in rope else [value for value in rope.values() if isinstance(value, dict)]:
        for key in POSITIVE:
            value = of_kind.get(key)
            if (value is not None or key == "rope_theta") and not _is_positive(value):
                raise ValueError(f"model must have a positive {key} in its config.json, got {value!r}")
        if (share := of_kind.get("partial_rotary_factor")) is not None and share > 1:
            raise ValueError(f"model must have a partial_rotary_factor of at most 1 in its config.json, got {share!r}")
        factors = [of_kind[key] for key in ("short_factor", "long_factor") if of_kind.get(key) is not None]
        is_list = all(isinstance(each, list) and all(map(_is_positive, each)) for each in factors)
        if not is_list or len({len(each) for each in factors}) > 1:
            raise ValueError("model must have a short_factor and a long_factor of positive numbers in its config.json")


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


def kinds_of(config: Any) -> list[str]:
    """Return the kind of attention of each layer that has some."""
    kinds = declared(config, "layer_types") or ["sliding_attention"] * config.num_hidden_layers
    return [kind for kind in kinds if kind in ATTENTION]


ATTENTION = ("full_attention", "sliding_attention", "chunked_attention")
"""Kinds of layers whose attention can be replaced."""


def declared(config: Any, key: str) -> Any:
    """Return the value of a key of a configuration; None where models of its class do not read it, if it is there."""
    return getattr(config, key) if hasattr(type(config), key) else None


def head_dims(config: Any) -> tuple[int, int]:
    """Return the channels of a head of latent attention that have no position, and those that rotate or may."""
    if rotated := declared(config, "qk_rope_head_dim"):
        return int(config.qk_nope_head_dim), int(rotated)
    return 0, int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def with_rotated_first(x: Tensor, of: Any) -> Tensor:
    """Return queries or keys with the channels that rotate before the others, which latent attention has first.

    The order of channels changes no product of queries and keys. `of` is a configuration or a layer's attention.
    """
    rotated = getattr(of, "qk_rope_head_dim", None) or 0
    return torch.cat([x[..., -rotated:], x[..., :-rotated]], dim=-1) if rotated else x


def rope_of(config: Any, kind: str = "full_attention") -> dict[str, Any]:
    """Return the rope parameters of a kind of layers: some models have a base for each."""
    rope: dict[str, Any] = config.rope_parameters
    return rope.get(kind, rope)


def rotation(config: Any, share: float, length: int, kind: str = "full_attention") -> tuple[Tensor, float]:
    """Return the inverse frequencies by which a kind of layers rotates, and the factor on what is rotated."""
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    of_layers = {"layer_type": kind} if kind in config.rope_parameters else {}
    rope = rope_of(config, kind)
    if rope["rope_type"] == "default":
        return inverse_frequencies(int(head_dims(config)[1] * share), float(rope["rope_theta"])), 1.0
    frequencies, factor = ROPE_INIT_FUNCTIONS[rope["rope_type"]](config, None, length, **of_layers)
    return frequencies, float(factor)


def _spectrum(config: Any, share: float, length: int) -> Tensor:
    """Return the inverse frequencies by which layers of full attention rotate at a length of the text."""
    return rotation(config, share, length)[0]


_BERT = Family(
    layers="encoder.layer",
    attention="attention.self",
    head=["cls"],
    causal=False,
    rows="embeddings.position_embeddings",
)
_ROBERTA = replace(_BERT, head=["lm_head"], rows_before=None, ids_count_rows=True)
_LLAMA = Family(layers="layers", attention="self_attn", head=["lm_head"], causal=True, rotary="rotary_emb", packs=True)

FAMILIES: dict[str, Family] = {
    "bert": _BERT,
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "electra": replace(_BERT, head=["generator_predictions", "generator_lm_head"], projection="embeddings_project"),
    "distilbert": replace(
        _BERT,
        layers="transformer.layer",
        attention="attention",
        head=["vocab_transform", "activation", "vocab_layer_norm", "vocab_projector"],
    ),
    "modernbert": Family(
        layers="layers", attention="attn", head=["head", "decoder"], causal=False, rotary="rotary_emb", past_window=1
    ),
    "gpt2": Family(layers="h", attention="attn", head=["lm_head"], causal=True, rows="wpe", packs=True),
    "opt": replace(
        _LLAMA, rotary=None, base="decoder", rows="embed_positions", rows_before=2, projection="project_in", packs=False
    ),
    "gpt_neox": replace(_LLAMA, attention="attention", rotates_share=True),
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "gemma", "olmo", "olmo2", "smollm3"), _LLAMA),
}
"""Descriptors by `model_type`."""

PREFIX = "poslab_"
"""Beginning of the `model_type` of a model that is exported under an encoding. Under its own type, transformers without
Poslab would load it as if it had its own positions, and say so in a warning at most."""

REFUSED: dict[str, tuple[Any, ...]] = {
    "is_decoder": (None, False),
    "add_cross_attention": (None, False),
    "is_encoder_decoder": (None, False),
    "position_embedding_type": (None, "absolute"),
    "use_bidirectional_attention": (None, False),
}
"""Keys of a configuration that change attention without a counterpart here, with their values that do not."""


def part(of: Any, path: str) -> Any:
    """Return the part at a dotted path; "" is the whole."""
    return attrgetter(path)(of) if path else of
