"""Builds the pages encodings/ of the site; fills in the list and draws the plots: `python docs/make.py encodings`.

The pages are made from the docstrings and attributes of the classes, the comments of conf/encoding, conf/positions and
conf/temperature, the measurements of one machine in benchmarks/figures, and the results behind docs/every-encoding.md.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from hydra import initialize_config_dir
from hydra.utils import instantiate

from pages.documented_choices import TRAINING_LENGTH, Choice, Document, Encoding, choices
from poslab.configuration.command_line import CONF
from poslab.report.text import markdown_table

DOCS = Path(__file__).resolve().parents[1]
FOLDER = Path("encodings")
"""One page for each family, for positions and for temperatures."""
LIST, SOURCE = DOCS / "encodings.md", DOCS.parent / "src" / "poslab" / "encodings"
TABLE = re.compile(r"(<!-- table: families -->\n\n)(?:\|.*\n)+")
BENCHMARK = DOCS.parent / "benchmarks" / "figures" / "amd_epyc.json"
RESULTS = DOCS.parent / "results" / "every_encoding" / "runs.parquet"
MEASURED = {"part": "encodings", "precision": "32-true", "length": TRAINING_LENGTH, "contestant": "Poslab"}
"""The rows of the benchmark with the costs of encodings."""

FAMILIES = {
    "absolute": ("Absolute positions", "A vector for each position is added to the embeddings, once."),
    "rotary": (
        "Rotations",
        "Queries and keys rotate by angles that grow with their positions, so that a logit depends on their distance.",
    ),
    "bias": ("Biases of distance", "A number that depends on the distance of query and key is added to their logit."),
    "relative": ("Relative vectors", "Learned or fixed vectors for distances meet queries and keys in the logits."),
    "content": ("Distances by content", "What tokens say decides how far apart they are, or how a bias acts on them."),
    "layers": ("Patterns over layers", "Layers differ: in their encodings, in their windows, or in both."),
}
"""Title and sentence for the page of each family, which is a folder or a file of poslab.encodings."""

UP = "[Encodings](../encodings.md) has all of them."
POSITIONS_CAPTION = (
    "How far three texts of 512 tokens are moved in training; for positions of patches, the coordinates of an image of "
    "6 x 6 patches, or of one of 5 x 5 between two texts of six tokens."
)

COLOURS = 64
"""Colours of a plot, which are enough, and make it a third of the size."""

LEGEND = "Letters: B batch, H heads, T queries, S keys, D head dim, M model dim; query i, key j, distance i - j."


def pages() -> dict[Path, str]:
    """Return the text of each page of encodings/, by its path in the site."""
    encodings = choices("encoding", Encoding)
    benchmark = json.loads(BENCHMARK.read_text(encoding="utf-8"))
    costs = {row["encoding"]: row for row in benchmark["rows"] if row.items() >= MEASURED.items()}
    bits = _bits_by_length()
    made = {FOLDER / "all.md": ["# All encodings", UP, *_overview(encodings, costs, benchmark["machine"], bits)]}
    for family in _families_of(encodings):
        name, sentence = FAMILIES.get(family, (family, ""))
        blocks = made[FOLDER / f"{family}.md"] = [f"# {name}", sentence, UP, LEGEND]
        for encoding in encodings:
            if encoding.family == family:
                blocks += _encoding_section(encoding, encodings, costs, bits)
    for group, title, caption in (
        ("positions", "Positions", POSITIONS_CAPTION),
        ("temperature", "Temperatures", "The factor on the logits, at initialisation."),
    ):
        blocks = made[FOLDER / f"{group}.md"] = [f"# {title}"]
        blocks += [f"The config group `{group}=`; it works with any encoding that allows it.", UP]
        blocks.append(markdown_table([group, "formula", "what it does"], map(_row, choices(group))))
        for choice in choices(group):
            blocks += [f"## {group}={choice.name}", *_section(choice, caption, [])]
    return {path: "\n\n".join(block.strip("\n") for block in blocks) + "\n" for path, blocks in made.items()}


def _families_of(encodings: list[Encoding]) -> list[str]:
    """Return the families in the order of `FAMILIES`, then those that are not there."""
    return list(dict.fromkeys([*FAMILIES, *(encoding.family for encoding in encodings)]))


def _to(encoding: Encoding) -> str:
    """Return a link to the section of an encoding, from a page in encodings/."""
    return f"[{encoding.name}]({encoding.family}.md#{encoding.name})"


def _overview(
    encodings: list[Encoding], costs: dict[str, Any], machine: dict[str, Any], bits: pd.DataFrame
) -> Iterator[str]:
    """Yield the table of all encodings, and the meaning of its columns."""
    shape = encodings[0].shape
    columns = ["encoding", "formula", "parameters", "acts on", "attention", "route", "time", "memory"]
    lengths = (bits.columns[0], bits.columns[-1])
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
                *(_shown(bits, encoding.name, length) for length in lengths),
            ]
        )
    yield LEGEND
    yield markdown_table([*columns, *(f"bits at {length:,}" for length in lengths)], rows)
    yield (
        f"**Parameters**: of the whole stack in the default decoder (`size=tiny`), with {shape.num_layers} layers of "
        f"width {shape.d_model}, {shape.num_heads} heads of {shape.head_dim} dimensions, and a training length of "
        f"{TRAINING_LENGTH} tokens. The plots show its first layer.\n\n"
        "**Attention**: causal only, bidirectional only, or both.\n\n"
        "**Route**: the cheapest one that is exact for the encoding (see [architecture](../architecture.md)).\n\n"
        f"**Time** and **memory**: of a training step of that decoder on rows of {TRAINING_LENGTH} tokens in float32, "
        "relative to `none`. Time is the median of steps that alternate with steps under `none`. Memory is "
        "the most bytes that PyTorch allocated at once besides the weights. Measured by `python benchmarks/run.py` "
        f"(see [performance](../performance.md)) on {machine['processor']}, {machine['threads']} threads, torch "
        f"{machine['torch']}. A dash: not measured."
    )
    yield (
        "**Bits**: bits per byte of test text in windows of that many bytes, after 600 steps of a small model in "
        f"windows of {lengths[0]} ([every encoding](../every-encoding.md)). A dash: not defined there, or not trained."
    )


def _row(choice: Choice) -> list[str]:
    """Return the row of a choice in the table of a smaller group; its section has the title `group=name`."""
    link = f"[{choice.name}](#{choice.group}{choice.name})"
    return [link, choice.document.formula, choice.document.lead]


def _encoding_section(
    encoding: Encoding, encodings: list[Encoding], costs: dict[str, Any], bits: pd.DataFrame
) -> Iterator[str]:
    learning = [layer for layer in encoding.stack if any(True for _ in layer.parameters())]
    owners = "one for all layers" if all(layer.shared_by_layers for layer in learning) else "in each layer"
    shapes = {name: tuple(p.shape) for layer in learning for name, p in layer.named_parameters()}
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
    if encoding.name in bits.index:
        values = [f"{_shown(bits, encoding.name, length)} at {length:,}" for length in bits.columns]
        facts["Bits per byte"] = f"{', '.join(values)} ([every encoding](../every-encoding.md))"
    yield f"## {encoding.name}"
    more = [f"- **{name}:** {fact}" for name, fact in facts.items()]
    yield from _section(encoding, encoding.caption, more)
    yield "In your own model:"
    yield f"```python\n{encoding.code}\n```"
    others = [other for other in encodings if other.documents[0] in encoding.documents[1:]]
    others += [other for other in encodings if other.name in _pattern_members(encoding, encodings)]
    if others:
        yield "See also " + ", ".join(_to(other) for other in others) + "."


def _pattern_members(encoding: Encoding, encodings: list[Encoding]) -> set[str]:
    """Return the choices whose class encodes a layer of a pattern."""
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
        yield markdown_table(
            ["hyperparameter", "default", "meaning"],
            [[f"`{h.key}`", f"`{h.default}`", h.comment] for h in choice.hyperparameters],
        )
    else:
        yield "No hyperparameters."
    yield from document.after
    if document.source:
        yield document.source


def _over_none(cost: dict[str, Any] | None) -> tuple[str, str]:
    """Return time and memory; a dash is what has not been measured."""
    return ("-", "-") if cost is None else (f"x {cost['time'][1]:.2f}", f"x {cost['memory']:.2f}")


def _bits_by_length() -> pd.DataFrame:
    """Return the mean bits per byte: a row for each encoding, a column for each length of windows."""
    runs = pd.read_parquet(RESULTS).set_index("encoding").filter(regex=r"^test/bits_per_byte@\d+$")
    return runs.rename(columns=lambda name: int(name.partition("@")[2])).groupby("encoding").mean()


def _shown(bits: pd.DataFrame, name: str, length: int) -> str:
    """Return the mean of an encoding at a length; a dash is what has not been measured."""
    value = bits[length].get(name, math.nan)
    return "-" if math.isnan(value) else f"{value:.2f}"


def make(draws: bool) -> None:
    """Fill in the table of docs/encodings.md, and draw the plots; the other pages are built with the site."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        text = LIST.read_text(encoding="utf-8")
        LIST.write_text(TABLE.sub(lambda match: f"{match[1]}{_families()}\n", text), encoding="utf-8")
        if draws:
            draw()


