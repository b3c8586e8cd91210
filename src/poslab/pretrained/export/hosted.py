"""A pretrained model under another encoding as a class of transformers: plain where one is exact, else with Poslab.

BERT and RoBERTa under a rotation are JinaEmbeddingsV3, which has their layers, and rotates queries and keys.
"""

from __future__ import annotations

import copy
import re
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from poslab.encodings import Learned
from poslab.models.adaptation import merged
from poslab.pretrained.borrow import MODULE, describe
from poslab.pretrained.exchange import Exchange
from poslab.pretrained.exchanged_classes import model_class, under_encoding
from poslab.pretrained.export import Form, NotPlainError
from poslab.pretrained.export.plain import check_sampler
from poslab.pretrained.export.rope_parameters import Rope, check_order, has_factor_on, rope_of, rotation_of
from poslab.pretrained.families import FAMILIES, head_dims, part
from poslab.pretrained.families import rope_of as rope_of_layers
from poslab.pretrained.hosted import HostedModel

SERVED = re.compile(r"(Bert|Roberta|XLMRoberta)(Model|ForMaskedLM|ForSequenceClassification)")
"""Names of the classes that have a counterpart."""

SAME = (
    *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act"),
    *("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout", "type_vocab_size", "layer_norm_eps"),
    *("initializer_range", "pad_token_id", "bos_token_id", "eos_token_id", "tie_word_embeddings", "dtype"),
    *("id2label", "label2id", "problem_type"),
)
"""Keys of a configuration that mean the same."""

KEYS = (
    *("rope_type", "type", "rope_theta", "partial_rotary_factor", "factor", "original_max_position_embeddings"),
    *("attention_factor", "beta_fast", "beta_slow", "truncate", "mscale", "mscale_all_dim"),
    *("low_freq_factor", "high_freq_factor", "short_factor", "long_factor"),
)
"""Keys of rope_parameters that describe a rotation, which another one replaces."""

RENAMED = (
    (r"^(bert|roberta)\.", "roberta."),
    (r"encoder\.layer\.", "layers."),
    (r"attention\.self\.(q|k|v)(uery|ey|alue)\.", r"self_attn.\1_proj."),
    (r"attention\.output\.dense\.", "self_attn.o_proj."),
    (r"attention\.output\.LayerNorm\.", "post_attention_layernorm."),
    (r"intermediate\.dense\.", "mlp.fc1."),
    (r"(?<=\d\.)output\.dense\.", "mlp.fc2."),
    (r"(?<=\d\.)output\.LayerNorm\.", "post_mlp_layernorm."),
    (r"^cls\.predictions\.transform\.dense\.", "lm_head.dense."),
    (r"^cls\.predictions\.transform\.LayerNorm\.", "lm_head.layer_norm."),
    (r"^cls\.predictions\.", "lm_head."),
    (r"^classifier\.(weight|bias)$", r"classifier.out_proj.\1"),
)
"""Names of weights in BERT and RoBERTa, and in Jina's classes, applied in this order."""


