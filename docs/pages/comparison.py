"""Pages that are made of comparisons: `python docs/make.py --comparison FOLDER FOLDER ...`.

A page has a section for each comparison, and begins with what to take and what has no evidence.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache, reduce
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from poslab.evaluation.scores.item_files import read_measured
from poslab.evaluation.scores.items import MeasuredRun
from poslab.experiments.cells import EXTRA_SCORES, SCORES
from poslab.experiments.statistics.difference import Difference, Scores, difference
from poslab.experiments.statistics.verdict import Word, verdicts
from poslab.report.sentences import listed
from poslab.report.text_tables import in_markdown, markdown

DOCS = Path(__file__).resolve().parents[1]

SLIDING = "sliding_bits_per_byte"
TRAIN_BYTES = 334_434
"""Bytes of training text of the Python reference after the split, as each run prints."""
MARGIN = 0.02
"""Difference in bits per byte that matters, as in the files of the comparisons."""
WORDS = {Word.EQUAL: "equivalent", Word.NOT_TOLD_APART: "inconclusive"}
"""Verdicts whose words are others on pages."""


def _nothing(folder: Path) -> Iterator[str]:
    """Yield no sentence."""
    yield from ()


@dataclass(frozen=True)
class Part:
    """A section of a page, of one comparison.

    Args:
        title: of the section.
        text: what was compared.
        no_evidence: what the comparison does not show.
        metrics: that have a table: of the cases that they decide, or of all where they decide none.
        pictures: patterns of the names of pictures.
        summary: yields the first sentences from the folder; none where runs that they need are missing.
        closing: yields what follows the tables from the folder.
    """

    title: str
    text: str
    no_evidence: str
    metrics: tuple[str, ...]
    pictures: tuple[str, ...]
    summary: Callable[[Path], Iterator[str]] = _nothing
    closing: Callable[[Path], Iterator[str]] = _nothing


@dataclass(frozen=True)
class ComparisonPage:
    """A page of docs/.

    Args:
        name: of its file, without its ending, and of the folder of its pictures.
        introduction: its title and first lines.
        parts: its sections, by the name of a comparison, which may have its preset behind it.
    """

    name: str
    introduction: str
    parts: Mapping[str, Part]

    def part_name(self, folder: Path) -> str | None:
        """Return the name of the section that a folder's comparison has on this page, or None."""
        return next((name for name in self.parts if folder.name.startswith(name)), None)

    def make(self, folders: Sequence[Path]) -> None:
        """Write the page from the folders of its comparisons, and copy the pictures that it shows."""
        parts = {folder: self.parts[str(self.part_name(folder))] for folder in folders}
        blocks = [self.introduction, "## What to take"]
        for folder, part in parts.items():
            sentences = " ".join(part.summary(folder))
            blocks += [f"**{part.title}.** {sentences}".strip(), answer(folder)]
        lacking = "\n".join(f"- {part.title}: {part.no_evidence}." for part in parts.values())
        blocks += ["## What has no evidence", lacking]
        for folder, part in parts.items():
            blocks += self._section(folder, part)
        (DOCS / f"{self.name}.md").write_text("\n\n".join(blocks) + "\n", encoding="utf-8")

    def _section(self, folder: Path, part: Part) -> Iterator[str]:
        results = results_of(folder)
        seeds = results["seed"].nunique()
        yield from (f"## {part.title}", part.text, "### Every case")
        luck = f"Means over {seeds} seeds." if seeds > 1 else "One seed: small differences may be luck."
        yield " ".join(filter(None, (luck, made(folder)["legend"], *_solved(folder))))
        yield from tables(folder, part.metrics)
        yield from part.closing(folder)
        yield from beside_the_paper(folder)
        yield "### Figures"
        yield from pictures(folder, part.pictures, Path("figures") / self.name / str(self.part_name(folder)))
        if (timed := folder / "speeds.md").exists():
            yield "### Speed and memory"
            yield re.sub("^# ", "#### ", timed.read_text(encoding="utf-8").strip(), flags=re.MULTILINE)
        yield from origin(folder)


def results_of(folder: Path) -> pd.DataFrame:
    """Return a row for each run and metric of a comparison."""
    return pd.read_csv(folder / "results.csv")


def has_results(folder: Path) -> bool:
    """Return True for the folder of a comparison with finished runs."""
    return (folder / "results.csv").is_file() and not results_of(folder).empty


def verdicts_of(folder: Path) -> pd.DataFrame:
    """Return a row for each case, metric and encoding of a comparison, with the `word` of its verdict."""
    return pd.read_csv(folder / "differences.csv")


