"""A Hugging Face model as a model of Poslab. Dimension letters: B batch, T tokens, M model dim, V vocabulary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from poslab import encodings
from poslab.arguments import CheckedArguments, Count
from poslab.attention import KeyValueCache, Route
from poslab.encodings.stack import first_end
from poslab.models.contexts import StackContext
from poslab.models.model import Capability, Model, Outputs, Pooling
from poslab.pretrained.directory import configuration, library_model, tokenizer_file, with_weights, without_weights
from poslab.pretrained.exchange import Exchange, own_configuration
from poslab.pretrained.families import declared, part, text_of
from poslab.pretrained.proof import family_of


class HostedModel(CheckedArguments, Model):
    """A pretrained Hugging Face model under an encoding.

    Its modules are unchanged; the encoding replaces their positions, and Poslab computes their attention.
    With `PretrainedPositions` it computes what the untouched model does. Attention weights are never dropped, whatever
    the model's own dropout.

    Args:
        encoding: factory of its positional encoding.
        path: folder of the model, or its name on the hub if it is in the cache (`configuration`); or the model itself,
            as transformers has it.
        vocab_size: tokens of the data and its task. Tokens beyond the model's own get new rows of the embeddings; None
            is the number of those that the model has.
        outputs: output layer; None means token logits at each token.
        digits: ids of the tokens that are one digit each, for encodings that need them.
        pooling: hidden state that represents a sequence, as in `SequenceModel`.
        positions: sampler of other positions than 0, 1, 2, ... for the tokens; None for none.
        temperature: factory of the factors on the logits by the number of visible keys; None for none.
        attention: attention route; `auto` is the cheapest that is exact for the encoding.
        layers: kinds of layers and their order, as in `StackConfig`, with attention in all of them; None: all alike.

    Raises:
        ValueError: in one sentence, for a model that cannot be read, or is not supported under the encoding.
    """

    def __init__(
        self,
        encoding: encodings.EncodingFactory,
        path: Any,
        vocab_size: Count | None = None,
        outputs: Outputs | None = None,
        digits: Sequence[int] = (),
        pooling: Pooling | None = None,
        positions: encodings.PositionSampler | None = None,
        temperature: encodings.TemperatureFactory | None = None,
        attention: Route = "auto",
        layers: encodings.LayerPattern | None = None,
    ) -> None:
        super().__init__()
        given = library_model(path) if isinstance(path, nn.Module) else None
        config = configuration(path) if given is None else given.config
        if getattr(config, "quantization_config", None) is not None:
            raise ValueError(
                "model must have weights that are not quantised, since it is trained in float32: poslab.exchange "
                "replaces the encoding of a quantised model in place"
            )
        self.family = family_of(config)
        self.capabilities = _capabilities(self.family.causal)  # type: ignore[misc]
        config = text_of(config)
        if others := {*(declared(config, "layer_types") or ())} - {"full_attention", "sliding_attention"}:
            raise ValueError(
                f"model has layers of {min(others)}, which Poslab neither trains nor caches: poslab.exchange replaces "
                "the encoding of its other layers in place"
            )
        if outputs is None and not self.family.head:
            raise ValueError(
                "model computes its logits by more than a product, a scale and a cap, which Poslab does not: "
                "poslab.exchange replaces its encoding in place"
            )
        if layers is not None:
            if any(spec.mixer for spec in layers.specs):
                raise ValueError("layers must have no mixer in a pretrained model, which has its own attention")
            encoding = layers.under(encoding)
        encoding = self.family.on_layers(config, encoding)
        self.encodings = encodings.StackEncodings(encoding, self.family.shape(config, digits), temperature)
        self.position_sampler = positions
        self.host: Any
        self.host, self._has_trained_head = _host(path, config, outputs) if given is None else (given, True)
        own_configuration(self.host)
        self.exchange = Exchange(self.host, self.family, self.encodings, attention)
        if self.exchange.keeps_own and self.family.rows is not None and positions is not None and positions.real:
            raise ValueError(f"positions must be integers for the learned rows of the model, got {positions}")
        if vocab_size is not None and vocab_size > self.vocab_size:
            self.host.resize_token_embeddings(vocab_size, mean_resizing=False)
        self.output: nn.Linear | None = None
        if outputs is not None:
            width = declared(config, "word_embed_proj_dim") or config.hidden_size
            self.output = nn.Linear(width, outputs.size, bias=False)
            nn.init.normal_(self.output.weight, std=width**-0.5)
            if outputs.pooled:
                self.pooling = pooling or ("last" if self.family.causal else "mean")

    @classmethod
    def capabilities_with(cls, **arguments: Any) -> frozenset[Capability]:
        return _capabilities(family_of(configuration(arguments["path"])).causal)

    @classmethod
    def tokenizer_with(cls, **arguments: Any) -> Path | None:
        return tokenizer_file(arguments["path"])

    @property
    def has_trained_logits(self) -> bool:
        return self._has_trained_head and self.output is None

    @property
    def base(self) -> Any:
        """The module of transformers that contains the layers."""
        return self.exchange.base

    @property
    def embedding(self) -> nn.Embedding:  # type: ignore[override]
        """Token embeddings."""
        return self.base.get_input_embeddings()

    @property
    def vocab_size(self) -> int:
        """Number of tokens V that have an embedding."""
        return self.embedding.num_embeddings

    @property
    def attention_sites(self) -> Sequence[nn.Module]:
        """Layers of the model."""
        return self.family.layers_of(self.base)

    @property
    def attention_layers(self) -> Sequence[nn.Module]:
        """Attention of each layer, with its output layer."""
        return [part(layer, self.family.attention.partition(".")[0]) for layer in self.attention_sites]

    @property
    def windows(self) -> Sequence[int | None]:
        return [first_end(pair) for pair in zip(self.exchange.windows, self.encodings.windows, strict=True)]

    @property
    def task_output(self) -> nn.Module | None:
        return self.output

    @property
    def max_length(self) -> int | None:
        """Number of positions at which its encoding or its position sampler ends; None if neither does."""
        return self.encodings.end_with(self.position_sampler)

    @property
    def position_rows(self) -> Tensor | None:
        if not self.exchange.keeps_own or self.family.rows is None:
            return super().position_rows
        rows: Tensor = part(self.base, self.family.rows).weight
        return rows[self.family.first_row(self.host.config) :]

    def unrotated(self, arguments: Mapping[str, Any]) -> dict[str, Any] | None:
        return self.exchange.unrotated(arguments)

    def hidden_states(
        self,
        tokens_BT: Tensor,
        positions: encodings.Positions | None = None,
        real: Tensor | None = None,
        cache: KeyValueCache | None = None,
    ) -> Tensor:
        exchange = self.exchange
        exchange.require_current()
        stack_context = StackContext.of(
            tokens_BT,
            positions,
            real,
            cache,
            self.encodings,
            self.position_sampler,
            causal=self.family.causal,
            window=exchange.windows,
            route=exchange.route,
        )
        exchange.check_length(stack_context.key_positions)
        ids = stack_context.positions.ids + self.family.first_id(self.host.config)
        hidden_BTM: Tensor = self.base(
            input_ids=tokens_BT,
            attention_mask=None if real is None else real.long(),
            position_ids=ids.expand(tokens_BT.shape),
            use_cache=False,
            return_dict=True,
            poslab_stack_context=stack_context,
        ).last_hidden_state
        return hidden_BTM

    def logits(self, hidden_BTM: Tensor) -> Tensor:
        logits_BTV = hidden_BTM
        for path in self.family.head:
            logits_BTV = part(self.host, path)(logits_BTV)
        return self.family.scaled(logits_BTV, self.base.config)


def _capabilities(causal: bool) -> frozenset[Capability]:
    return frozenset({"causal", "cache", "pooled"}) if causal else frozenset({"bidirectional", "pooled"})


def _host(path: str, config: Any, outputs: Outputs | None) -> tuple[Any, bool]:
    """Return the model of transformers with its weights, and True if its head is trained too.

    Where torch's device is `meta`, it has no memory for weights, and they are not read.
    """
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

    auto_class = AutoModelForCausalLM if family_of(config).causal else AutoModelForMaskedLM
    if torch.get_default_device().type == "meta":
        model, is_whole = without_weights(auto_class, config, path), True
    else:
        model, is_whole = with_weights(auto_class, path, config, family_of(config).layers)
    model.train()  # as every new module is; transformers returns it in evaluation mode
    return (model if outputs is None else model.base_model), is_whole