def _jina(exchange: Exchange, config: Any, weights: dict[str, Tensor], length: int) -> Form | None:
    """Return a model of the BERT family under a rotation or none as one of JinaEmbeddingsV3.

    NotPlainError if there is no such class, or it does not rotate so.
    """
    import transformers

    family, name = exchange.family, type(exchange.model).__name__
    if family.rotary is not None or family.causal:
        return None
    rotary, rotates = rotation_of(exchange.encodings)
    if len(set(rotates)) > 1:
        raise NotPlainError("JinaEmbeddingsV3 rotates in all of its layers or in none")
    if (served := SERVED.fullmatch(name)) is None:
        raise NotPlainError(f"no class of transformers is a {name} that rotates queries and keys")
    if name == "BertForMaskedLM" and config.hidden_act != "gelu":
        raise NotPlainError(f"JinaEmbeddingsV3ForMaskedLM has gelu in its head, and this model {config.hidden_act}")
    head_dim = exchange.encodings.shape.head_dim
    check_order(rotary, head_dim, name)
    same: dict[str, Any] = {key: getattr(config, key, None) for key in SAME}

    def with_rope(rope: Rope) -> Any:
        return transformers.JinaEmbeddingsV3Config(
            **same, rope_parameters=dict(rope.parameters), max_position_embeddings=rope.max_length
        )

    rope = rope_of(rotary, head_dim, family.facts(config).training_length, with_rope)
    rotated = with_rope(rope)
    rotated.max_position_embeddings = rope.end(length)
    renames = [*RENAMED]
    if served[2] == "ForSequenceClassification":  # the pooler of BERT is part of the head
        renames.append((r"^roberta\.pooler\.", "classifier."))
    renamed = {}
    for name, weight in weights.items():
        if "position_embeddings" not in name:
            for pattern, replacement in renames:
                name = re.sub(pattern, replacement, name)
            renamed[name] = weight
    model_class = getattr(transformers, f"JinaEmbeddingsV3{served[2]}")
    return Form(model_class, rotated, renamed, rope.end(length), rope_type=rope.rope_type)


def hosted_form(model: Any, length: int) -> Form:
    """Return a model of transformers under an encoding as a class of transformers.

    ValueError for a model whose outputs or positions no class of transformers could have, with Poslab either.

    Args:
        model: a `HostedModel`, or a model that was changed in place.
        length: training length, in tokens.
    """
    exchange = exchange_of(model)
    encodings, name = exchange.encodings, type(exchange.model).__name__
    if exchange.base.config is not exchange.model.config:
        raise ValueError(f"{name} cannot be exported: its text layers are in a model with towers for other data")
    config = copy.deepcopy(exchange.model.config)
    config._attn_implementation = "eager"
    weights = {  # with updates of low rank added
        name: weight for name, weight in merged(exchange.model.state_dict()).items() if f"{MODULE}." not in name
    }
    adapted = any(".base_layer." in name or ".modules_to_save." in name for name in weights)
    if adapted or getattr(config, "quantization_config", None) is not None:
        raise ValueError(
            f"{name} must have plain weights to be exported: merge adapters (merge_and_unload), and dequantize it"
        )
    generation = getattr(exchange.model, "generation_config", None)
    reason: NotPlainError | None = None
    is_plain = not (len(encodings.temperatures) or any(encodings.windows) or any(encodings.chunks))
    if is_plain and exchange.keeps_own:
        length = exchange.family.facts(config).training_length
        return Form(type(exchange.model), config, weights, length, generation=generation)
    for form_of in (_more_rows, _rotated, _jina) if is_plain else ():
        try:
            form = form_of(exchange, copy.deepcopy(config), weights, length)
        except NotPlainError as error:
            reason = error
            continue
        if form is not None:
            return replace(form, generation=generation)
    base = exchange.model.base_model
    prefix = "" if base is exchange.model else f"{exchange.model.base_model_prefix}."
    of_encodings = {f"{prefix}{MODULE}.{name}": weight for name, weight in encodings.state_dict().items()}
    if config.model_type not in FAMILIES:
        why = "" if reason is None else f": {reason}"
        raise ValueError(f"{name} can be exported only under a rotation that its own class has{why}")
    notes = () if reason is None else (f"It needs Poslab: {reason}.",)
    host_class: Any = type(exchange.model)
    under, made = under_encoding(config, describe(encodings)), model_class(host_class)
    end = encodings.max_length or max(length, exchange.family.facts(config).training_length)
    return Form(made, under, weights | of_encodings, end, notes, needs_poslab=True, generation=generation)


