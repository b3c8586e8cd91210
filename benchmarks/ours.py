"""The measured parts of Poslab: a decoder, and one attention layer, under any choice of conf/encoding.

Dimension letters: B batch, H heads, T queries, S keys, D head dim, M model dim.
"""

from __future__ import annotations

from typing import Any

import torch
from hydra import compose, initialize_config_dir
from plan import Size
from torch import Tensor, nn
from torch.nn import functional

from poslab.attention import MultiHeadAttention, Route, choose_route, self_attention_contexts
from poslab.compiled import library
from poslab.configuration.build import build
from poslab.configuration.command_line import CONF
from poslab.data.composed import resolved
from poslab.data.source import default_cache
from poslab.data.tokenizers import ByteTokenizer
from poslab.encodings import EncodingFactory, Positions, StackEncodings, StackShape, Tokens
from poslab.models import Decoder
from poslab.runs.recipe import Recipe

NONE = "none"
"""The choice of conf/encoding that encodes nothing."""

NOTHING, OURS = "no encoding", "Poslab"
"""Contestants of tables."""

DIGITS = ByteTokenizer.digits


def use_kernel() -> None:
    """Use the compiled operators, as a long run on a CPU does under `trainer.kernel=auto`.

    Raises:
        NoKernelError: if it cannot be compiled here.
    """
    library.load_kernel(default_cache() / "kernels")


def decoder(encoding: str, size: Size) -> Decoder:
    """Return the decoder of a training run of this size, trained on texts as long as they are measured."""
    return Recipe.of(configuration(_choices(encoding, size))).model.build(size.vocab_size, digits=DIGITS)


def encodings(encoding: str, size: Size) -> StackEncodings:
    """Return the encodings of a decoder of this size."""
    config = configuration(_choices(encoding, size))
    shape = StackShape(size.d_model, size.num_layers, size.num_heads, size.num_heads, size.head_dim, digits=DIGITS)
    return StackEncodings(build(config, "encoding", EncodingFactory), shape)


def routes(encoding: str, size: Size) -> list[Route]:
    """Return the routes of the layers of a decoder, each once."""
    stack = encodings(encoding, size)
    return list(dict.fromkeys(choose_route(stack.layer(layer)) for layer in range(size.num_layers)))


class AttentionLayer(nn.Module):
    """Our attention with its projections, as a stack of one layer; of a pattern of encodings it has the first.

    Args:
        encoding: a choice of conf/encoding.
        size: of the layer.
    """

    def __init__(self, encoding: str, size: Size) -> None:
        super().__init__()
        self.encodings = encodings(encoding, size)
        self.attention = MultiHeadAttention(size.d_model, size.num_heads, size.num_heads, size.head_dim)

    def forward(self, x_BTM: Tensor) -> Tensor:
        """Return the output of the layer, tables included."""
        positions = Positions.range(x_BTM.shape[1], device=x_BTM.device)
        tokens_BT = torch.zeros(x_BTM.shape[:2], dtype=torch.int64, device=x_BTM.device)
        (context,) = self_attention_contexts(self.encodings, positions, tokens_BS=tokens_BT)
        return self.attention(self.encodings.embed(x_BTM, positions, Tokens(tokens_BT)), context)


class MaskedLayer(nn.Module):
    """The same projections around PyTorch's attention under a fixed bias of distance as a T x T mask.

    The cheapest form of a materialised mask: one that learned would add a gradient of the same size.
    """

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(size.d_model, size.num_heads, size.num_heads, size.head_dim)

    def forward(self, x_BTM: Tensor) -> Tensor:
        """Return the output of the layer, the mask included."""
        heads, dim = self.attention.num_heads, self.attention.head_dim
        q_BHTD = self.attention.query(x_BTM).unflatten(-1, (heads, dim)).transpose(1, 2)
        k_BHSD, v_BHSD = self.attention.key_value(x_BTM).unflatten(-1, (2, heads, dim)).permute(2, 0, 3, 1, 4)
        ids = torch.arange(x_BTM.shape[1], device=x_BTM.device)
        distance = ids[:, None] - ids
        slopes = torch.logspace(-1, -8, heads, base=2.0, device=x_BTM.device).view(-1, 1, 1)
        mask = (-slopes * distance).masked_fill_(distance < 0, float("-inf")).to(q_BHTD.dtype)
        y_BHTD = functional.scaled_dot_product_attention(q_BHTD, k_BHSD, v_BHSD, attn_mask=mask[None])
        return self.attention.output(y_BHTD.transpose(1, 2).flatten(2))


def configuration(choices: list[str]) -> dict[str, Any]:
    """Return the configuration that `python -m src.train` composes of these choices."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return resolved(compose("train", overrides=choices))


def _choices(encoding: str, size: Size) -> list[str]:
    return [
        f"encoding={encoding}",
        f"model.d_model={size.d_model}",
        f"model.num_layers={size.num_layers}",
        f"model.num_heads={size.num_heads}",
        f"dataset.sequence_length={size.sequence_length}",
    ]
