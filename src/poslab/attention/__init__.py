"""Attention under an encoding: visibility of keys, and several routes to the same result."""

from poslab.attention.attend import attend
from poslab.attention.cache import KeyValueCache, next_positions
from poslab.attention.context import AttentionContext, self_attention_contexts
from poslab.attention.multi_head import MultiHeadAttention
from poslab.attention.routes import Route, choose_route
from poslab.attention.visibility import Visibility

__all__ = [
    "AttentionContext",
    "KeyValueCache",
    "MultiHeadAttention",
    "Route",
    "Visibility",
    "attend",
    "choose_route",
    "next_positions",
    "self_attention_contexts",
]
