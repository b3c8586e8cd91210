"""Makes docs/encodings.md, docs/encodings/ and their pictures: `python docs/make.py encodings`.

The pages are made from the docstrings and attributes of the classes, the comments of conf/encoding, conf/positions and
conf/temperature, the figures of one machine in benchmarks/figures, and those of docs/default_runs.json if there is one.
"""

from __future__ import annotations

import inspect
import json
import math
import pydoc
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from poslab.attention import choose_route
from poslab.commands.choices import choices as names
from poslab.commands.choices import keys
from poslab.configuration.folders import CONF
from poslab.configuration.of_pretrained import with_usual
from poslab.data.composed import resolved
from poslab.data.tokenizers import ByteTokenizer
from poslab.encodings import PositionalEncoding, Positions, StackEncodings, StackShape
from poslab.encodings import __all__ as exported
from poslab.runs.recipe import Recipe

DOCS = Path(__file__).resolve().parent
PAGE = DOCS / "encodings.md"
FOLDER = DOCS / "encodings"
"""One page for each family, for positions and for temperatures."""
FIGURES = Path("figures")
BENCHMARK = DOCS.parent / "benchmarks" / "figures" / "epyc" / "train_step.json"
DEFAULT_RUNS = DOCS / "default_runs.json"
TRAINING_LENGTH = 512
MEASURED = {"part": "encodings", "precision": "32-true", "length": TRAINING_LENGTH, "contestant": "Poslab"}
"""The rows of the benchmark that hold the costs of encodings."""

FAMILIES = {
    "absolute": ("Absolute positions", "A vector for each position is added to the embeddings, once."),
    "rotary": (
        "Rotations",
        "Queries and keys turn by angles that grow with their positions, so that a logit depends on their distance.",
    ),
    "bias": ("Biases of distance", "A number that depends on the distance of query and key is added to their logit."),
    "relative": ("Relative vectors", "Learned or fixed vectors for distances meet queries and keys in the logits."),
    "content": ("Distances by content", "What tokens say decides how far apart they are, or how a bias acts on them."),
    "per_layer": ("Patterns over layers", "Layers differ: in their encodings, in their windows, or in both."),
}
"""Title and sentence for the page of each family, which is a folder or a file of poslab.encodings."""

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
    "move": "positions",
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
"""The place where a hook acts; `state` and `with_state`, which are not here, only remember for others."""

CAPTIONS = {
    "bias": "The bias on the logits, for each head at initialisation; at -40 nothing is left of a key.",
    "rotation": "The change to the logit of a query and an equal key, which is 1 without the rotation: the mean over "
    "channels (pale), and its running mean over 33 distances.",
    "content": "The change to the logit of a query and an equal key, among random tokens and with weights as at "
    "initialisation (tables that begin at zero are drawn at random here).",
    "queries": "The change to the logits of one head at initialisation, for queries at several positions.",
    "embedding": "Inner product of the vectors that are added at a query and at an earlier key, divided by that of the "
    "query with itself, at initialisation.",
    "neighbours": "The length of what an embedding adds to a token at each distance, over its mean, at initialisation. "
    "Embeddings after the token are at negative distances.",
    "stick": "The attention weights of keys that all have the same logit.",
    "layers": "The change of each layer to the logit of a query and an equal key.",
}
BOTH_SIDES = " Keys ahead of the query, in an encoder, are at negative distances."

INTRODUCTION = """\
# Encodings

`python docs/make.py` makes this page and those of the families from the code, its configuration files and its
benchmark. Do not edit them by hand.

To choose an encoding: `python -m src.train encoding=alibi encoding.max_exponent=10`.

To write one: subclass `poslab.encodings.PositionalEncoding`, and check it with `poslab.testing.check_encoding`
([your own encoding](your-own-encoding.md)).

To use one in attention of your own: [in your model](in-your-model.md).
"""
MADE = "`python docs/make.py` makes this page. Do not edit it by hand. [Encodings](../encodings.md) has all of them."
POSITIONS_CAPTION = (
    "How far three texts of 512 tokens are moved in training; where positions are those of patches, the coordinates of "
    "a picture of 6 x 6 patches, or of one of 5 x 5 between two texts of six tokens."
)

