"""Makes docs/extrapolation.md of an evaluation: `python docs/make.py --evaluation outputs/extrapolation`."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from poslab.report.text_tables import markdown_table

DOCS = Path(__file__).resolve().parents[1]
PAGE = DOCS / "extrapolation.md"
FIGURES = Path("figures") / "extrapolation"
TABLE = "per_length.csv"
PICTURES = {
    "bits_by_length": "Bits per byte over the window length, under both protocols; shaded: 95 % interval.",
    "loss_by_context": "Loss of a token over the number of tokens before it, in windows of each length.",
}

INTRODUCTION = """\
# Beyond the training length

<!-- `python docs/make.py --evaluation` makes this page from an evaluation. Do not edit it by hand. -->

Five encodings were trained by their default runs, in windows of 256 tokens for 600 steps. Here they read a text that
they have not seen, in windows of 256 to 4,096 tokens.

**One seed and 600 steps of a small model** show how these five runs do, not how encodings do in general. After so few
steps, the order at the training length is that of learning speed. `none` learns slowest, and is far from its end:
after 1,800 steps, seven runs of it span 2.51 to 3.05 bits per byte.

The two protocols answer different questions:

- **Non-overlapping windows.** A longer window gives the average token more context, and that alone can lower the loss.
- **Sliding windows.** Windows slide by half their length, so every token but the first few has at least half a window
  before it. This measures how well the encoding works at distances that it was not trained on."""

REPEAT = """\
## How to repeat it

```bash
for encoding in rotary alibi t5 sinusoidal none; do
  python -m src.train encoding=$encoding hydra.run.dir=outputs/default_$encoding
done
python -m src.evaluate parts=[extrapolation] tokens=null output=outputs/extrapolation \\
  runs=[outputs/default_rotary,outputs/default_alibi,outputs/default_t5,outputs/default_sinusoidal,outputs/default_none]
python docs/make.py --evaluation outputs/extrapolation
```"""


def page(frame: pd.DataFrame) -> str:
    """Return the page, from the table by length."""
    blocks = [INTRODUCTION, *_control(frame)]
    for protocol in frame["protocol"].unique():
        rows = frame[frame["protocol"] == protocol]
        blocks += [f"## {protocol.capitalize()} windows", *_tables(rows)]
    blocks += ["## Figures"]
    blocks += [f"![{caption}]({(FIGURES / name).as_posix()}.png)\n\n{caption}" for name, caption in PICTURES.items()]
    return "\n\n".join([*blocks, REPEAT]) + "\n"


def _control(frame: pd.DataFrame) -> Iterator[str]:
    """Yield the losses at four times the training length next to rotary in windows of its training length."""
    sliding = frame[frame["protocol"] == "sliding"].set_index(["length", "model"])["bits_per_byte"].dropna()
    trained = frame["length"].min()
    if (trained, "rotary") not in sliding or 4 * trained not in sliding:
        return
    far = "; ".join(
        f"{model} {value:.3f} (at {trained:,}: {sliding[trained, model]:.3f})"
        for model, value in sliding[4 * trained].sort_values().items()
    )
    yield (
        f"**The control.** Rotary in sliding windows of {trained:,} tokens, its training length, has "
        f"{sliding[trained, 'rotary']:.3f} bits per byte. In sliding windows of {4 * trained:,} tokens: {far}. Where "
        "the second figure is not the larger one, a longer context gains nothing."
    )


def _tables(rows: pd.DataFrame) -> Iterator[str]:
    lengths = sorted(rows["length"].unique())
    read, pieces = int(rows["tokens"].max()), int(rows["pieces"].max())
    yield (
        f"First bits per byte on {read:,} tokens, with the 95 % bootstrap interval over {pieces} documents or pieces "
        "of them in brackets; then the share of tokens that were predicted correctly."
    )
    heads = [f"{length:,} ({length // lengths[0]}x)" for length in lengths]
    for figure in ("bits_per_byte", "accuracy"):
        lines = []
        for model in rows["model"].unique():
            own = rows[rows["model"] == model].set_index("length")
            lines.append([model, *(_cell(own.loc[length], figure) for length in lengths)])
        yield markdown_table(["encoding", *heads], lines)


def _cell(row: pd.Series, figure: str) -> str:
    if pd.isna(row["loss"]):
        return "-"
    if figure == "accuracy":
        return f"{row['accuracy']:.1f} %"
    return f"{row['bits_per_byte']:.3f} ({row['bits_low']:.2f} to {row['bits_high']:.2f})"


def make(evaluation: Path) -> None:
    """Write the page, and copy its pictures.

    Args:
        evaluation: the directory of an evaluation of several runs.
    """
    (DOCS / FIGURES).mkdir(parents=True, exist_ok=True)
    for name in PICTURES:
        shutil.copy(evaluation / f"{name}.png", DOCS / FIGURES / f"{name}.png")
    PAGE.write_text(page(pd.read_csv(evaluation / TABLE)), encoding="utf-8")