def _families() -> str:
    """Return the table of docs/encodings.md: a row for each family, with links to the files of its encodings."""
    encodings, rows = choices("encoding", Encoding), []
    for family in _families_of(encodings):
        name, sentence = FAMILIES.get(family, (family, ""))
        title = f"[{name}](../src/poslab/encodings/{family})" if (SOURCE / family).is_dir() else name
        files = (
            f"[{encoding.name}](../conf/encoding/{encoding.name}.yaml)"
            for encoding in encodings
            if encoding.family == family
        )
        rows.append([title, sentence, ", ".join(files)])
    return markdown_table(["family", "how it works", "encodings"], rows)


def draw() -> None:
    """Draw the plots of all encodings, temperatures and positions into docs/figures."""
    from pages import encoding_figures as figures  # only who draws needs matplotlib
    from pages.small_png import save

    for encoding in choices("encoding", Encoding):
        picture = figures.draw_encoding(encoding.picture, encoding.make, encoding.shape)
        save(picture, DOCS / encoding.figure, COLOURS)
    shape = choices("encoding", Encoding)[0].shape
    for choice in choices("temperature"):
        temperature = shape.fill(instantiate(choice.config.temperature))
        save(figures.draw_temperature(temperature), DOCS / choice.figure, COLOURS)
    for choice in choices("positions"):
        save(figures.draw_positions(instantiate(choice.config.positions)), DOCS / choice.figure, COLOURS)
