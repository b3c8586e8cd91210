"""Choices of the configuration that have a section in the documentation: what their files, classes and stacks say."""

from __future__ import annotations

import inspect
import json
import pydoc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from poslab import encodings
from poslab.attention import choose_route
from poslab.cli.help import keys
from poslab.configuration.command_line import choices as names
from poslab.configuration.labels import with_scratch_default
from poslab.data.composed import resolved
from poslab.data.tokenizers import ByteTokenizer
from poslab.encodings import PositionalEncoding, Positions, StackEncodings, StackShape
from poslab.runs.recipe import Recipe

FIGURES = Path("figures")
TRAINING_LENGTH = 512

OWN_MODEL = {
    "d_model": "512",
    "num_layers": "8",
    "num_heads": "8",
    "num_kv_heads": "8",
    "head_dim": "64",
    "digits": "range(48, 58)",
    "shape": "StackShape(512, num_layers=8, num_heads=8, num_kv_heads=8, head_dim=64)",
}
"""Arguments that a reader's model gives, as the examples write them."""

PLACES = {
    "embed": "token embeddings",
    "remap_positions": "positions",
    "rotate_query": "queries and keys",
    "rotate_key": "queries and keys",
    "rotate_value": "values",
    "rotate_output": "output",
    "scale": "scale of logits",
    "bias": "logits",
    "pair_bias": "logits",
    "logits": "logits",
    "weights": "attention weights",
    "values": "values",
}
"""Stage at which a hook acts; `state` and `with_state`, which are not here, only remember for others."""

CAPTIONS = {
    "bias": "The bias on the logits, for each head at initialisation; at -40 nothing is left of a key.",
    "rotation": "The change to the logit of a query and an equal key, which is 1 without the rotation: the mean over "
    "channels (pale), and its running mean over 33 distances.",
    "content": "The change to the logit of a query and an equal key, among random tokens and with weights as at "
    "initialisation (tables that begin at zero are drawn at random here).",
    "queries": "The change to the logits of one head at initialisation, for queries at several positions.",
    "embedding": "Inner product of the vectors that are added at a query and at an earlier key, divided by the "
    "product of the query with itself, at initialisation.",
    "neighbours": "The length of what an embedding adds to a token at each distance, over its mean, at initialisation. "
    "Embeddings after the token are at negative distances.",
    "stick": "The attention weights of keys that all have the same logit.",
    "layers": "The change of each layer to the logit of a query and an equal key, among random tokens where it reads "
    "them.",
}
BOTH_SIDES = " Keys ahead of the query, in an encoder, are at negative distances."


@dataclass(frozen=True)
class Hyperparameter:
    """A key of a choice, with its default and what its file says of it."""

    key: str
    default: str
    comment: str


@dataclass(frozen=True)
class Choice:
    """A file of a configuration group, such as conf/encoding/rotary.yaml."""

    group: str
    name: str

    @property
    def figure(self) -> Path:
        """Its plot, from docs."""
        return FIGURES / (f"{self.group}s" if self.group == "encoding" else self.group) / f"{self.name}.png"

    @cached_property
    def config(self) -> DictConfig:
        """The configuration of a run with it; must be read within `initialize_config_dir`."""
        overrides = [f"{self.group}={self.name}", f"dataset.sequence_length={TRAINING_LENGTH}"]
        return compose("train", overrides)

    @cached_property
    def hyperparameters(self) -> list[Hyperparameter]:
        """The keys that it has, as they are typed on a command line."""
        node = with_scratch_default(OmegaConf.to_container(self.config[self.group]))
        assert isinstance(node, dict)
        comments = keys(self.group, self.name)
        return [Hyperparameter(key, value, comments[key]) for key, value in dotted(node, self.group)]

    @cached_property
    def documents(self) -> list[Callable[..., Any]]:
        """The classes and functions that it is made of, its own first."""
        made = self.config[self.group]
        nested = [made.get(part) for part in ("scaling", "over")]
        scaling, over = (node and node["_target_"] for node in nested)
        targets = [scaling, made["_target_"], over]
        return [pydoc.locate(target) for target in targets if target]  # type: ignore[misc]

    @property
    def document(self) -> Document:
        """The first line of the docstring of its class or function."""
        return Document.of(self.documents[0])