def exchange_of(model: Any) -> Exchange:
    """Return the exchange of a `HostedModel`, or of a model whose encoding was replaced in place.

    ValueError if there is none, or for a model that no class of transformers could be.
    """
    if isinstance(model, HostedModel):
        if model.output is not None:
            raise ValueError("model must predict tokens to be exported, and this one has other outputs")
        check_sampler(model.position_sampler, model.max_length)
        model.exchange.require_current()
        return model.exchange
    model = getattr(model, "_orig_mod", model)  # compiled
    model = model.get_base_model() if hasattr(model, "get_base_model") else model
    bases = (getattr(module, "poslab_exchange", None) for module in model.modules())
    exchange: Exchange | None = next((exchange for exchange in bases if exchange is not None), None)
    if exchange is None or exchange.model is not model:
        raise ValueError(
            f"model must be one of Poslab, or one of transformers after poslab.exchange, got {type(model).__name__}"
        )
    return exchange


def _more_rows(exchange: Exchange, config: Any, weights: dict[str, Tensor], length: int) -> Form | None:
    """Return the same class with the rows of another table, where these are as wide as the model."""
    family, (first, *others) = exchange.family, list(exchange.encodings)
    if family.rows is None or type(first) is not Learned or others or config.model_type not in FAMILIES:
        return None
    rows = part(exchange.base, family.rows).weight
    table = first.table.weight.detach()
    if rows.shape[1] != table.shape[1]:  # ELECTRA's are narrower, and its rows are added before it widens them
        return None
    name = next(name for name, parameter in exchange.model.named_parameters() if parameter is rows)
    before = family.first_row(config)
    more_rows = torch.cat([weights[name][:before], table.to(rows.dtype)])
    config.max_position_embeddings += len(more_rows) - len(rows)
    return Form(type(exchange.model), config, weights | {name: more_rows}, len(table))


def _rotated(exchange: Exchange, config: Any, weights: dict[str, Tensor], length: int) -> Form | None:
    """Return the same class with another rotation; NotPlainError if the class does not rotate so."""
    import transformers

    family, name = exchange.family, type(exchange.model).__name__
    if family.rotary is None:
        return None
    if other := [key for key in rope_of_layers(config) if key not in KEYS]:
        raise NotPlainError(f"{name} reads {other[0]} of rope_parameters, which belongs to its own rotation")
    rotary, rotates = rotation_of(exchange.encodings)
    if config.model_type == "smollm3":
        config.no_rope_layers = [int(layer_rotates) for layer_rotates in rotates]
    elif len(set(rotates)) > 1:
        raise NotPlainError(f"{name} rotates in all of its layers or in none")
    facts, head_dim = family.facts(config), exchange.encodings.shape.head_dim
    width = round(head_dim * (facts.fraction or 1.0))
    if family.rotates_share and rotary is not None:
        width = rotary.rotary_dim
    check_order(rotary, width, name, family.layout)
    if rotary is not None and width != head_dim and has_factor_on("logits", rotary, length):
        raise NotPlainError(f"{name} does not scale channels that do not rotate by an attention factor")

    def with_rope(rope: Rope) -> Any:
        rotated, parameters = copy.deepcopy(config), dict(rope.parameters)
        if family.rotates_share:
            parameters["partial_rotary_factor"] = width / head_dims(config)[1]
        kinds = [kind for kind in config.rope_parameters if kind.endswith("_attention")]
        rotated.rope_parameters = {kind: dict(parameters) for kind in kinds} or parameters
        rotated.max_position_embeddings = rope.max_length
        return rotated

    def with_one_rope(rope: Rope) -> Any:
        return transformers.LlamaConfig(
            head_dim=head_dim, max_position_embeddings=rope.max_length, rope_parameters=dict(rope.parameters)
        )

    if "full_attention" in config.rope_parameters:  # ModernBERT has a rotation for each kind of layer
        rope = rope_of(rotary, width, facts.training_length, with_one_rope)
    else:
        rope = rope_of(rotary, width, facts.training_length, with_rope, type(part(exchange.base, family.rotary)))
    rotated = with_rope(rope)
    rotated.max_position_embeddings = rope.end(length)
    notes = tuple(rope.notes) if family.causal else ()
    return Form(type(exchange.model), rotated, weights, rope.end(length), notes, rope_type=rope.rope_type)
