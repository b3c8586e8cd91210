"""A step of our decoder with rotary beside one of transformers' whole Llama of the same sizes, also compiled."""

from __future__ import annotations

import statistics
from functools import partial

import ours
import torch
from plain_loop import PlainLoop, random_batch
from results import Results, Row
from size import Size
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM
from turns import Call, ratio, take_turns

PART = "llama"
ENCODING = "rotary"
OURS, THEIRS, COMPILED = "Poslab", "Llama", ", compiled"
WARM_UP = 3


class Llama(nn.Module):
    """The whole model of transformers with PyTorch's fused attention and tied embeddings: tokens in, logits out.

    Args:
        size: of the decoder.
    """

    def __init__(self, size: Size) -> None:
        super().__init__()
        config = LlamaConfig(  # type: ignore[call-arg]
            vocab_size=size.vocab_size,
            hidden_size=size.d_model,
            intermediate_size=size.mlp_hidden,
            num_hidden_layers=size.num_layers,
            num_attention_heads=size.num_heads,
            max_position_embeddings=size.sequence_length,
            tie_word_embeddings=True,
            attn_implementation="sdpa",
            use_cache=False,
        )
        self.model = LlamaForCausalLM(config)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Return the logits, (B, T, V)."""
        logits_BTV: Tensor = self.model(input_ids=tokens_BT).logits
        return logits_BTV


def measure(results: Results, precisions: list[str], size: Size, steps: int) -> None:
    """Add the missing rows: seconds of a step, and in ours those of Llama over it (`speed`).

    Args:
        results: where they go.
        precisions: of `plain_loop.PRECISIONS`.
        size: of models and batches.
        steps: how many of each are measured, after some to warm up.
    """
    batch = random_batch(size)
    for precision in precisions:
        for suffix in ("", COMPILED):
            shape: Row = {"part": PART, "precision": precision, "encoding": ENCODING}
            shape |= {"length": size.sequence_length, "batch": size.batch_size}
            if not results.missing({**shape, "contestant": OURS + suffix}):
                continue
            torch._dynamo.reset()
            models = {OURS: ours.decoder(ENCODING, size), THEIRS: Llama(size)}
            loops = {name: PlainLoop(model, precision, bool(suffix)) for name, model in models.items()}
            calls: dict[str, Call] = {name: partial(loop.step, batch) for name, loop in loops.items()}
            take_turns(calls, WARM_UP)
            seconds = take_turns(calls, steps)
            for name, own in seconds.items():
                row = {**shape, "contestant": name + suffix, "seconds": round(statistics.median(own), 5)}
                row |= {"parameters": loops[name].num_parameters, "turns": steps}
                if name == OURS:
                    row["speed"] = ratio(seconds[THEIRS], own)
                results.add(row)
