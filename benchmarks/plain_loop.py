"""The training steps of a model, without anything around them."""

from __future__ import annotations

import torch
from size import Size
from torch import Tensor, nn
from torch.nn import functional

from poslab.data.batch import TokenBatch

PRECISIONS = ("32-true", "bf16-mixed")
LEARNING_RATE = 1e-3


def device() -> str:
    """Return the device that models are trained on."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def random_batch(size: Size) -> TokenBatch:
    """Return tokens that nothing can be learned from, which changes nothing in the time of a step."""
    torch.manual_seed(0)
    tokens_BT = torch.randint(size.vocab_size, (size.batch_size, size.sequence_length + 1), device=device())
    return TokenBatch(tokens_BT[:, :-1].contiguous(), tokens_BT[:, 1:].contiguous(), None)


class PlainLoop:
    """Forward, cross-entropy, backward, clipping, fused AdamW.

    Args:
        model: tokens in, logits out.
        precision: `32-true`, or `bf16-mixed` for autocast.
        compiled: whether the model goes through torch.compile.
    """

    def __init__(self, model: nn.Module, precision: str, compiled: bool = False) -> None:
        model = model.to(device()).train()
        self.parameters = list(model.parameters())
        self.model = torch.compile(model) if compiled else model
        self.autocast = precision == "bf16-mixed"
        self.optimizer = torch.optim.AdamW(self.parameters, lr=LEARNING_RATE, fused=True)

    @property
    def num_parameters(self) -> int:
        """The parameters that are trained."""
        return sum(parameter.numel() for parameter in self.parameters)

    def step(self, batch: TokenBatch) -> None:
        """Make one step."""
        with torch.autocast(batch.tokens.device.type, torch.bfloat16, enabled=self.autocast):
            logits_BTV: Tensor = self.model(batch.tokens)
        loss = functional.cross_entropy(logits_BTV.flatten(0, 1).float(), batch.targets.flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
