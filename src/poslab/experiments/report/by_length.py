"""Windows beyond the training length next to sliding ones, which cost nothing; speed and memory by length."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from poslab.evaluation.scores.tokens import CONTEXT_GAIN
from poslab.evaluation.summary import ContextUse
from poslab.experiments.criteria import Criterion
from poslab.experiments.metrics import SLIDING, at_lengths
from poslab.experiments.report.tables import NO_RESULT, unequal_tuning
from poslab.experiments.results import Results
from poslab.experiments.statistics.difference import Difference, Scores, difference
from poslab.experiments.statistics.verdict import verdicts
from poslab.report.figures import Table
from poslab.report.text import file_name, fixed
from poslab.tasks.language_modelling import CONTEXT_MARGIN, MIN_CONTEXT_GAIN

SIGNS = dict(zip(ContextUse, "▲=▼?", strict=True))  # sign of each verdict, behind the loss in longer windows

USE_LEGEND = f"Next to its own window: {', '.join(f'{sign} {use}' for use, sign in SIGNS.items())}."


def longer_context(results: Results, case: str) -> Table | None:
    """Return a row for each encoding, and one for the control: the baseline in windows of its training length.

    Columns: `encoding`; the sliding loss at the training length and, with the sign of its verdict, at longer ones; the
    gain and the verdict at the longest; at the one that decides, by which rows are sorted, the difference to the
    control. None for a case without sliding windows of the training length and longer ones.
    """
    trained, baseline = results.training_length(case), results.comparison.baseline
    lengths = sorted(length for length in results.lengths(case) if length >= trained)
    losses = {length: results.scores(case, Criterion(f"{SLIDING}@{length}", "minimize")) for length in lengths}
    losses = {n: of_n for n, of_n in losses.items() if any(np.isfinite(scores.mean) for scores in of_n.values())}
    if trained not in losses or len(losses) < 2:
        return None
    own, longest = losses[trained], max(losses)
    sliding = [criterion for criterion in results.comparison.criteria(case) if criterion.name == SLIDING]
    deciding = next((n for c in sliding for n in at_lengths(c, list(losses), trained) if n > trained), longest)
    margin = next((c.margin for c in sliding if c.margin is not None), CONTEXT_MARGIN)
    gains = {length: _gains(results, case, length, own, losses[length]) for length in losses if length > trained}
    uses = {
        length: {
            name: ContextUse.of(gain.interval, difference(losses[length][name], own[name], "minimize").interval, margin)
            for name, gain in of_length.items()
        }
        for length, (of_length, _) in gains.items()
    }
    control = f"{baseline} at {trained:,}"
    of_control = {control: own[baseline]} if baseline in own else {}
    contestants = {**of_control, **losses[deciding]}
    not_learned, paired = results.not_learned(case), results.comparison.pairing
    compared = {}
    if of_control:
        compared = verdicts(contestants, control, "minimize", margin, paired=paired, not_learned=not_learned)
    rows = []
    for name in (*of_control, *own):
        row = {"encoding": name}
        for length, of_length in losses.items():
            sign = SIGNS[uses[length][name]] if name in uses.get(length, {}) else ""
            scores = {**of_length, **of_control}.get(name)
            row[f"{length:,}"] = "–" if scores is None else f"{_number(scores.mean)} {sign}".strip()
        verdict, others = compared.get(name), "control" if name == control else NO_RESULT
        row[f"gain at {longest:,}"] = _with_interval(gains[longest][0].get(name))
        row["longer context"] = str(uses[longest].get(name, others))
        row[f"at {deciding:,} minus {control}"] = _with_interval(verdict.difference if verdict else None)
        row["verdict"] = others if verdict is None else str(verdict.word)
        rows.append((np.nan_to_num(contestants[name].mean, nan=np.inf) if name in contestants else np.inf, row))
    targets = "targets with at least half of the longest window before them in their document"
    if not gains[longest][1]:
        targets = "all targets, since these results have no context_gain (an earlier version, or short documents)"
    caption = (
        f"Bits per byte in sliding windows, means over seeds. {USE_LEGEND} The gain is the loss in its own window, of "
        f"{trained:,}, minus that in the longest one, over {targets}: '{ContextUse.USES}' if its interval is above 0 "
        f"and reaches {MIN_CONTEXT_GAIN:g}. '{ContextUse.KEEPS}': surely at most {margin:g} worse than its own window. "
        "± is half of a 95% interval, for new seeds and test items; next to the control, verdicts are adjusted by Holm."
    )
    if unequal := unequal_tuning(results, case):
        caption += f" Tuning is {unequal}."
    frame = pd.DataFrame([row for _, row in sorted(rows, key=lambda ordered: ordered[0])])
    return Table(f"longer_context_{file_name(case)}", "Longer context", caption, frame)


def _gains(
    results: Results, case: str, length: int, own: dict[str, Scores], losses: dict[str, Scores]
) -> tuple[dict[str, Difference], bool]:
    """Return the gain of context of each encoding at a length, and whether it is over the same targets, or over all."""
    known = results.scores(case, Criterion(f"{CONTEXT_GAIN}@{length}", "maximize"))
    if known.keys() < losses.keys():
        shared = [name for name in losses if name in own]
        return {name: difference(own[name], losses[name], "minimize") for name in shared}, False
    zeros = {n: Scores(0 * s.values, None if s.items is None else 0 * s.items) for n, s in known.items()}
    return {name: difference(scores, zeros[name], "maximize") for name, scores in known.items()}, True


def _number(number: float) -> str:
    return "–" if np.isnan(number) else fixed(round(number, 3) + 0.0, 3)


def _with_interval(found: Difference | None) -> str:
    """Return a difference in bits per byte with half the width of its interval, if it has one."""
    if found is None:
        return "–"
    low, high = found.interval
    return _number(found.mean) if np.isnan(low) else f"{_number(found.mean)} ± {_number((high - low) / 2)}"


MAX_LENGTHS = 5  # lengths that a table has columns for

READINGS = ("tokens", "tokens_per_second", "memory_mb")


def speeds_frame(results: Results) -> pd.DataFrame:
    """Return a row for each case, encoding and length that was timed."""
    rows = [
        {"case": case, "encoding": name, "length": length, **reading, "machine": run.reading_machine}
        for case in results.comparison.cases
        for length in results.lengths(case)
        for name, run in results.timed(case).items()
        if (reading := {n: run.reading[f"{n}@{length}"] for n in READINGS if f"{n}@{length}" in run.reading})
    ]
    return pd.DataFrame(rows)


def speed_table(results: Results, case: str) -> Table | None:
    """Return a row for each encoding of a case: its speed at each length, then its memory; None if none was timed."""
    if not (timed := results.timed(case)):
        return None
    rows, every, baseline = [], results.lengths(case), results.comparison.baseline
    lengths = every if len(every) <= MAX_LENGTHS else _ends(every, results.training_length(case))
    reference = timed[baseline].reading if baseline in timed else {}
    for encoding in results.encodings(case):
        reading = timed[encoding].reading if encoding in timed else {}
        row: dict[str, object] = {"encoding": encoding}
        for length in lengths:
            speed, of_baseline = (values.get(f"tokens_per_second@{length}") for values in (reading, reference))
            times = "" if speed is None or of_baseline is None else f"{speed / of_baseline:.2f} "
            row[f"speed at {length:,}"] = None if speed is None else f"{times}({speed:,.0f})"
        memory = {f"MB at {length:,}": reading.get(f"memory_mb@{length}", math.nan) for length in lengths}
        rows.append({**row, **memory})
    machines = ", ".join(sorted({run.reading_machine for run in timed.values()}))
    caption = (
        f"Inference speed: tokens per second relative to {baseline}, and in brackets tokens per second; then "
        "its memory, weights included. The first seed's model processes the longest test item of each length, "
        f"without training, alternately on {machines}.  A dash: it has no positions there."
    )
    if len(lengths) < len(every):
        caption += " speeds.csv has the other lengths."
    name = f"speeds_{file_name(case)}"
    return Table(name, "Speed and memory at each length", caption, pd.DataFrame(rows))


def _ends(lengths: Sequence[int], trained: int) -> list[int]:
    """Return the shortest of sorted lengths, the longest of training, and the longest."""
    within = [length for length in lengths if length <= trained]
    return sorted({lengths[0], *within[-1:], lengths[-1]})
