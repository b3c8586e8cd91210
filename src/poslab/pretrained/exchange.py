"""The positions of a Hugging Face model, replaced in place by an encoding.

Dimension letters: B batch, H heads, T new tokens, P past tokens, S all tokens, D head dim, E numbers of a token's
state, M model dim.
"""

from __future__ import annotations

import inspect
import itertools
import threading
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from poslab.attention import AttentionContext, Route, choose_route
from poslab.attention.cache import LayerCache
from poslab.attention.context import contexts_of_layers
from poslab.encodings import Positions, StackEncodings, Tokens
from poslab.encodings.tokens import PADDING
from poslab.models.contexts import StackContext
from poslab.pretrained.families import ATTENTION, Family, part, with_rotated_first


class _OfThread(threading.local):
    """Contexts of the forward pass in which a thread is; a copy, and what is unpickled, has none."""

    stack: StackContext | None = None
    to_embed: StackContext | None = None

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return type(self), ()


_NUMBERS = itertools.count(1)


class Exchange:
    """A replacement of the positions of a model, which can be undone.

    The model's own positions are disabled (its rotation has angle 0, its rows are 0), and its attention is computed by
    `poslab.attention.attend`; under `PretrainedPositions` they stay, and only attention is replaced. The module tree
    and the names of its weights stay. `generate()` and its cache work: the cache then has keys that are not rotated,
    and next to them the states of an encoding that has some. A model has one exchange at a time: a new one undoes the
    earlier.

    Args:
        model: a model of transformers, with or without a head.
        family: its descriptor.
        encodings: encodings of its layers, made for its shape; they are moved to its device and dtype.
        route: forces an attention route; `auto` is the cheapest exact one.

    Raises:
        ValueError: for a route that is not exact for an encoding.
    """

    def __init__(self, model: Any, family: Family, encodings: StackEncodings, route: Route = "auto") -> None:
        for encoding in encodings:
            choose_route(encoding, route)
        self.model, self.family, self.encodings, self.route = model, family, encodings, route
        self.base = family.base_of(model)
        self.keeps_own = encodings.keeps_pretrained_positions
        undo(self.base)
        encodings.to(_device(self.base), self.base.get_input_embeddings().weight.dtype)  # others may be quantised
        self.base.poslab_exchange = self
        self.windows, self.chunks = family.windows(self.base.config), family.chunks(self.base.config)
        hooks = {hook for encoding in encodings for hook in encoding.hooks}
        self._embeds, self._has_state = "embed" in hooks, "state" in hooks
        self._of_thread = _OfThread()
        self._number = 0 if self.keeps_own else next(_NUMBERS)  # on caches, which belong to one exchange
        self._arguments = list(inspect.signature(self.base.forward).parameters)
        self._handles = [self.base.register_forward_pre_hook(self._before_base, with_kwargs=True)]
        self._handles.append(self.base.register_forward_hook(self._after_base))
        if self.base.config is not model.config:
            path = next(name for name, module in model.named_modules() if module is self.base).split(".")
            for around in (model.get_submodule(".".join(path[:depth])) for depth in range(len(path))):
                self._handles.append(around.register_forward_pre_hook(_refuse_images, with_kwargs=True))
        self._layers = family.layers_of(self.base)
        modules: list[nn.Module] = [part(layer, family.attention) for layer in self._layers]
        # The cache counts layers without attention too.
        self._in_cache = [getattr(module, "layer_idx", None) or i for i, module in enumerate(modules)]
        for i, module in enumerate(modules):
            hook = partial(self._before_attention, i)
            self._handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))
        if self._embeds:
            projection: nn.Module | None = getattr(self.base, family.projection or "", None)
            embedding = projection or self.base.get_input_embeddings()  # as wide as the model
            self._handles.append(embedding.register_forward_hook(self._after_embedding))
        self._silenced: list[tuple[nn.Parameter, bool]] = []
        # Hooks are methods by name, since a model may be pickled.
        if family.rows is not None and not self.keeps_own:
            rows: nn.Module = part(self.base, family.rows)
            self._handles.append(rows.register_forward_hook(self._after_rows))
            for parameter in rows.parameters():  # without a gradient, under which DDP would wait for one
                self._silenced.append((parameter, parameter.requires_grad))
                parameter.requires_grad_(False)
        register()
        self._implementation = self.base.config._attn_implementation
        self.base.set_attn_implementation(NAME)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Let a process that has loaded a pickled model find the attention of its layers."""
        self.__dict__.update(state)
        register()

    @property
    def is_current(self) -> bool:
        """True until it is undone or replaced."""
        return getattr(self.base, "poslab_exchange", None) is self

    def require_current(self) -> None:
        """Raise ValueError if the model is no longer under this exchange."""
        if not self.is_current:
            raise ValueError("model is no longer under this encoding: its positions were replaced again after it")

    def undo(self) -> None:
        """Give the model its own positions and its own attention back, if it is still under this exchange."""
        if not self.is_current:
            return
        for handle in self._handles:
            handle.remove()
        for parameter, learned in self._silenced:
            parameter.requires_grad_(learned)
        self.base.set_attn_implementation(self._implementation)
        del self.base.poslab_exchange

    def unrotated(self, arguments: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the named arguments of an attention layer without the model's own rotation; None if it has none."""
        rotation = arguments.get(ROTATION) if self.keeps_own else None
        return None if rotation is None else {**arguments, ROTATION: without_angles(rotation)}

    def check_length(self, positions: Positions) -> None:
        """Raise ValueError for positions beyond the learned rows of the model; an encoding checks its own."""
        end = self.encodings.max_length
        if self.keeps_own and end is not None and positions.stop > end:
            raise ValueError(f"encoding=pretrained ends after the model's {end} positions, got {positions.stop}")

    def _before_base(
        self, base: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Make the contexts of a forward pass, unless `HostedModel` has made them, and hand them to the layers."""
        named = {**dict(zip(self._arguments, positional, strict=False)), **named}
        if (implementation := self.base.config._attn_implementation) != NAME:
            raise ValueError(
                f"attn_implementation of a model under another encoding must stay {NAME}, got {implementation}: "
                "poslab.exchange(model, 'pretrained') undoes it first"
            )
        if named.get("is_causal") not in (None, self.family.causal):
            raise ValueError(f"is_causal must be {self.family.causal}, as it is in this model")
        stack: StackContext = named.get("poslab_stack_context") or self._stack_context(named)
        if self.family.rows is not None and not self.keeps_own:  # beyond the rows, ids would be an error
            length, device = stack.positions.length, stack.positions.ids.device
            named["position_ids"] = torch.zeros(1, length, dtype=torch.int64, device=device)
        if self._embeds:
            self._of_thread.to_embed = stack
        self._of_thread.stack = stack  # for layers that are not handed it
        return (), {**named, "poslab_stack_context": stack}

    def _after_base(self, base: nn.Module, inputs: Any, output: Any) -> None:
        from transformers import Cache

        self._of_thread.stack = None
        for value in output.values() if isinstance(output, Mapping) else output:
            if isinstance(value, Cache):
                value.poslab_exchange = self._number  # type: ignore[attr-defined]

    def _after_rows(self, module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        """Return a zero, which broadcasts, instead of rows."""
        return output.new_zeros(())

    def _after_embedding(self, module: nn.Module, inputs: Any, output: Tensor) -> Tensor | None:
        """Mix positions into the embeddings of tokens."""
        stack = self._of_thread.to_embed
        self._of_thread.to_embed = None  # GPT-2 embeds types of tokens with the same module
        return None if stack is None else self.encodings.embed(output, stack.positions, stack.tokens)

    def _before_attention(
        self, layer: int, module: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Give a layer its context, and the encoding's state of its input."""
        checkpoints = self.base.training and getattr(self._layers[layer], "gradient_checkpointing", False)
        stack = named.get("poslab_stack_context", self._of_thread.stack)
        if stack is None:  # in the backward pass, where the forward pass is computed again
            raise ValueError("gradient checkpointing is not supported for a model whose layers take no more arguments")
        context = stack.contexts[layer]
        if checkpoints:
            # Made in each layer: it may have its own backward pass (use_reentrant), which frees the graph.
            queries = self.encodings.remap_positions(stack.positions, stack.tokens)
            tables = context.encoding.prepare(queries, context.key_positions)
            context = replace(context, tables=tables)
        state = None
        if self._has_state:
            x_BTM = positional[0] if positional else named["hidden_states"]
            state = replace(context, key_positions=stack.key_positions).state(x_BTM)
        others = {name: value for name, value in named.items() if name != "poslab_stack_context"}
        if ROTATION in others and not self.keeps_own:
            others[ROTATION] = without_angles(others[ROTATION])
        return positional, {**others, "poslab_context": context, "poslab_state": state}

    def _stack_context(self, named: dict[str, Any]) -> StackContext:
        """Return what the layers need in a call of transformers.

        ValueError for a mask, position ids or a cache that have no counterpart.
        """
        ids, embeddings = named.get("input_ids"), named.get("inputs_embeds")
        if self._embeds and ids is None:
            raise ValueError("input_ids must be given, since the encoding is mixed into the embeddings of tokens")
        given = ids if ids is not None else embeddings
        if given is None:
            raise ValueError("input_ids must be given")
        batch, length, device = given.shape[0], given.shape[1], given.device
        cache = self._cache(named)
        past = 0 if cache is None else int(cache.get_seq_length())
        mask = named.get("attention_mask")
        if isinstance(mask, Mapping):  # one for each kind of layers: all with attention have the same padding
            mask = next((mask[kind] for kind in ATTENTION if mask.get(kind) is not None), None)
        real = _real(mask, past + length)
        keys = Positions.range(past + length, device=device) if real is None else Positions.padded(real)
        documents = None if past or mask is not None else self._documents(named.get("position_ids"), batch)
        if documents is not None:
            keys = Positions.packed(documents)
            keys = replace(keys, stop=int(keys.ids.max()) + 1)  # not of the row: rows of a table may end before
        queries = keys if not past else Positions(keys.ids[..., past:], keys.stop, contiguous=True)
        self.check_length(keys)
        self._check_ids(named.get("position_ids"), queries, None if real is None else real[:, past:])
        tokens = None
        if self._embeds and ids is not None:
            known_BT = ids.expand(batch, -1) if real is None else ids.masked_fill(~real[:, past:], PADDING)
            if cache is not None:
                memory = _Memory(cache, 2 * self._in_cache[-1] + 2, past)
                known_BT = memory.extended(known_BT[:, None, :, None])[:, 0, :, 0]
            tokens = Tokens(known_BT, documents)
        kept = [past + length] * len(self._in_cache)
        if cache is not None:  # a static one has room for more
            kept = [min(past + length, cache.get_mask_sizes(length, i)[0]) for i in self._in_cache]
        of_length = {count: self._contexts(queries, keys, real, tokens, count) for count in dict.fromkeys(kept)}
        contexts = [of_length[count][i] for i, count in enumerate(kept)]
        for i, context in enumerate(contexts):
            if cache is not None and "state" in context.encoding.hooks:
                contexts[i] = replace(context, cache=_Memory(cache, self._in_cache[-1] + 1 + i, past))
        return StackContext(contexts, queries, self.encodings.remap_positions(keys, tokens), tokens)

    def _contexts(
        self, queries: Positions, keys: Positions, real: Tensor | None, tokens: Tokens | None, kept: int
    ) -> list[AttentionContext]:
        """Return the contexts of all layers for the last `kept` keys: a cache with a window drops earlier ones."""
        dropped: int | Tensor = keys.length - kept
        if dropped:
            keys = replace(keys, ids=keys.ids[..., -kept:])
            if real is not None:
                real, dropped = real[:, -kept:], real[:, :-kept].sum(1, keepdim=True)
        return contexts_of_layers(
            self.encodings,
            queries,
            keys,
            real,
            tokens,
            causal=self.family.causal,
            windows=self.windows,
            chunks=self.chunks,
            route=self.route,
            dropped=dropped,
        )

    def _cache(self, named: dict[str, Any]) -> Any:
        """Return the cache of a call, which is made here where more than keys and values goes into it."""
        from transformers import Cache, DynamicCache, EncoderDecoderCache

        cache = named.get("cache", named.pop("past_key_values", None))
        wanted = named.get("use_cache")
        if wanted is None:
            wanted = getattr(self.base.config, "use_cache", False)
        if cache is None and wanted and not self.base.training and (self._embeds or self._has_state):
            cache = DynamicCache(config=self.base.config) if self.family.causal else None
        if cache is None:
            return None
        if not isinstance(cache, Cache) or isinstance(cache, EncoderDecoderCache):
            raise ValueError(f"cache must be one of transformers for a decoder, got {type(cache).__name__}")
        if cache.get_seq_length() and getattr(cache, "poslab_exchange", 0) != self._number:
            raise ValueError("cache must be empty or filled under the same encoding, got keys of other positions")
        named["cache"] = cache
        return cache

    def _documents(self, given: Tensor | None, batch: int) -> Tensor | None:
        """Return the document of each token, (B, T), where position ids start again within a row; None elsewhere."""
        if given is None or given.dim() != 2 or not self.family.packs:
            return None
        documents = functional.pad((given.diff(dim=1) != 1).cumsum(1), (1, 0))
        return documents.expand(batch, -1) if bool(documents.any()) else None

    def _check_ids(self, given: Tensor | None, positions: Positions, real: Tensor | None) -> None:
        """Raise ValueError for position ids that do not count real tokens of each row or packed document from 0."""
        if given is None:
            return
        differs = given - self.family.first_id(self.base.config) != positions.ids
        if bool((differs if real is None else differs & real).any()):
            raise ValueError(
                "position_ids must count the real tokens of each row from the first one, as attention_mask has them: "
                "a HostedModel takes any positions"
            )


def _device(base: nn.Module) -> torch.device:
    """Return the device of the weights of a model, of which some may wait elsewhere for their turn (accelerate).

    ValueError for weights on several devices.
    """
    devices = sorted({str(parameter.device) for parameter in base.parameters() if not parameter.is_meta})
    if len(devices) > 1:
        raise ValueError(
            f"model must be on one device, got {', '.join(devices)}: load it with device_map={{'': {devices[0]!r}}}, "
            "or let the rest wait in memory (max_memory)"
        )
    return torch.device(*devices or ["meta"])


def own_configuration(model: nn.Module) -> None:
    """Give a model its own copy of its configuration, which names its attention and may belong to other models."""
    copies: dict[int, Any] = {}
    deepcopy(model.config, copies)
    for module in model.modules():
        if id(config := module.__dict__.get("config")) in copies:
            module.config = copies[id(config)]


def undo(base: nn.Module) -> None:
    """Undo the exchange of a base model, if there is one."""
    earlier: Exchange | None = getattr(base, "poslab_exchange", None)
    if earlier is not None:
        earlier.undo()


class _Memory(LayerCache):
    """States of past tokens as one more layer of a transformers cache.

    Whatever transformers does to the rows of its cache (beams, candidates, cropping), it then does to them as well.

    Args:
        cache: the cache.
        layer: number of the layer.
        past: tokens that are cached.
    """

    def __init__(self, cache: Any, layer: int, past: int) -> None:
        from transformers.cache_utils import DynamicLayer

        super().__init__()
        while len(cache.layers) <= layer:
            cache.layers.append(DynamicLayer())
        self._layer = cache.layers[layer]
        if self._layer.get_seq_length() != past:
            raise ValueError(
                "cache must be empty or filled under the same encoding, which remembers more of a token than its key"
            )

    @property
    def state(self) -> Tensor | None:
        """State of the past tokens, (B, H, P, E); None if there are none."""
        return self._layer.keys if self._layer.get_seq_length() else None

    def extended(self, new_BHTE: Tensor) -> Tensor:
        """Add the state of new tokens; return the states of all, (B, H, S, E)."""
        return self._layer.update(new_BHTE, new_BHTE[..., :0])[0]

    def append(self, *new: Tensor) -> list[Tensor]:
        """Return keys and values, which transformers has cached already, and the states of these tokens."""
        k_BGSD, v_BGSD, state_BHTE = new
        return [k_BGSD, v_BGSD, self.extended(state_BHTE)[:, :, -k_BGSD.shape[2] :]]


def _refuse_images(model: nn.Module, positional: tuple[Any, ...], named: Mapping[str, Any]) -> None:
    """Raise ValueError for what is no text, whose tokens may see later ones or have positions on several axes."""
    named = {**dict(zip(inspect.signature(model.forward).parameters, positional, strict=False)), **named}
    for name, value in named.items():
        is_of_images = name.startswith(("pixel", "image", "video"))
        if (value is not None and is_of_images) or (
            isinstance(value, Tensor) and name.endswith("token_type_ids") and bool(value.any())
        ):
            raise ValueError(f"{name} is not supported under another encoding, which replaces positions of text only")


def without_angles(rotation: Any) -> Any:
    """Return a rotation of transformers, cosine and sine or complex numbers, with the angle 0."""
    if isinstance(rotation, Tensor):
        return torch.ones_like(rotation)
    cosine, sine = rotation
    return torch.ones_like(cosine), torch.zeros_like(sine)


def _real(mask: Any, length: int) -> Tensor | None:
    """Return (B, S) bool, False at padding, of a mask given to transformers; None if there is no padding."""
    if mask is None:
        return None
    if not isinstance(mask, Tensor) or mask.dim() != 2 or mask.shape[1] != length:
        shape = tuple(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
        raise ValueError(f"attention_mask must be (batch, {length}), 0 at padding, got {shape}")
    real = mask.bool()
    return None if bool(real.all()) else real


ROTATION = "position_embeddings"  # argument of attention layers of transformers that has their rotation
NAME = "poslab"  # name under which transformers knows the function (`config._attn_implementation`)


def register() -> None:
    """Register the attention function and its mask function with transformers."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, attention)
    # The mask of padding, (B, S), is unchanged: what each query sees else is in the contexts.
    AttentionMaskInterface.register(NAME, lambda *_, attention_mask=None, **__: attention_mask)


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Any = None,
    *,
    scaling: float | None = None,
    s_aux: Tensor | None = None,
    softcap: float | None = None,
    poslab_context: AttentionContext,
    poslab_state: Tensor | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Return the attention output, (B, T, H, D), and no weights; ValueError for a mask of tokens by tokens.

    Attention weights are never dropped, whatever the model's own dropout.

    Args:
        module: the calling attention layer.
        query, key, value: (B, H, T, D) and (B, G, S, D), as the model's own positions leave them.
        attention_mask: None, or the mask of padding, which is in the context too.
        scaling: the model's own factor on the logits; None is `D ** -0.5`.
        s_aux, softcap: the model's own sinks, (H,), and soft cap.
        poslab_context, poslab_state: given by `Exchange`; the state belongs to the new tokens, (B, H, T, E).
        others: of other attention functions.
    """
    if attention_mask is not None and attention_mask.dim() != 2:
        raise ValueError("attention_mask must be (batch, tokens), 0 at padding: an encoding makes the rest itself")
    usual = query.shape[-1] ** -0.5
    if scaling is not None and scaling != usual:
        query = query * (scaling / usual)
    if s_aux is not None or softcap is not None:
        poslab_context = replace(poslab_context, sinks=s_aux, softcap=softcap)
    query, key = with_rotated_first(query, module), with_rotated_first(key, module)
    count, width = poslab_context.key_positions.length, value.shape[-1]
    key, value = key[:, :, :count], value[:, :, :count]  # what a static cache has is longer
    if width < query.shape[-1]:
        value = functional.pad(value, (0, query.shape[-1] - width))
    mixed_BHTD = poslab_context.attend(query, *poslab_context.append(key, value, poslab_state))[..., :width]
    return mixed_BHTD.transpose(1, 2).contiguous(), None
