"""BERT and RoBERTa under a rotation as JinaEmbeddingsV3, which has their layers, and turns queries and keys."""

from __future__ import annotations

import re
from typing import Any

from torch import Tensor

from poslab.encodings import Rotary
from poslab.pretrained.export.form import Form, NotPlainError
from poslab.pretrained.export.rope_parameters import Rope, check_order, rope_of
from poslab.pretrained.families import FAMILIES

SERVED = re.compile(r"(Bert|Roberta|XLMRoberta)(Model|ForMaskedLM|ForSequenceClassification)")
"""Names of the classes that have a counterpart."""

SAME = (
    *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act"),
    *("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout", "type_vocab_size", "layer_norm_eps"),
    *("initializer_range", "pad_token_id", "bos_token_id", "eos_token_id", "tie_word_embeddings", "dtype"),
    *("id2label", "label2id", "problem_type"),
)
"""Keys of a configuration that mean the same."""

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


def jina_form(host: Any, rotary: Rotary | None, weights: dict[str, Tensor], length: int) -> Form:
    """Return a model of the BERT family under a rotation as a class of Jina's.

    Args:
        host: the model, with a head for masked tokens or classes, or without one.
        rotary: its rotation; None is no position.
        weights: its weights.
        length: training length, in tokens.

    Raises:
        NotPlainError: if there is no such class, or it does not turn so.
    """
    import transformers

    name, config = type(host).__name__, host.config
    if (served := SERVED.fullmatch(name)) is None:
        raise NotPlainError(f"no class of transformers is a {name} that turns queries and keys")
    if name == "BertForMaskedLM" and config.hidden_act != "gelu":
        raise NotPlainError(f"JinaEmbeddingsV3ForMaskedLM has gelu in its head, and this model {config.hidden_act}")
    family = FAMILIES[config.model_type]
    head_dim = family.shape(config).head_dim
    check_order(rotary, head_dim, name)
    same: dict[str, Any] = {key: getattr(config, key, None) for key in SAME}

    def with_rope(rope: Rope) -> Any:
        return transformers.JinaEmbeddingsV3Config(
            **same, rope_parameters=dict(rope.parameters), max_position_embeddings=rope.max_length
        )

    rope = rope_of(rotary, head_dim, family.facts(config).training_length, with_rope)
    turned = with_rope(rope)
    turned.max_position_embeddings = rope.end(length)
    classifies = served[2] == "ForSequenceClassification"
    own = {_renamed(name, classifies): weight for name, weight in weights.items() if "position_embeddings" not in name}
    model_class = getattr(transformers, f"JinaEmbeddingsV3{served[2]}")
    return Form(model_class, turned, own, rope.end(length), rope_type=rope.rope_type)


def _renamed(name: str, classifies: bool) -> str:
    """Return the name of a weight in Jina's class; the pooler of BERT is part of the head where it classifies."""
    for pattern, replacement in RENAMED:
        name = re.sub(pattern, replacement, name)
    return re.sub(r"^roberta\.pooler\.", "classifier.", name) if classifies else name
