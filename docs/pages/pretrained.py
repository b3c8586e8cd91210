"""The text of docs/pretrained.md around its comparisons: `python docs/make.py --comparison FOLDER ...`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from pages.comparison import SLIDING, ComparisonPage, Part, means, scores_of, with_interval
from poslab.experiments.statistics.difference import difference, in_pairs
from poslab.report.sentences import listed
from poslab.report.text_tables import markdown_table

INTRODUCTION = """\
# Pretrained models under another encoding, measured

<!-- `python docs/make.py --comparison` makes this page from comparisons. Do not edit it by hand. -->

[pretrained-models.md](pretrained-models.md#compare-exchanges) has the commands, also those that make the models."""

FURTHER = {
    "full_5": "5 % more steps in windows of 1,024",
    "pose_5": "5 % under PoSE",
    "full_20": "20 % in windows of 1,024",
    "pose_20": "20 % under PoSE",
}
"""Cases of further training, in words."""

OWN_WINDOW = """\
The control: the untouched rotary model in windows of 256, its training length. Differences are in bits per byte, means
with 95% intervals for new seeds and new pieces of the test, not adjusted for their number; above 0, YaRN at 1,024 is
worse. Sliding windows move by half their length, and only the second half counts. In steps, the stretched models have
1,680 (5%) or 1,920 (20%) in all, and those from scratch 1,920."""

Run = tuple[str, str, int]
"""Case and encoding of runs, and the length at which they are tested."""

AT, FAR, LONGEST, SHORT = "bits_per_byte@1024", "bits_per_byte@4096", "passkey_ndcg@2048", "bits_per_byte@512"
"""Metrics of the first sentences."""


def _way_to_alibi(folder: Path) -> Iterator[str]:
    """Yield how much of the advantage of ALiBi from scratch a rotary model has after little further training."""
    of = means(folder)
    if any((FAR, "from_scratch", name) not in of for name in ("rotary", "alibi")):
        return
    near, far = (of[metric, "from_scratch"] for metric in (AT, FAR))
    yield (
        f"At 1,024 tokens, four times the length of its windows, a model from scratch has {near['rotary']:.3f} bits "
        f"per byte under rotary and {near['alibi']:.3f} under ALiBi; at 4,096, {far['rotary']:.3f} and "
        f"{far['alibi']:.3f}."
    )
    scratch_at_256 = of.get(("bits_per_byte@256", "from_scratch", "rotary"))
    behind = _minus(folder, ("from_scratch", "alibi", 1024), ("from_scratch", "rotary", 256))
    if scratch_at_256 is not None and behind is not None:
        yield (
            f"In windows of 256, its training length, rotary from scratch has {scratch_at_256:.3f}: ALiBi at 1,024 "
            f"minus that is {behind}."
        )
    trained = {case: words for case, words in FURTHER.items() if (FAR, case, "alibi") in of}
    whole = near["rotary"] - near["alibi"]
    shares = [
        f"{100 * (near['rotary'] - of[AT, case, 'alibi']) / whole:.0f} % with {words}"
        for case, words in trained.items()
    ]
    if shares and whole > 0:
        yield (
            f"Exchanged for ALiBi, a rotary model goes a part of the way from {near['rotary']:.3f} to "
            f"{near['alibi']:.3f}: {listed(shares)}."
        )
        best = {
            at: listed([f"{of[at, case].idxmin()} ({of[at, case].min():.3f})" for case in trained]) for at in (AT, FAR)
        }
        yield f"The lowest means are, in the same order, {best[AT]} at 1,024 tokens, and {best[FAR]} at 4,096."
    untouched = _minus(folder, ("pose_5", "yarn", 1024), UNTOUCHED)
    scratch = _minus(folder, ("pose_5", "yarn", 1024), ("from_scratch", "alibi", 1024))
    farther = _minus(folder, ("pose_5", "yarn", 4096), ("from_scratch", "alibi", 4096))
    if untouched is not None and scratch is not None and farther is not None:
        yield (
            "Stretch only where far context is needed: in windows of 256, its training length, the untouched model has "
            f"{of['bits_per_byte@256', 'zero_shot', 'rotary']:.3f}. YaRN after 5% under PoSE minus that is {untouched},"
            f" and minus ALiBi from scratch at 1,024 {scratch}, with fewer steps in all. At 4,096 YaRN has "
            f"{of[FAR, 'pose_5', 'yarn']:.3f}, and minus ALiBi from scratch {farther}."
        )
    if (keys := of.get("passkey_accuracy@256")) is not None and keys.max() == 0:
        yield "No model finds a pass key even within 256 tokens, so that pass keys say nothing here."


def _minus(folder: Path, ours: Run, theirs: Run, metric: str = "bits_per_byte") -> str | None:
    """Return the difference of two kinds of runs with its interval; None without scores."""
    first, second = (scores_of(folder, case, name, metric, length) for case, name, length in (ours, theirs))
    if first is None or second is None:
        return None
    *pair, are_pairs = in_pairs(first, second)
    return with_interval(difference(*pair, "minimize", are_pairs))


UNTOUCHED: Run = ("zero_shot", "rotary", 256)
GOALS: Mapping[str, tuple[Run, str]] = {
    "minus untouched at 256": (UNTOUCHED, "bits_per_byte"),
    "the same, sliding": (UNTOUCHED, SLIDING),
    "minus rotary from scratch at 256": (("from_scratch", "rotary", 256), "bits_per_byte"),
    "minus ALiBi from scratch at 1,024": (("from_scratch", "alibi", 1024), "bits_per_byte"),
}
"""Controls of a stretched model, by the heading of their column."""


def _own_window(folder: Path) -> Iterator[str]:
    """Yield what YaRN is worth next to the untouched model in windows of its training length."""
    of, rows = means(folder), []
    for case in ("zero_shot", *FURTHER):
        stretched: Run = (case, "yarn", 1024)
        found = [_minus(folder, stretched, goal, metric) for goal, metric in GOALS.values()]
        if None not in found:
            rows.append([case, f"{of[AT, case, 'yarn']:.3f}", *map(str, found)])
    if rows:
        yield "### Stretched, next to a window of the training length"
        yield OWN_WINDOW
        yield markdown_table(["case", "yarn at 1,024", *GOALS], rows)


def _beyond_the_rows(folder: Path) -> Iterator[str]:
    """Yield which encoding finds most in long texts after distillation, and what it has kept."""
    of = means(folder)
    found = of.get((LONGEST, "topics_after"))
    if found is None:
        return
    best = found.idxmax()
    cosine, probe = (of[metric, "topics_after", best] for metric in ("cosine", "probe_accuracy"))
    yield (
        f"In texts of 2,048 tokens, four times its rows, {best} finds most after distillation ({found.max():.1f} % of "
        f"32 pass keys); its vectors have a cosine of {cosine:.3f} to those of the untouched model, and its probe is "
        f"right on {probe:.1f} % of the topics."
    )
    rows = [f"{found[name]:.1f} % under {name} rows" for name in ("copied", "interpolated") if name in found]
    yield f"Beside it: {' and '.join(rows)}."
    if (before := of.get((LONGEST, "topics_before"))) is not None:
        yield f"Without any training {before.idxmax()} finds most ({before.max():.1f} %)."


def _recovered(folder: Path) -> Iterator[str]:
    """Yield the losses before and after the recovery, the least first."""
    of = means(folder)
    for case, when in {"zero_shot": "Without training", "recovery": "After the recovery"}.items():
        if (SHORT, case) in of:
            losses = (f"{name} {value:.2f}" for name, value in of[SHORT, case].sort_values().items())
            yield f"{when}, bits per byte in windows of 512 tokens: {', '.join(losses)}."


PARTS = {
    "pretrained_rotary": Part(
        "A rotary decoder, stretched or exchanged",
        """\
A decoder of bytes is trained under rotary in windows of 256 tokens, exported, and read back as a Hugging Face model.
Then its positions are exchanged: without any training (`zero_shot`), and after 5 % and 20 % of its own steps, in
windows of 1,024 tokens (`full`) or of 256 tokens with the positions of 1,024 (`pose`). `from_scratch` has the
steps of both together under one encoding. Scalings have a factor of 4.""",
        "models above 1 million parameters, windows above 4,096 tokens, other rates than one, and texts other than the "
        "Python reference",
        (
            *("bits_per_byte@1024", "bits_per_byte@256", "bits_per_byte@4096", "sliding_bits_per_byte@1024"),
            *("passkey_accuracy@256", "passkey_accuracy@1024", "passkey_loss@1024"),
        ),
        ("curves_*[!g]_bits_per_byte", "differences_*_5_bits_per_byte_1024"),
        _way_to_alibi,
        _own_window,
    ),
    "pretrained_minilm": Part(
        "A sentence encoder without its learned positions",
        """\
MiniLM (22.6 million parameters, 512 learned rows) under other encodings, `before` any training and `after` a short
distillation from its untouched self, on news articles (`topics`, cut at 128 tokens) and on questions. Held-out texts:

- `cosine`: of the vector of a text to that of the untouched model. `copied` begins at 1 and has nothing to learn: what
  it loses is the noise of training.
- `probe_accuracy`: a linear classifier of frozen vectors, which learns from 512 training texts.
- `passkey_ndcg`: 32 questions, each with one of 32 texts of that length that answers it; a guess finds 3.1 %. The rows
  of `own` end at 512 tokens; `copied` repeats them, and `interpolated` stretches them to 2,048.""",
        "other encoders, other tasks than these two, distillation for more than minutes, and texts of other forms than "
        "pass keys beyond 512 tokens",
        ("cosine", "probe_accuracy", "passkey_ndcg@512", "passkey_ndcg@1024", "passkey_ndcg@2048"),
        ("curves_*_passkey_ndcg", "differences_*_cosine"),
        _beyond_the_rows,
    ),
    "pretrained_smollm2": Part(
        "SmolLM2-135M without its rotation",
        """\
SmolLM2-135M (from blocks of 4 bits) under other encodings, `zero_shot` and after 30 steps of distillation from its
untouched self, each on two windows of 256 tokens of the Python reference (`recovery`, in which `own` has the same
steps). The model may have read this text in its training. `interpolation`, `ntk` and `yarn` stretch it twice, although
no text is longer than in its training; `p_rope` does not turn the slowest channels.""",
        "texts beyond the 8,192 tokens that the model was trained at: all windows are shorter, so that scalings can "
        "only lose here. Recovery without positions takes billions of tokens in the paper of DroPE; a few thousand "
        "tokens show how steep its beginning is, and neither where it ends nor which encoding would win",
        ("bits_per_byte@512", "bits_per_byte@2048"),
        ("curves_*[!g]_bits_per_byte",),
        _recovered,
    ),
}

PAGE = ComparisonPage("pretrained", INTRODUCTION, PARTS)
