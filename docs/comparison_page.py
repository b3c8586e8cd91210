"""Pages that are made of comparisons: `python docs/make.py --comparison FOLDER FOLDER ...`.

A page has a section for each comparison, and begins with what to take and what has no evidence.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from poslab.report.text_tables import in_markdown, markdown

DOCS = Path(__file__).resolve().parent


def _nothing(results: pd.DataFrame) -> Iterator[str]:
    """Yield no sentence."""
    yield from ()


@dataclass(frozen=True)
class Part:
    """A section of a page, of one comparison.

    Args:
        title: of the section.
        text: what was compared.
        no_evidence: what the comparison does not show.
        metrics: that have a table of all cases.
        pictures: patterns of the names of pictures.
        summary: yields the first sentences from results.csv; none where runs that they need are missing.
    """

    title: str
    text: str
    no_evidence: str
    metrics: tuple[str, ...]
    pictures: tuple[str, ...]
    summary: Callable[[pd.DataFrame], Iterator[str]] = _nothing


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
            sentences = " ".join(part.summary(_results(folder)))
            blocks += [f"**{part.title}.** {sentences}".strip(), answer(folder)]
        lacking = "\n".join(f"- {part.title}: {part.no_evidence}." for part in parts.values())
        blocks += ["## What has no evidence", lacking]
        for folder, part in parts.items():
            blocks += self._section(folder, part)
        (DOCS / f"{self.name}.md").write_text("\n\n".join(blocks) + "\n", encoding="utf-8")

    def _section(self, folder: Path, part: Part) -> Iterator[str]:
        results = _results(folder)
        seeds = results["seed"].nunique()
        yield from (f"## {part.title}", part.text, "### Every case")
        yield f"Means over {seeds} seeds." if seeds > 1 else "One seed: small differences may be luck."
        yield from tables(results, part.metrics)
        yield from beside_the_paper(folder)
        yield "### Pictures"
        yield from pictures(folder, part.pictures, Path("figures") / self.name / str(self.part_name(folder)))
        yield from origin(folder)


def _results(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "results.csv")


def made(folder: Path) -> dict[str, Any]:
    """Return question, answer, methods and command of a comparison."""
    content: dict[str, Any] = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))
    return content


def answer(folder: Path) -> str:
    """Return the answer of a comparison as a list of sentences."""
    return "\n".join(f"- {in_markdown(sentence)}" for sentence in made(folder)["answer"])


def means(results: pd.DataFrame) -> pd.Series:
    """Return the means over seeds of results.csv, by metric, case and encoding."""
    return results.groupby(["metric", "case", "encoding"])["value"].mean()


def by_case(results: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return the mean over seeds of a metric, a row for each encoding and a column for each case; dashes for none.

    Args:
        results: results.csv of a comparison.
        metric: its tag, such as `bits_per_byte@1024`.
    """
    rows = results[results["metric"] == metric]
    means = rows.groupby(["encoding", "case"], sort=False)["value"].mean().unstack()
    means = means.reindex(index=_in_order(rows["encoding"]), columns=_in_order(rows["case"]))
    decimals = 1 if metric.partition("@")[0].endswith(("accuracy", "ndcg")) else 3  # of shares, and of others
    shown = means.map(lambda mean: "–" if pd.isna(mean) else f"{mean:.{decimals}f}")
    return shown.rename_axis(columns=None).reset_index()


def tables(results: pd.DataFrame, metrics: Sequence[str]) -> Iterator[str]:
    """Yield a heading and the table of all cases for each metric that has results."""
    for metric in metrics:
        if metric not in set(results["metric"]):
            continue
        yield f"**{metric}**"
        yield markdown(by_case(results, metric))


def beside_the_paper(folder: Path) -> Iterator[str]:
    """Yield the claims of a paper with their outcome, and its values, where a comparison repeats one."""
    for name, heading in {"claims": "### Claims of the paper", "published": "### Published values beside ours"}.items():
        if (file := folder / "figures" / f"{name}.csv").exists():
            yield heading
            yield markdown(pd.read_csv(file).map(_cell))


def pictures(folder: Path, patterns: Sequence[str], place: Path) -> Iterator[str]:
    """Copy the pictures of these patterns, with results.csv and differences.csv, and yield a link to each.

    Args:
        folder: of the comparison.
        patterns: of the names of pictures.
        place: folder of the copies within docs/.
    """
    shutil.rmtree(DOCS / place, ignore_errors=True)
    (DOCS / place).mkdir(parents=True)
    for name in ("results.csv", "differences.csv"):
        shutil.copy(folder / name, DOCS / place / name)
    for file in (file for pattern in patterns for file in sorted((folder / "figures").glob(pattern))):
        shutil.copy(file, DOCS / place / file.name)
        title = file.stem.replace("_", " ")
        yield f"![{title}]({(place / file.name).as_posix()})\n\n{title.capitalize()}."


def origin(folder: Path) -> Iterator[str]:
    """Yield the checks, the methods and the command of a comparison."""
    content = made(folder)
    yield "### Checks"
    yield markdown(pd.read_csv(folder / "figures" / "checks.csv").astype(str))
    yield "### How it was made"
    yield str(content["methods"])
    yield f"```bash\n{content['command']}\n```"


def _cell(value: object) -> str:
    if pd.isna(value):
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _in_order(names: pd.Series) -> list[str]:
    return list(dict.fromkeys(names))