LEGEND = "Letters: B batch, H heads, T queries, S keys, D head dim, M model dim; query i, key j, distance i - j."


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
        """Its picture, from docs."""
        return FIGURES / (f"{self.group}s" if self.group == "encoding" else self.group) / f"{self.name}.png"

    @cached_property
    def config(self) -> DictConfig:
        """The configuration of a run with it; must be read within `initialize_config_dir`."""
        overrides = [f"{self.group}={self.name}", f"dataset.sequence_length={TRAINING_LENGTH}"]
        return compose("train", overrides)

    @cached_property
    def hyperparameters(self) -> list[Hyperparameter]:
        """The keys that it has, as they are typed on a command line."""
        node = with_usual(OmegaConf.to_container(self.config[self.group]))
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
        use: the paragraph that begins with "Use it"; empty if there is none.
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
        lead = _joined(lead)
        formulas = [paragraph for paragraph in paragraphs if paragraph.startswith("    ")]
        before: list[str] = []
        after: list[str] = []
        part, source, use = before, "", ""
        for paragraph in paragraphs:
            if paragraph.startswith(("Args:", "Raises:", "Examples:", "Parameters:")):
                part = after
            if paragraph.startswith("Source:"):
                source = _joined(paragraph)
            elif paragraph.startswith("Use it "):
                use = _joined(paragraph)
            elif not paragraph.startswith(("Args:", "Raises:", "Examples:")):
                part.append(paragraph if paragraph.startswith("    ") else _joined(paragraph))
        lines = [" ".join(line.split()) for line in formulas[0].splitlines()] if formulas else []
        formula = "<br>".join(f"`{line}`" for line in lines) or lead
        return cls(lead, use, before, after, formula, source)


class Encoding(Choice):
    """A file of conf/encoding, and the stack that it makes."""

    @property
    def family(self) -> str:
        """The folder or file of poslab.encodings that it stands in, a page of `FOLDER`."""
        return self.documents[0].__module__.removeprefix("poslab.encodings.").partition(".")[0]

    @property
    def code(self) -> str:
        """Python that makes it in a model of a reader's own."""
        imports = {"poslab.encodings": {"StackEncodings", "StackShape"} if self.is_pattern else set()}
        made = _expression(with_usual(OmegaConf.to_container(self.config.encoding, resolve=True)), imports, whole=True)
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
        """True if it makes the encodings of a whole stack, not that of a layer."""
        return not self.config.encoding.get("_partial_", False)

    @cached_property
    def shape(self) -> StackShape:
        """Of the default decoder, whatever its encoding."""
        plain = Encoding("encoding", "none").config
        return Recipe.of(resolved(plain)).model.build(2, digits=ByteTokenizer.digits).encodings.shape

    def make(self, causal: bool = True) -> StackEncodings:
        """Its encodings in a decoder or in an encoder, with fresh parameters."""
        shape = self.shape if causal else StackShape(**{**vars(self.shape), "causal": False})
        return StackEncodings(instantiate(self.config.encoding, _convert_="all"), shape)

    @cached_property
    def stack(self) -> StackEncodings:
        """Its encodings in the default decoder, or in an encoder of that shape if it is for encoders alone."""
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
        """The places where it acts, in words."""
        hooks = set().union(*(encoding.hooks for encoding in self.stack))
        if not any(map(_rescales, self.layers)):
            hooks.discard("scale")
        places = [place for hook, place in PLACES.items() if hook in hooks]
        return ", ".join(dict.fromkeys(places)) or "nothing"

    @property
    def bidirectional_only(self) -> bool:
        """True if it is for encoders alone."""
        return getattr(self.documents[0], "bidirectional_only", False)

    @property
    def causal_only(self) -> bool:
        """True if one of its layers is for decoders alone."""
        return any(layer.causal_only for layer in self.layers)

    @property
    def attention(self) -> str:
        """The attention that it serves: `causal only`, `bidirectional only` or `both`."""
        return "causal only" if self.causal_only else "bidirectional only" if self.bidirectional_only else "both"

    @property
    def picture(self) -> str:
        """The kind of its picture, a key of `CAPTIONS`."""
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
        """The caption of its picture."""
        two_sided = self.picture in ("bias", "content") and not self.causal_only and self.layers[0].hooks
        depends_on_length = " The text has 2,049 tokens." if self.layers[0].depends_on_length else ""
        one_number = " All tokens are digits of one number." if _reads_digits(self.layers[0]) else ""
        return CAPTIONS[self.picture] + (BOTH_SIDES if two_sided else "") + depends_on_length + one_number


def _rescales(encoding: PositionalEncoding) -> bool:
    """Return True if it changes the scale of the logits, as it is configured."""
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
    imports.setdefault("poslab.encodings" if name in exported else module, set()).add(name)
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
    """Return all choices of a configuration group for models of ours, in alphabetical order."""
    return [kind(group, name) for name in names(group) if name != "own"]


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


# The pages


