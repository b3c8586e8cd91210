"""Compare the figures of five runs at two commits, digit for digit: the proof that a change only moved things.

    python benchmarks/identical_losses.py ca19772 HEAD
    python benchmarks/identical_losses.py ca19772 HEAD --steps 60      # each run cut short

Each commit is checked out into a folder of its own and trains there. Times and memory aside, metrics.csv must be the
same. One thread a run, so that no sum depends on the number of cores.
"""

from __future__ import annotations

import argparse
import codecs
import contextlib
import csv
import io
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

with contextlib.redirect_stdout(io.StringIO()):
    import this  # which prints itself

ROOT = Path(__file__).resolve().parent.parent
RUNS = {
    "rotary, the default": [[]],
    "t5 with dropout": [["encoding=t5", "model.dropout=0.1"]],
    "topics": [["experiment=small", "dataset=bbc_topics"], ["experiment=small/bbc_topics"]],
    "pairs": [["experiment=small", "dataset=pairs_file", "dataset.files=PAIRS"]],
    "reversing": [["dataset=reverse_string", "trainer.max_steps=300"]],
}
"""The words of each run, in the spellings of now and of earlier commits; PAIRS is a file of pairs of texts."""

VARYING = ("train/tokens_per_second", "train/mfu", "train/seconds", "memory/peak_mb")
"""Figures that no two runs share."""


def write_pairs(path: Path) -> None:
    """Write sentences of the Zen of Python and their words in reverse order, with a number that makes each differ."""
    generator, words = random.Random(0), codecs.decode(this.s, "rot13").split()
    with path.open("w", encoding="utf-8") as file:
        for number in range(3000):
            sentence = [str(number), *generator.choices(words, k=generator.randint(3, 12))]
            file.write(json.dumps({"source": " ".join(sentence), "target": " ".join(reversed(sentence))}) + "\n")


def trained(tree: Path, spellings: list[list[str]], directory: Path, steps: int | None) -> list[list[str]]:
    """Train a run in a checkout, in the first spelling that it knows; return the rows of its metrics.csv."""
    paths = os.pathsep.join([str(tree / "src"), str(tree)])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    for words in spellings:
        if steps is not None:
            words = [
                *(word for word in words if not word.startswith("trainer.max_steps=")),
                f"trainer.max_steps={steps}",
            ]
        words = [word.replace("PAIRS", str(tree.parent / "pairs.jsonl")) for word in words]
        command = [sys.executable, "-m", "src.train", *words, f"hydra.run.dir={directory}"]
        done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
        if done.returncode == 0:
            with (directory / "metrics.csv").open(newline="") as file:
                return [row for row in csv.reader(file) if row[1] not in VARYING]
    sys.exit(f"{' '.join(command)}\n{done.stderr}")


def main() -> None:
    """Train all runs at both commits, and report whether they are the same."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before")
    parser.add_argument("after", nargs="?", default="HEAD")
    parser.add_argument("--steps", type=int)
    arguments = parser.parse_args()
    differing = 0
    with tempfile.TemporaryDirectory() as temporary:
        write_pairs(Path(temporary) / "pairs.jsonl")
        trees = [Path(temporary) / name for name in ("before", "after")]
        for tree, commit in zip(trees, (arguments.before, arguments.after), strict=True):
            subprocess.run(["git", "clone", "-q", str(ROOT), str(tree)], check=True)
            subprocess.run(["git", "-C", str(tree), "checkout", "-q", commit], check=True)
        for name, spellings in RUNS.items():
            slug = name.replace(" ", "_").replace(",", "")
            before, after = (trained(tree, spellings, tree / "outputs" / slug, arguments.steps) for tree in trees)
            changed = [pair for pair in zip(before, after, strict=False) if pair[0] != pair[1]]
            is_same = before == after
            differing += not is_same
            print(
                f"{name}: {len(before)} figures, {'the same' if is_same else f'first differing {changed[:1]}'}",
                flush=True,
            )
    sys.exit(1 if differing else 0)


if __name__ == "__main__":
    main()
