"""Facts of a stack of layers that encodings may take as arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import TypeVar

from torch import nn

from poslab.arguments import Count, check_names, shown, with_checked_arguments
from poslab.encodings.pretrained_facts import PretrainedFacts

T = TypeVar("T")


@with_checked_arguments
@dataclass(frozen=True)
class StackShape:
    """Facts of a stack of attention layers, and of its vocabulary, that an encoding may take as arguments.

    Args:
        causal: True if a token sees only itself and those before it.
        digits: ids of the tokens that are one decimal digit each.
        pretrained: facts of a pretrained model; None for a model of ours.
        others: as those of a model.
    """

    d_model: Count
    num_layers: Count
    num_heads: Count
    num_kv_heads: Count
    head_dim: Count
    causal: bool = True
    digits: Sequence[int] = ()
    pretrained: PretrainedFacts | None = None

    def fill(self, factory: Callable[..., T], key: str = "encoding") -> T:
        """Call a factory with those of its arguments that are fields of the shape, or `shape`, and return the result.

        Args:
            factory: a class or function, or a partial of one.
            key: name of the factory in messages.

        Raises:
            ValueError: for an instance in place of its class, and for a partial that binds one of these arguments to
                another value than the stack's, or a name that the factory does not have.
        """
        if isinstance(factory, nn.Module):
            raise ValueError(f"{key} must be a class or a partial of one, got the instance {factory}")
        check_names(factory)
        if self.pretrained is not None:
            factory = self.pretrained.fill(factory)
        bound = factory.keywords if isinstance(factory, partial) else {}
        parameters = inspect.signature(factory).parameters.keys() - bound.keys()
        known = {**vars(self), "shape": self}
        for name in known.keys() & bound.keys() - {"digits"}:  # an encoding may serve a vocabulary of its own
            if bound[name] != known[name]:
                own, other = shown(known[name]), shown(bound[name])
                raise ValueError(f"{name} must be that of the stack, which is {own}, got {other}: leave it out")
        return factory(**{name: value for name, value in known.items() if name in parameters})


OF_THE_STACK = (*(field.name for field in fields(StackShape)), "shape")
"""Arguments that a shape fills in; all others are hyperparameters."""
