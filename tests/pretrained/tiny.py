"""Tiny models of every family with random weights."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM

from poslab.pretrained.families import FAMILIES

VOCAB_SIZE, ROWS = 40, 24
"""Tokens of every model, and positions that those with learned rows have."""

_BERT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "pad_token_id": 0,
}
_LLAMA = _BERT | {"num_key_value_heads": 2, "max_position_embeddings": ROWS, "bos_token_id": 1, "eos_token_id": 2}
_WINDOW = {"sliding_window": 5, "use_sliding_window": True}

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "bert": _BERT | {"max_position_embeddings": ROWS},
    "roberta": _BERT | {"max_position_embeddings": ROWS + 2, "pad_token_id": 1},
    "xlm-roberta": _BERT | {"max_position_embeddings": ROWS + 2, "pad_token_id": 1},
    "electra": _BERT | {"max_position_embeddings": ROWS, "embedding_size": 16},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48, "max_position_embeddings": ROWS},
    "modernbert": _BERT
    | {"local_attention": 6, "global_attn_every_n_layers": 2, "max_position_embeddings": ROWS}
    | {"cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": ROWS, "scale_attn_by_inverse_layer_idx": True}
    | {"bos_token_id": 1, "eos_token_id": 2},
    "opt": _BERT
    | {"max_position_embeddings": ROWS, "ffn_dim": 48, "word_embed_proj_dim": 16, "bos_token_id": 1, "eos_token_id": 2},
    "gpt_neox": _BERT
    | {"max_position_embeddings": ROWS, "bos_token_id": 1, "eos_token_id": 2}
    | {"rope_parameters": {"rope_type": "default", "rope_theta": 5000.0, "partial_rotary_factor": 0.25}},
    "llama": _LLAMA | {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}},
    "mistral": _LLAMA | {"sliding_window": 5, "head_dim": 16},
    "qwen2": _LLAMA | _WINDOW | {"max_window_layers": 1},
    "qwen3": _LLAMA | {"head_dim": 16},
    "gemma": _LLAMA | {"head_dim": 16},
    "olmo": _LLAMA | {"clip_qkv": 0.5},
    "olmo2": _LLAMA,
    "smollm3": _LLAMA | _WINDOW | {"num_hidden_layers": 4},
}

CAUSAL = [name for name, family in FAMILIES.items() if family.causal]
BIDIRECTIONAL = [name for name, family in FAMILIES.items() if not family.causal]


def tiny_config(name: str, **others: Any) -> Any:
    return AutoConfig.for_model(name, vocab_size=VOCAB_SIZE, **CONFIGURATIONS[name] | others)


def tiny(name: str, dtype: torch.dtype = torch.float64, **others: Any) -> Any:
    """A model of a family in evaluation mode, always with the same weights."""
    torch.manual_seed(0)
    auto_class = AutoModelForCausalLM if FAMILIES[name].causal else AutoModelForMaskedLM
    model = auto_class.from_config(tiny_config(name, **others), attn_implementation="eager").to(dtype).eval()
    for parameter in model.parameters():  # of a size at which attention is not uniform
        parameter.data += 0.3 * torch.randn_like(parameter)
    return model


def some_tokens(batch: int = 2, length: int = 11) -> torch.Tensor:
    """Token ids above those of special tokens, always the same."""
    return torch.randint(5, VOCAB_SIZE, (batch, length), generator=torch.Generator().manual_seed(1))


def left_padded(batch_of_two: torch.Tensor, padding: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows with padding on the left of the second, and its mask."""
    real = torch.ones_like(batch_of_two)
    real[1, :padding] = 0
    return batch_of_two.masked_fill(real == 0, 0), real