def pages() -> dict[Path, str]:
    """Return the text of docs/encodings.md and of each page of docs/encodings."""
    encodings = choices("encoding", Encoding)
    benchmark = json.loads(BENCHMARK.read_text(encoding="utf-8"))
    costs = {row["encoding"]: row for row in benchmark["rows"] if row.items() >= MEASURED.items()}
    runs = json.loads(DEFAULT_RUNS.read_text(encoding="utf-8")) if DEFAULT_RUNS.exists() else {}
    made = {PAGE: [INTRODUCTION, *_families(encodings), *_overview(encodings, costs, benchmark["machine"], runs)]}
    for family in _families_of(encodings):
        name, sentence = FAMILIES.get(family, (family, ""))
        blocks = made[FOLDER / f"{family}.md"] = [f"# {name}", sentence, MADE, LEGEND]
        for encoding in encodings:
            if encoding.family == family:
                blocks += _encoding_section(encoding, encodings, costs, runs)
    for group, title, caption in (
        ("positions", "Positions", POSITIONS_CAPTION),
        ("temperature", "Temperatures", "The factor on the logits, at initialisation."),
    ):
        blocks = made[FOLDER / f"{group}.md"] = [f"# {title}"]
        blocks += [f"The config group `{group}=`; it works with any encoding that allows it.", MADE]
        blocks += [*_table([group, "formula", "what it does"], map(_row, choices(group)))]
        for choice in choices(group):
            blocks += [f"## {group}={choice.name}", *_section(choice, caption, [])]
    return {path: "\n\n".join(block.strip("\n") for block in blocks) + "\n" for path, blocks in made.items()}


def _families_of(encodings: list[Encoding]) -> list[str]:
    """Return the families in the order of `FAMILIES`, then those that are not there."""
    return list(dict.fromkeys([*FAMILIES, *(encoding.family for encoding in encodings)]))


def _families(encodings: list[Encoding]) -> Iterator[str]:
    """Yield the table of the families."""
    yield "## Families"
    rows = []
    for family in _families_of(encodings):
        name, sentence = FAMILIES.get(family, (family, ""))
        members = ", ".join(_to(encoding) for encoding in encodings if encoding.family == family)
        rows.append([f"[{name}](encodings/{family}.md)", sentence, members])
    yield from _table(["family", "how it works", "encodings"], rows)
    yield (
        "[Positions](encodings/positions.md) and [temperatures](encodings/temperature.md) are groups of their own. "
        "They work with any encoding."
    )


def _to(encoding: Encoding, start: str = "encodings/") -> str:
    """Return a link to the section of an encoding, from a page beside or above those of the families."""
    return f"[{encoding.name}]({start}{encoding.family}.md#{encoding.name})"


def _overview(
    encodings: list[Encoding], costs: dict[str, Any], machine: dict[str, Any], runs: dict[str, Any]
) -> Iterator[str]:
    """Yield the table of all encodings, and the meaning of its columns."""
    shape = encodings[0].shape
    columns = ["encoding", "formula", "parameters", "acts on", "attention", "route", "time", "memory"]
    lengths = ("256", "2048") if runs else ()
    rows = []
    for encoding in encodings:
        rows.append(
            [
                _to(encoding),
                encoding.document.formula,
                f"{encoding.num_parameters:,}",
                encoding.places,
                encoding.attention.removesuffix(" only"),
                encoding.routes,
                *_over_none(costs.get(encoding.name)),
                *(_bits(runs.get(encoding.name, {}).get(length)) for length in lengths),
            ]
        )
    yield "## All encodings"
    yield LEGEND
    yield from _table([*columns, *(f"bits at {length}" for length in lengths)], rows)
    yield (
        f"**Parameters**: of the whole stack in the default decoder (`size=tiny`), with {shape.num_layers} layers of "
        f"width {shape.d_model}, {shape.num_heads} heads of {shape.head_dim} dimensions, and a training length of "
        f"{TRAINING_LENGTH} tokens. The pictures show its first layer.\n\n"
        "**Attention**: causal only, bidirectional only, or both.\n\n"
        "**Route**: the cheapest one that is exact for the encoding (see [architecture](architecture.md)).\n\n"
        f"**Time** and **memory**: of a training step of that decoder on rows of {TRAINING_LENGTH} tokens in float32, "
        "divided by those under `none`. Time is the median of steps that alternate with steps under `none`. Memory is "
        "the most bytes that PyTorch held at once beside the weights. Measured by `python benchmarks/train_step.py` "
        f"(see [performance](performance.md)) on {machine['processor']}, {machine['threads']} threads, torch "
        f"{machine['torch']}. A dash: not measured."
    )
    if runs:
        yield (
            "**Bits**: bits per byte on the test text after the default run of 600 steps on 256 tokens, in windows of "
            "256 and 2,048 tokens. A dash: the encoding is not defined there, or the run has not been made yet."
        )


def _row(choice: Choice) -> list[str]:
    """Return the row of a choice in the table of a smaller group; its section has the title `group=name`."""
    link = f"[{choice.name}](#{choice.group}{choice.name})"
    return [link, choice.document.formula, choice.document.lead]


