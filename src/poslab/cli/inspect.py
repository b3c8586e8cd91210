"""Show what a model does with positions: `python -m src.inspect_positions DIR context=131072`."""

from __future__ import annotations

import json
import math
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

from poslab.arguments import nearest
from poslab.cli.help import WIDTH, table, usage
from poslab.cli.hydra_command import HELP, quick_imports, without_hydra
from poslab.configuration.command_line import poslab_command
from poslab.io.files import replacing, write_atomically
from poslab.io.terminal import harmless

if TYPE_CHECKING:
    from poslab.pretrained.inspection import Inspection

OWN_KEYS = {
    "context": "tokens of the text that the model shall read (default: max_position_embeddings)",
    "json": "file to write everything to, frequencies too; - prints it instead of the table",
    "plot": "file to write a plot of wavelengths to: .png, .svg or .pdf",
    "golden": "file to write cosines, sines, rotated vectors and biases to: .safetensors",
    "check": "values of another program, .safetensors or .npz; the exit status is 1 if they differ",
}
SUFFIXES = {"plot": (".png", ".svg", ".pdf"), "golden": (".safetensors",), "check": (".safetensors", ".npz")}


def main(arguments: list[str]) -> None:
    """Print the positions of a model, layer by layer, and what is wrong with them."""
    if HELP & set(arguments):
        what = "shows what a model does with positions, without loading its weights"
        lines = [*usage("inspect", "DIR|config.json|FILE.gguf|CLASS [KEY=VALUE ...]", what), "", "Keys (key=value):"]
        print("\n".join([*lines, *table(OWN_KEYS.items())]))
        return
    line = re.sub(rf"--({'|'.join(OWN_KEYS)}|length)[\0=]", r"\1=", "\0".join(arguments))  # --check FILE
    arguments = [re.sub("^length=", "context=", word) for word in line.split("\0") if word]
    given = dict(word.split("=", 1) for word in arguments if word.startswith(tuple(f"{key}=" for key in OWN_KEYS)))
    sources = [word for word in arguments if word not in [f"{key}={value}" for key, value in given.items()]]
    if len(sources) != 1 or sources[0].startswith("-"):
        unknown = next((word for word in sources if re.match(r"-*[a-z_]+=", word) and not Path(word).exists()), None)
        if unknown is not None:
            key = unknown.partition("=")[0].lstrip("-")
            raise ValueError(f"unknown key {key!r}{nearest(key, list(OWN_KEYS))}")
        usual = f"{poslab_command('inspect')} takes one folder, file or class, and {'=, '.join(OWN_KEYS)}= once each"
        raise ValueError(f"{usual}, got {' '.join(arguments) or 'nothing'}; hint: --help explains them")
    length, to, plot, golden, values = (given.get(key) for key in OWN_KEYS)
    if length is not None and not (length.isdecimal() and len(length) < 11):
        raise ValueError(f"context must be a positive integer, got {length}")
    for key, suffixes in SUFFIXES.items():
        if key in given and Path(given[key]).suffix not in suffixes:
            raise ValueError(f"{key} must end in {' or '.join(suffixes)}, got {given[key]}")
    with quick_imports():
        if "torch" not in sys.modules and find_spec("transformers") is not None:
            from transformers import utils  # which would load torch, for seconds

            for module in (utils, utils.import_utils):
                setattr(module, "is_torch_available", lambda: False)  # noqa: B010, its type has no such attribute
        from poslab.pretrained.inspection import inspect_positions

        context = None if length is None else int(length)
        inspection = inspect_positions(sources[0], context)
        try:
            if golden is not None:
                from safetensors.numpy import save

                from poslab.pretrained.inspection.golden import golden_values

                with replacing(Path(golden)) as opened:
                    opened.write(save(*golden_values(inspection)))
            everything = json.dumps(inspection.to_json(), indent=1) if to is not None else ""
            if to is not None and to != "-":
                write_atomically(Path(to), everything)
            if plot is not None:
                draw(inspection, Path(plot))
        except OSError as error:
            raise ValueError(
                f"{' or '.join(filter(None, (to, plot, golden)))} cannot be written: {error.strerror}"
            ) from error
        lines, differs = [everything] if to == "-" else lines_of(inspection), False
        if values is not None:
            from poslab.pretrained.inspection.check import check_values

            rows, differs = check_values(sources[0], Path(values), context)
            lines = [*table(rows)]
        print(harmless("\n".join(lines)))
        if differs:
            sys.exit(1)


def lines_of(inspection: Inspection) -> list[str]:
    """Return the lines that the command prints, at most 80 characters wide."""
    from poslab.pretrained.inspection.report import ranges

    description = inspection.description
    title = (
        f"{description.name} ({description.origin}): {len(inspection.layers)} layers, at {inspection.context:,} tokens"
    )
    lines = wrap(title, WIDTH)
    for numbers, layer in inspection.groups:
        lines += ["", *wrap(f"layer{'s' if len(numbers) > 1 else ''} {ranges(numbers)}", WIDTH)]
        lines += table(inspection.rows(layer))
    for level in ("warning", "note"):
        findings = [finding for finding in inspection.findings if finding.level == level]
        lines += ["", f"{level.capitalize()}s"] if findings else []
        for finding in findings:
            text = f"{finding.code}: {finding.message} ({finding.source})"
            lines += wrap(text, WIDTH, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)
    return lines


def draw(inspection: Inspection, file: Path) -> None:
    """Write a plot of the wavelengths of each kind of layers that rotates, with the training length and the context."""
    from poslab.report.figures import COLOURS, LINES, new_figure

    figure, trained = new_figure(6.0, 4.0), set()
    axes = figure.add_subplot()
    rotating = [(layer, layer.rope) for _, layer in inspection.groups if layer.rope]
    for n, (layer, rope) in enumerate(rotating):
        waves = [2 * math.pi / f if f else math.nan for f in rope.frequencies(inspection.context)]
        label = f"{layer.attention} layers, base {rope.base:,.0f}, {rope.type}"
        axes.semilogy(waves, LINES[n % 4], color=COLOURS[n % 6], label=label)
        trained.add(rope.original_length)
    windows = {layer.window for layer, _ in rotating if layer.window}
    lengths = [("training length", trained), ("window", windows), ("context", {inspection.context})]
    for length in sorted(set.union(*(values for _, values in lengths))):  # a line for all that are equal
        names = " and ".join(name for name, values in lengths if length in values)
        axes.axhline(
            length, color="black" if "context" in names else "grey", linestyle=":", label=f"{names} {length:,}"
        )
    axes.set(xlabel="pair of channels m", ylabel="wavelength (tokens)")
    axes.legend(fontsize="small")
    with replacing(file) as opened:
        figure.savefig(opened, format=file.suffix[1:], dpi=150)


run = without_hydra(main)