def made(folder: Path) -> dict[str, Any]:
    """Return question, answer, legend, pictures, methods, differences from a paper and command of a comparison."""
    content: dict[str, Any] = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))
    return content


def _solved(folder: Path) -> Iterator[str]:
    """Yield which signs are of shares of seeds."""
    said = verdicts_of(folder)
    if not (of_shares := said[said["of"] == "solve rate"]).empty:
        groups = of_shares.groupby(["case", "metric"], sort=False)["encoding"]
        names = "; ".join(f"{listed(list(own))} on {case} {metric}" for (case, metric), own in groups)
        yield (
            "Where some seeds of an encoding solve a task and others do not, its sign is of the share of seeds that "
            f"do, not of the mean: {names}."
        )


def answer(folder: Path) -> str:
    """Return the answer of a comparison as a list of sentences."""
    return "\n".join(f"- {in_markdown(sentence)}" for sentence in made(folder)["answer"])


def means(folder: Path) -> pd.Series:
    """Return the means over seeds, by metric, case and encoding."""
    return results_of(folder).groupby(["metric", "case", "encoding"])["value"].mean()


@cache
def _measured(folder: Path, case: str, encoding: str) -> dict[int, MeasuredRun]:
    """Return the scores on test items that the runs of an encoding have left, by seed."""
    found = {}
    for run in (folder / "runs" / case / encoding).glob("seed_*"):
        parts = [read_measured(run / name) for name in (SCORES, EXTRA_SCORES) if (run / name).exists()]
        if parts:
            found[int(run.name.split("_")[1])] = reduce(MeasuredRun.joined, parts)
    return dict(sorted(found.items()))


def scores_of(folder: Path, case: str, encoding: str, metric: str, length: int) -> Scores | None:
    """Return the scores of an encoding's runs on test items; None where its runs have left none at this length."""
    runs = {seed: run.scores.get((metric, length)) for seed, run in _measured(folder, case, encoding).items()}
    if not runs or None in runs.values():
        return None
    return Scores.of_items(np.stack([run.linearised for run in runs.values() if run is not None]), list(runs))


def with_interval(found: Difference) -> str:
    """Return a difference in bits per byte with its 95% interval, for new seeds and new items."""
    mean, low, high = (f"{round(number, 3) + 0.0:.3f}" for number in (found.mean, *found.interval))
    return f"{mean} ({low} to {high})"


def own_window(folder: Path, case: str, baseline: str, lengths: tuple[int, int, int]) -> pd.DataFrame:
    """Return a row for each encoding in long sliding windows, next to the baseline in windows of its training length.

    Args:
        folder: of the comparison.
        case: whose runs are read.
        baseline: the encoding that stays at its training length.
        lengths: the training length, that of the verdict, and the longest one.

    Returns:
        The losses as columns of numbers; the `gain` of context beyond the training length and the `difference` to the
        baseline, each a `Difference`; the `verdict` after Holm over the rows. Without scores it is empty.
    """
    far = lengths[1]
    names = [path.name for path in sorted((folder / "runs" / case).glob("*"))]
    found = {name: [scores_of(folder, case, name, SLIDING, length) for length in lengths] for name in names}
    known = {name: [one for one in own if one is not None] for name, own in found.items() if None not in own}
    if baseline not in known:
        return pd.DataFrame()
    control = f"{baseline} in its own window"
    contestants = {control: known[baseline][0], **{name: own[1] for name, own in known.items()}}
    rows: dict[str, dict[Any, Any]] = {}
    for name, verdict in verdicts(contestants, control, "minimize", MARGIN).items():
        losses = dict(zip(lengths, (one.mean for one in known[name]), strict=True))
        gain = difference(known[name][0], known[name][2], "minimize")
        word = WORDS.get(verdict.word, str(verdict.word))
        rows[name] = {**losses, "gain": gain, "difference": verdict.difference, "verdict": word}
    return pd.DataFrame.from_dict(rows, orient="index").sort_values(far)


def own_window_table(frame: pd.DataFrame, baseline: str, lengths: tuple[int, int, int]) -> str:
    """Return the rows of `own_window` as a table."""
    trained, far, longest = lengths
    shown = frame.assign(**{str(length): frame[length].map("{:.3f}".format) for length in lengths})
    shown[["gain", "difference"]] = shown[["gain", "difference"]].map(with_interval)
    columns = {
        **{str(length): f"{length:,}" for length in lengths},
        "gain": f"gain from {trained:,} to {longest:,}",
        "difference": f"at {far:,} minus {baseline} at {trained:,}",
        "verdict": "verdict",
    }
    return markdown(shown[list(columns)].rename(columns=columns).rename_axis("encoding").reset_index())