@dataclass(frozen=True)
class Document:
    """A docstring in parts.

    Args:
        lead: the first line.
        use: the paragraph that starts with "Use it"; empty if there is none.
        before, after: paragraphs on either side of the arguments, as Markdown.
        formula: the first one, for the cell of a table; the lead where there is none.
        source: of the encoding.
    """

    lead: str
    use: str
    before: list[str]
    after: list[str]
    formula: str
    source: str

    @classmethod
    def of(cls, documented: Callable[..., Any]) -> Document:
        """Return the parts of the docstring of a class or function."""
        lead, *paragraphs = (inspect.getdoc(documented) or "").split("\n\n")
        lead = joined(lead)
        formulas = [paragraph for paragraph in paragraphs if paragraph.startswith("    ")]
        before: list[str] = []
        after: list[str] = []
        part, source, use = before, "", ""
        for paragraph in paragraphs:
            if paragraph.startswith(("Args:", "Raises:", "Examples:", "Parameters:")):
                part = after
            if paragraph.startswith("Source:"):
                source = joined(paragraph)
            elif paragraph.startswith("Use it "):
                use = joined(paragraph)
            elif not paragraph.startswith(("Args:", "Raises:", "Examples:")):
                part.append(paragraph if paragraph.startswith("    ") else joined(paragraph))
        lines = [" ".join(line.split()) for line in formulas[0].splitlines()] if formulas else []
        formula = "<br>".join(f"`{line}`" for line in lines) or lead
        return cls(lead, use, before, after, formula, source)


@cache
def _default_shape() -> StackShape:
    plain = Choice("encoding", "none").config
    return Recipe.of(resolved(plain)).model.build(2, digits=ByteTokenizer.digits).encodings.shape


class Encoding(Choice):
    """A file of conf/encoding, and the stack that it makes."""

    @property
    def family(self) -> str:
        """The folder or file of poslab.encodings that contains it, a page of `FOLDER`."""
        return self.documents[0].__module__.removeprefix("poslab.encodings.").partition(".")[0]

    @property
    def code(self) -> str:
        """Python that makes it in a model of a reader's own."""
        imports = {"poslab.encodings": {"StackEncodings", "StackShape"} if self.is_pattern else set()}
        made = _expression(
            with_scratch_default(OmegaConf.to_container(self.config.encoding, resolve=True)), imports, whole=True
        )
        if self.is_pattern:
            made = f"shape = {OWN_MODEL['shape']}\nencodings = StackEncodings({made}, shape)"
        else:
            made = f"encoding = {made}"
        if "StackShape" in made:
            imports["poslab.encodings"].add("StackShape")
        lines = [f"from {module} import {', '.join(sorted(names))}" for module, names in imports.items() if names]
        blocks = [sorted(line for line in lines if ("poslab" in line) is ours) for ours in (False, True)]
        return "\n\n".join(["\n".join(block) for block in blocks if block] + [made])

    @property
    def is_pattern(self) -> bool:
        """True if it makes the encodings of a whole stack, not of one layer."""
        return not self.config.encoding.get("_partial_", False)

    @property
    def shape(self) -> StackShape:
        """Shape of the default decoder, whatever its encoding."""
        return _default_shape()

    def make(self, causal: bool = True) -> StackEncodings:
        """Return its encodings in a decoder or in an encoder, with fresh parameters."""
        shape = self.shape if causal else StackShape(**{**vars(self.shape), "causal": False})
        return StackEncodings(instantiate(self.config.encoding, _convert_="all"), shape)

    @cached_property
    def stack(self) -> StackEncodings:
        """Its encodings in the default decoder, or in an encoder of that shape if it is only for encoders."""
        return self.make(not self.bidirectional_only)

    @cached_property
    def layers(self) -> list[PositionalEncoding]:
        """The encoding of each layer."""
        return [self.stack.layer(layer) for layer in range(self.shape.num_layers)]

    @property
    def num_parameters(self) -> int:
        """The number of parameters of a whole stack."""
        return sum(parameter.numel() for parameter in self.stack.parameters())

    @property
    def routes(self) -> str:
        """The routes of its layers."""
        return ", ".join(f"`{route}`" for route in dict.fromkeys(map(choose_route, self.layers)))

    @property
    def places(self) -> str:
        """Stage at which it acts, in words."""
        hooks = set().union(*(encoding.hooks for encoding in self.stack))
        if not any(map(_rescales, self.layers)):
            hooks.discard("scale")
        places = [place for hook, place in PLACES.items() if hook in hooks]
        return ", ".join(dict.fromkeys(places)) or "nothing"

    @property
    def bidirectional_only(self) -> bool:
        """True if it is only for encoders."""
        return getattr(self.documents[0], "bidirectional_only", False)

    @property
    def causal_only(self) -> bool:
        """True if one of its layers is only for decoders."""
        return any(layer.causal_only for layer in self.layers)

    @property
    def attention(self) -> str:
        """The attention that it supports: `causal only`, `bidirectional only` or `both`."""
        return "causal only" if self.causal_only else "bidirectional only" if self.bidirectional_only else "both"

    @property
    def picture(self) -> str:
        """The kind of its plot, a key of `CAPTIONS`."""
        encoding, hooks = self.layers[0], self.layers[0].hooks
        if len({type(layer) for layer in self.layers}) > 1:
            return "layers"
        if self.bidirectional_only:
            return "neighbours"
        if "weights" in hooks:
            return "stick"
        if "embed" in hooks:
            return "embedding"
        if "with_state" in hooks:
            return "content"
        if "rotate_query" in hooks:
            return "rotation"
        if "logits" in hooks:
            return "content"
        return "queries" if "pair_bias" in hooks and not encoding.relative else "bias"

    @property
    def caption(self) -> str:
        """The caption of its plot."""
        two_sided = self.picture in ("bias", "content") and not self.causal_only and self.layers[0].hooks
        depends_on_length = " The text has 2,049 tokens." if self.layers[0].depends_on_length else ""
        one_number = " All tokens are digits of one number." if _reads_digits(self.layers[0]) else ""
        return CAPTIONS[self.picture] + (BOTH_SIDES if two_sided else "") + depends_on_length + one_number


