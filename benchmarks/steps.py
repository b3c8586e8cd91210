"""Training steps of whole decoders: under every encoding, and beside those of other projects.

A step is forward, cross-entropy, backward, clipping and fused AdamW. Peers have the same sizes, tied embeddings,
RMSNorm, SwiGLU and no biases, but for one that x-transformers always has in its gate.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import ours
import torch
from layers import with_memory_over
from ours import NONE, NOTHING, OURS
from peers import X_TRANSFORMERS, Llama, peers_of
from plan import PRECISIONS, Plan, Size
from results import Measurement, Results, Row
from torch import Tensor, nn
from torch.nn import functional
from turns import Call, figures

from poslab.compiled import library
from poslab.data.batch import TokenBatch

ENCODING = "rotary"
LLAMA, EAGER_LLAMA, WITHOUT_KERNEL = "Llama", "Llama, eager attention", "Poslab, trainer.kernel=torch"


class PlainLoop:
    """The training steps of a model, without anything around them.

    Args:
        model: tokens in, logits out.
        precision: `32-true`, or `bf16-mixed` for autocast.
        device: `cpu` or `cuda`.
        compiled: whether the model goes through torch.compile.
    """

    def __init__(self, model: nn.Module, precision: str, device: str = "cpu", compiled: bool = False) -> None:
        model = model.to(device).train()
        self.parameters = list(model.parameters())
        self.model = torch.compile(model) if compiled else model
        self.autocast = precision == "bf16-mixed"
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-3, fused=True)
        for parameter in self.parameters:
            parameter.grad = torch.zeros_like(parameter)
        self.optimizer.step()  # so that the peak memory of a step is without the moments
        self.optimizer.zero_grad()

    def step(self, batch: TokenBatch) -> None:
        """Make one step."""
        with torch.autocast(batch.tokens.device.type, torch.bfloat16, enabled=self.autocast):
            logits_BTV: Tensor = self.model(batch.tokens)
        loss = functional.cross_entropy(logits_BTV.flatten(0, 1).float(), batch.targets.flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()


def random_batch(size: Size, device: str) -> TokenBatch:
    """Return tokens that nothing can be learned from, which changes nothing in the time of a step."""
    torch.manual_seed(0)
    tokens_BT = torch.randint(size.vocab_size, (size.batch_size, size.sequence_length + 1), device=device)
    return TokenBatch(tokens_BT[:, :-1].contiguous(), tokens_BT[:, 1:].contiguous(), None)


def decoders(plan: Plan, results: Results) -> Iterator[Measurement]:
    """Yield our decoder with rotary beside transformers' whole Llama and the decoder of x-transformers.

    `speed` is the seconds of a contestant over ours.
    """
    for precision in PRECISIONS:
        for length in plan.decoder_lengths:
            size = plan.size.of_length(length)
            yield _cell("decoders", precision, ENCODING, size), partial(_decoder_rows, plan, precision, size)


def _decoder_rows(plan: Plan, precision: str, size: Size) -> list[Row]:
    (x_transformers,) = (peer for peer in peers_of(ENCODING) if peer.name == X_TRANSFORMERS)
    models = {
        OURS: ours.decoder(ENCODING, size),
        LLAMA: Llama(size),
        EAGER_LLAMA: Llama(size, "eager"),
        X_TRANSFORMERS: x_transformers.decoder(size),
    }
    batch = random_batch(size, plan.device)
    calls: dict[str, Call] = {
        name: partial(PlainLoop(model, precision, plan.device).step, batch) for name, model in models.items()
    }
    if plan.device == "cpu":
        calls[WITHOUT_KERNEL] = partial(_without_kernel, calls[OURS])
    return figures(calls, {"speed": OURS}, plan.turns)


def _without_kernel(call: Call) -> None:
    library.disable()
    call()
    ours.use_kernel()


def encodings(plan: Plan, results: Results) -> Iterator[Measurement]:
    """Yield every encoding over none and beside its peers; again on long texts if a peer materialises T x T there.

    `time` and `memory` (beyond weights and the moments of the optimizer) are over those without an encoding, `speed` is
    the seconds of a peer over ours.
    """
    materialised = [name for name in plan.encodings if any(peer.materialises for peer in peers_of(name))]
    for length, names in ((plan.size.sequence_length, plan.encodings), (plan.long_length, materialised)):
        size = plan.size.of_length(length)
        for precision in PRECISIONS:
            for name in names:
                yield _cell("encodings", precision, name, size), partial(_encoding_rows, plan, precision, name, size)


def _encoding_rows(plan: Plan, precision: str, encoding: str, size: Size) -> list[Row]:
    peers = {peer.name: peer for peer in peers_of(encoding)}
    models: dict[str, nn.Module] = {
        NOTHING: ours.decoder(NONE, size),
        OURS: ours.decoder(encoding, size),
        **{name: peer.decoder(size) for name, peer in peers.items()},
    }
    batch = random_batch(size, plan.device)
    calls: dict[str, Call] = {
        name: partial(PlainLoop(model, precision, plan.device).step, batch) for name, model in models.items()
    }
    rows = figures(calls, {"time": NOTHING, "speed": OURS}, plan.few_turns, plan.device, plan.limit)
    for row in rows:
        if row["contestant"] in peers:
            row["materialises"] = peers[row["contestant"]].materialises
    return with_memory_over(NOTHING, rows, ours.routes(encoding, size))


def _cell(part: str, precision: str, encoding: str, size: Size) -> Row:
    shape = {"length": size.sequence_length, "batch": size.batch_size}
    return {"part": part, "precision": precision, "encoding": encoding, **shape}