def setting(folder: Path, case: str, encoding: str) -> str:
    """Return size, data and length of training of a case of bytes of the Python reference, from a run of it."""
    run = next((folder / "runs" / case / encoding).glob("seed_1_*"))
    config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    data, steps = config["dataset"], config["trainer"]["max_steps"]
    counts = next(iter(_measured(folder, case, encoding)[1].scores.values())).counts
    epochs = steps * data["batch_size"] * data["sequence_length"] / TRAIN_BYTES
    parameters = json.loads((run / "metrics.json").read_text(encoding="utf-8"))["parameters"]
    return (
        f"models of {parameters:,} parameters, {steps:,} steps or {epochs:.1f} epochs of {TRAIN_BYTES / 1000:,.0f} kB, "
        f"and a test of {counts.sum():,} bytes in {len(counts)} pieces"
    )


def by_case(folder: Path, metric: str) -> pd.DataFrame:
    """Return a row for each encoding and a column for each case that the metric decides, with the signs of verdicts.

    Where it decides none, the columns are all cases with results, and have means over seeds; dashes stand for none.

    Args:
        folder: of the comparison.
        metric: its tag, such as `bits_per_byte@1024`.
    """
    results, decided = results_of(folder), pd.read_csv(folder / "table.csv", dtype=str, index_col="encoding")
    cases = _in_order(results["case"])
    columns = {metric: cases[0]} if len(cases) == 1 else {f"{case} {metric}": case for case in cases}
    if columns := {column: case for column, case in columns.items() if column in decided}:
        return decided[list(columns)].rename(columns=columns).reset_index()
    rows = results[results["metric"] == metric]
    means = rows.groupby(["encoding", "case"], sort=False)["value"].mean().unstack()
    means = means.reindex(index=_in_order(rows["encoding"]), columns=_in_order(rows["case"]))
    decimals = 1 if metric.partition("@")[0].endswith(("accuracy", "ndcg")) else 3  # of shares, and of others
    shown = means.map(lambda mean: "–" if pd.isna(mean) else f"{mean:.{decimals}f}")
    return shown.rename_axis(columns=None).reset_index()


def tables(folder: Path, metrics: Sequence[str]) -> Iterator[str]:
    """Yield a heading and the table of cases for each metric that has results."""
    with_results = set(results_of(folder)["metric"])
    for metric in metrics:
        if metric in with_results:
            yield f"**{metric}**"
            yield markdown(by_case(folder, metric))


def beside_the_paper(folder: Path) -> Iterator[str]:
    """Yield a paper's claims with their outcome, its values, and how we differ, where a comparison repeats one."""
    for name, heading in {"claims": "### Claims of the paper", "published": "### Published values beside ours"}.items():
        if (file := folder / "figures" / f"{name}.csv").exists():
            yield heading
            yield markdown(pd.read_csv(file).map(_cell))
    if differences := made(folder)["differences"]:
        yield "### What we do otherwise"
        yield "\n".join(f"- {in_markdown(sentence)}" for sentence in differences)


def pictures(folder: Path, patterns: Sequence[str], place: Path) -> Iterator[str]:
    """Copy the pictures of these patterns, with results.csv and differences.csv, and yield each with its words.

    Args:
        folder: of the comparison.
        patterns: of the names of pictures; a caption that several share stands below the first.
        place: folder of the copies within docs/.
    """
    shutil.rmtree(DOCS / place, ignore_errors=True)
    (DOCS / place).mkdir(parents=True)
    for name in ("results.csv", "differences.csv"):
        shutil.copy(folder / name, DOCS / place / name)
    seen = set()
    for name, of in made(folder)["pictures"].items():
        if any(fnmatch(name, pattern) for pattern in patterns):
            shutil.copy(folder / "figures" / f"{name}.png", DOCS / place / f"{name}.png")
            caption = "" if of["caption"] in seen else f" {in_markdown(of['caption'])}"
            seen.add(of["caption"])
            title = in_markdown(of["title"])
            yield f"![{title}]({(place / name).as_posix()}.png)\n\n{title}.{caption}"


def origin(folder: Path) -> Iterator[str]:
    """Yield the checks, the methods and the command of a comparison."""
    content = made(folder)
    yield "### Checks"
    checks = pd.read_csv(folder / "figures" / "checks.csv").astype(str)
    yield markdown(checks.replace({"True": "yes", "False": "no"}))
    yield "### How it was made"
    yield str(content["methods"])
    yield f"```bash\n{content['command']}\n```"


def _cell(value: object) -> str:
    if pd.isna(value):
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _in_order(names: pd.Series) -> list[str]:
    return list(dict.fromkeys(names))
