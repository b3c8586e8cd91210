"""Write a trained run as a directory of Hugging Face's: `python -m src.export run=outputs/RUN to=DIR`."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

from poslab.cli.help import export_help
from poslab.cli.hydra_command import command


def main(config: dict[str, Any], directory: Path, overrides: list[str]) -> None:
    """Export a run, and print the class that loads it and the largest difference of logits that was measured."""
    for key, named, example in (
        ("run", "a run directory or one of its checkpoints", "run=outputs/RUN"),
        ("to", "a new directory", "to=my-model"),
    ):
        if not isinstance(config[key], str) or not config[key]:
            raise ValueError(f"{key} must name {named}: {example}")

    from poslab.pretrained.export.directory import check_target
    from poslab.pretrained.export.gguf_file import ExportedFile
    from poslab.runs.loading import export

    check_target(config["to"])
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()  # its own sentences on configurations, which the comparison makes needless
    for number in (signal.SIGTERM, signal.SIGINT):  # a command that is stopped removes what it has begun to write
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    exported = export(config["run"], config["to"], trust=config["trust"])
    if isinstance(exported, ExportedFile):
        print("\n".join([f"{exported.path} is for llama.cpp (architecture {exported.architecture}).", *exported.notes]))
        return
    rotation = "" if exported.rope_type is None else f" (rope_type {exported.rope_type})"
    how = "without remote code"
    if exported.needs_poslab:
        how = "with trust_remote_code=True, or after `poslab.pretrained.register()`"
    print(f"{exported.path} loads as {exported.class_name}{rotation}, {how}.")
    print(
        f"The largest difference of logits is {exported.difference:.1e}, of logits up to {exported.largest:.3g}: "
        f"up to {exported.longest} random tokens, float32, loaded in a fresh process."
    )
    for note in exported.notes:
        print(note)
    print(f"It needs transformers {exported.least_transformers} or later.")


def run() -> None:
    """Run the command, and exit."""
    command("export", main, export_help)