def _encoding_section(
    encoding: Encoding, encodings: list[Encoding], costs: dict[str, Any], runs: dict[str, Any]
) -> Iterator[str]:
    learning = [one for one in encoding.stack if any(True for _ in one.parameters())]
    owners = "one for all layers" if all(one.shared_by_layers for one in learning) else "in each layer"
    shapes = {name: tuple(p.shape) for one in learning for name, p in one.named_parameters()}
    named = ", ".join(f"`{name}` {shape if shape else 'a number'}" for name, shape in shapes.items())
    learned = f"{encoding.num_parameters:,}: {named}, {owners}" if shapes else "none"
    end = encoding.stack.max_length
    shifted = "changes nothing" if all(layer.relative for layer in encoding.layers) else "changes the output"
    if any(layer.depends_on_length for layer in encoding.layers):
        shifted += "; a longer text changes the output of its earlier tokens"
    facts = {
        "Parameters": learned,
        "Acts on": encoding.places,
        "Attention": encoding.attention.replace("both", "causal and bidirectional"),
        "Length": "any" if end is None else f"ends at {end:,} positions, as configured",
        "A shift of all positions": shifted,
        "Route": encoding.routes,
        "Time, memory over `none`": " and ".join(_over_none(costs.get(encoding.name))),
    }
    if encoding.name in runs:
        bits = (f"{_bits(value)} at {int(length):,}" for length, value in runs[encoding.name].items())
        facts["Bits per byte of the default run"] = ", ".join(bits)
    yield f"## {encoding.name}"
    more = [f"- **{name}:** {fact}" for name, fact in facts.items()]
    yield from _section(encoding, encoding.caption, more)
    yield "In a model of your own:"
    yield f"```python\n{encoding.code}\n```"
    others = [other for other in encodings if other.documents[0] in encoding.documents[1:]]
    others += [other for other in encodings if other.name in _pattern_members(encoding, encodings)]
    if others:
        yield "See also " + ", ".join(_to(other, "") for other in others) + "."


def _pattern_members(encoding: Encoding, encodings: list[Encoding]) -> set[str]:
    """Return the choices whose class serves a layer of a pattern."""
    if encoding.picture != "layers":
        return set()
    return {other.name for other in encodings for layer in encoding.layers if other.documents == [type(layer)]}


def _section(choice: Choice, caption: str, facts: Iterable[str]) -> Iterator[str]:
    document = choice.document
    yield document.lead
    yield from document.before
    for base in choice.documents[1:]:
        formula = next((block for block in Document.of(base).before if block.startswith("    ")), None)
        if formula is not None:
            yield from (f"Built on `{base.__name__}`:", formula)
    if document.use:
        yield document.use.replace("Use it", "**Use it**", 1)
    yield f"![{choice.name}](../{choice.figure.as_posix()})"
    yield f"*{caption}*"
    facts = list(facts)
    if facts:
        yield "\n".join(facts)
    if choice.hyperparameters:
        yield from _table(
            ["hyperparameter", "default", "meaning"],
            [[f"`{h.key}`", f"`{h.default}`", h.comment] for h in choice.hyperparameters],
        )
    else:
        yield "No hyperparameters."
    yield from document.after
    if document.source:
        yield document.source


def _table(columns: list[str], rows: Iterable[list[str]]) -> Iterator[str]:
    cells = [columns, ["---"] * len(columns), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    yield "\n".join("| " + " | ".join(row) + " |" for row in cells)


def _joined(paragraph: str) -> str:
    """Return a paragraph in one line, but for the items of a list, which Markdown parts from it by an empty line."""
    first, *items = (" ".join(part.split()) for part in paragraph.split("\n- "))
    return "\n- ".join([f"{first}\n" if items and not first.startswith("- ") else first, *items])


def _over_none(cost: dict[str, Any] | None) -> tuple[str, str]:
    """Time and memory; a dash is what has not been measured."""
    return ("-", "-") if cost is None else (f"x {cost['time'][1]:.2f}", f"x {cost['memory']:.2f}")


def _bits(value: float | None) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{value:.2f}"


def make(draws: bool) -> None:
    """Write the pages, and draw their pictures."""
    FOLDER.mkdir(exist_ok=True)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        if draws:
            draw()
        for path, text in pages().items():
            path.write_text(text, encoding="utf-8")


def draw() -> None:
    """Draw all pictures."""
    import encoding_figures as figures  # beside this file; only who draws needs matplotlib

    for encoding in choices("encoding", Encoding):
        picture = figures.draw_encoding(encoding.picture, encoding.make, encoding.shape)
        figures.save(picture, DOCS / encoding.figure)
    shape = choices("encoding", Encoding)[0].shape
    for choice in choices("temperature"):
        temperature = shape.fill(instantiate(choice.config.temperature))
        figures.save(figures.draw_temperature(temperature), DOCS / choice.figure)
    for choice in choices("positions"):
        figures.save(figures.draw_positions(instantiate(choice.config.positions)), DOCS / choice.figure)
