"""Queries and keys that reach the attention of a model while it reads, under any encoding and any attention route.

Dimension letters: B batch, H heads, G key-value heads, T tokens, S keys, D head dim, E numbers of a token's state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor, nn

from poslab.attention.attend import rotate_qk, tables_of_layer
from poslab.attention.blockwise import Weighting, in_float32_for_each_head
from poslab.attention.context import AttentionContext
from poslab.encodings import PositionalEncoding


class AttentionInputs(NamedTuple):
    """Queries (B, H, T, D), keys and values (B, G, S, D), and state (B, H, S, E) that reach a layer's attention.

    They are not rotated. The rotation of a model that keeps its own positions is in the queries and keys already.
    """

    queries: Tensor
    keys: Tensor
    values: Tensor
    state: Tensor | None
    context: AttentionContext

    def rotate_qk(self) -> tuple[Tensor, Tensor, Weighting]:
        """Return rotated queries (B, H, T, D), keys (B, H, S, D) in float32 at least, and their weighting."""
        context = self.context
        tables = tables_of_layer(context.encoding, context.tables, self.state, self.queries.shape[-2])
        q_BHTD, k_BGSD, scale = rotate_qk(
            self.queries, self.keys, context.encoding, tables, context.visibility, context.temperature
        )
        weighting = Weighting(
            context.encoding, context.tables, context.visibility, scale, self.state, context.sinks, context.softcap
        )
        return q_BHTD, in_float32_for_each_head(k_BGSD, q_BHTD), weighting


Show = Callable[[AttentionInputs], None]


@dataclass(frozen=True)
class ObservedContext(AttentionContext):
    """A context that shows what reaches its attention, and is otherwise the one that it was made from."""

    show: Show = lambda reached: None

    def attend(self, q_BHTD: Tensor, k_BGSD: Tensor, v_BGSD: Tensor, state_BHSE: Tensor | None = None) -> Tensor:
        self.show(AttentionInputs(q_BHTD, k_BGSD, v_BGSD, state_BHSE, self))
        return super().attend(q_BHTD, k_BGSD, v_BGSD, state_BHSE)


def observed(
    show: Show, positional: tuple[Any, ...], named: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Return arguments of a module with contexts that show what reaches their attention.

    None if no context is among them that is not shown already, as for a module within another.
    """

    def is_new(given: object) -> bool:
        return isinstance(given, AttentionContext) and not isinstance(given, ObservedContext)

    def observe(given: Any) -> Any:
        return ObservedContext(**vars(given), show=show) if is_new(given) else given

    if not any(map(is_new, (*positional, *named.values()))):
        return None
    return tuple(map(observe, positional)), {name: observe(given) for name, given in named.items()}


def of_encodings(seen: Sequence[AttentionInputs], encodings: Iterable[PositionalEncoding]) -> list[AttentionInputs]:
    """Filter what reached attention by its encoding, such as the encodings of a stack."""
    wanted = {id(encoding) for encoding in encodings}
    return [inputs for inputs in seen if id(inputs.context.encoding) in wanted]


@contextmanager
def reaching(model: nn.Module) -> Iterator[list[AttentionInputs]]:
    """Yield a list that gets, layer by layer, what reaches attention while a model reads, with its gradients."""
    seen: list[AttentionInputs] = []

    def hook(module: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]) -> Any:
        return observed(seen.append, positional, named)

    with ExitStack() as hooks:
        for module in model.modules():
            hooks.enter_context(module.register_forward_pre_hook(hook, with_kwargs=True))
        yield seen