def _rescales(encoding: PositionalEncoding) -> bool:
    """Return True if it changes the scale of the logits, as configured."""
    positions = Positions.range(2)
    return encoding.scale(encoding.prepare(positions, positions)) != 1


def _reads_digits(encoding: PositionalEncoding) -> bool:
    """Return True if its constructor takes the ids of digits."""
    return "digits" in inspect.signature(type(encoding)).parameters


def _expression(value: Any, imports: dict[str, set[str]], whole: bool = False) -> str:
    """Return Python for a value of a configuration, and add what it imports.

    Args:
        value: a node, a list or a scalar; keys that a function has as defaults are left out.
        imports: names by module.
        whole: True for an encoding itself, which also gets what a model gives; else a factory stays one.
    """
    if isinstance(value, list):
        return f"[{', '.join(_expression(part, imports) for part in value)}]"
    if not isinstance(value, dict):
        return repr(value)
    module, _, name = value["_target_"].rpartition(".")
    imports.setdefault("poslab.encodings" if hasattr(encodings, name) else module, set()).add(name)
    parameters = inspect.signature(pydoc.locate(value["_target_"])).parameters  # type: ignore[arg-type]
    partial = value.get("_partial_", False)
    words = {}
    for key in value.keys() - {"_target_", "_partial_"}:
        if _expression(value[key], {}) != _expression(_default(parameters[key]), {}):
            words[key] = _expression(value[key], imports)
    if whole and partial:
        words |= {key: OWN_MODEL[key] for key in parameters if key in OWN_MODEL and _is_required(parameters[key])}
        partial = False
    arguments = ", ".join(f"{key}={words[key]}" for key in parameters if key in words)
    if not partial:
        return f"{name}({arguments})"
    if not arguments:
        return name
    imports.setdefault("functools", set()).add("partial")
    return f"partial({name}, {arguments})"


def _is_required(parameter: inspect.Parameter) -> bool:
    return parameter.default is inspect.Parameter.empty


def _default(parameter: inspect.Parameter) -> Any:
    """Return the default of a parameter as a configuration writes it; a class is a factory without arguments."""
    default = parameter.default
    if isinstance(default, type) and not _is_required(parameter):
        return {"_target_": f"{default.__module__}.{default.__name__}", "_partial_": True}
    return default


def choices(group: str, kind: type[Choice] = Choice) -> list[Any]:
    """Return all choices of a configuration group for Poslab's models, in alphabetical order."""
    return [kind(group, name) for name in names(group) if name != "pretrained"]


def dotted(node: dict[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    """Yield the keys of a node as they are typed on a command line, with their values."""
    for name, value in node.items():
        if name not in ("_target_", "_partial_"):
            yield f"{prefix}.{name}", shown(value)
            if isinstance(value, dict):
                yield from dotted(value, f"{prefix}.{name}")


def shown(value: Any) -> str:
    """Return a value as a reader sees it: a number or word, or the names of classes and functions."""
    if isinstance(value, list):
        return ", ".join(map(shown, value))
    if isinstance(value, dict):
        return str(value["_target_"]).rpartition(".")[2]
    return str(value) if isinstance(value, str) else json.dumps(value)


def joined(paragraph: str) -> str:
    """Return a paragraph in one line, but for the items of a list, which Markdown parts from it by an empty line."""
    first, *items = (" ".join(part.split()) for part in paragraph.split("\n- "))
    return "\n- ".join([f"{first}\n" if items and not first.startswith("- ") else first, *items])
