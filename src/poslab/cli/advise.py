"""Look up what is known of a case: `python -m src.advise size=300M context=8192 data=code`."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Annotated, Any

from rich.padding import Padding
from rich.table import Table

from poslab.arguments import Count, Range, nearest, nearest_or_list, with_checked_arguments
from poslab.cli.help import WIDTH, family, table, usage
from poslab.cli.hydra_command import HELP, own_keys_and_overrides, quick_imports, without_hydra
from poslab.configuration.command_line import CONF, FIGURES, RESULTS, choices, poslab_command
from poslab.io.files import read_json, read_text, read_yaml
from poslab.io.terminal import HarmlessConsole
from poslab.report.text import amount

if TYPE_CHECKING:
    from poslab.experiments.results import Results

OWN_KEYS = {
    "size": "parameters of your model: 300M, 1.5B, 120k (required)",
    "context": "tokens that it shall read (required)",
    "data": "text (default), code, prose, chinese, dialogue, documentation, or a family of datasets such as classes",
    "trained": "tokens of its training windows, where these are shorter than the context",
    "head_dim": "channels of a head, for the bound on the base of RoPE (default: 128)",
    "results": "folder of tables of studies (default: results/ of a checkout)",
}
TEXTS = ("text", "code", "prose", "chinese", "dialogue", "documentation")
"""Kinds of running text; `text` is any of them."""
UNITS = {"T": 1e12, "B": 1e9, "M": 1e6, "k": 1e3}
NEAR = 10  # largest factor between two sizes of which one says something of the other
MAX_STUDIES, MAX_PRESETS, MAX_BOUND = 3, 6, 131_072
"""Most studies and presets that are shown, and the longest context whose base bound is computed, in ten seconds."""
RELEASED = re.compile(r"^# Released: ([^,\n]+)(?:, ([\d.]+[MBT]) parameters)?(?:, context ([\d,]+))?$", re.MULTILINE)
"""Line of a preset with a released model, its parameters and its context, as far as its sources have them."""
PARTS = {"encodings": "a training step", "layers": "an attention layer, forward and backward"}
"""Parts of the benchmarks with times of an encoding over none; the first has fewer encodings at long lengths."""


@with_checked_arguments
@dataclass(frozen=True)
class Case:
    """A case: parameters of a model, its context, kind of data, training length and channels of a head."""

    size: float
    context: Count
    trained: Count
    data: str = "text"
    head_dim: Annotated[int, Range(2, 4096)] = 128


def main(arguments: list[str]) -> None:
    """Look up the case and print what is known."""
    if HELP & set(arguments):
        what = "looks up what is known of a case in tables, presets and benchmarks"
        lines = [*usage("advise", "size=300M context=8192 [KEY=VALUE ...]", what), "", "Keys (key=value):"]
        print("\n".join([*lines, *table(OWN_KEYS.items())]))
        return
    given, others = own_keys_and_overrides(arguments, "case", OWN_KEYS)
    if others:
        key = others[0].partition("=")[0]
        raise ValueError(f"unknown key {key!r}{nearest_or_list(key, OWN_KEYS, '--help lists the keys')}")
    if missing := next((key for key in ("size", "context") if key not in given), None):
        raise ValueError(f"{missing} must be given, as in {poslab_command('advise')} size=300M context=8192")
    results = Path(str(given.pop("results", RESULTS)))
    if results != RESULTS and not any(results.glob("*/comparison.yaml")):
        raise ValueError(f"results must be a folder with a folder of tables for each study, got {results}")
    kinds = [*TEXTS, *sorted({family("dataset", name) for name in choices("dataset")} - {"", *TEXTS})]
    if (data := given.get("data", "text")) not in kinds:
        raise ValueError(f"data must be one of {', '.join(kinds)}, got {data}{nearest(str(data), kinds)}")
    case = Case(**{"trained": given["context"], **given, "size": parameters_of(str(given["size"]))})
    console = HarmlessConsole()
    console.width = min(console.width, WIDTH)
    with quick_imports():
        for line in lines_of(case, results):
            console.print(line)


def parameters_of(text: str) -> float:
    """Return 300e6 of `300M`; ValueError for a text that is no number of parameters."""
    match = re.fullmatch(r"(\d{1,6}(?:\.\d{1,6})?)([kMBT])", text)
    if match is None or float(match[1]) * UNITS[match[2]] < 1:
        raise ValueError(f"size must be a number of parameters such as 300M, 1.5B or 120k, got {text}")
    return float(match[1]) * UNITS[match[2]]


def short(parameters: float) -> str:
    """Return `300M` of 300e6, rounded."""
    unit = next((unit for unit in UNITS if parameters >= 0.995 * UNITS[unit]), "k")
    number = parameters / UNITS[unit]
    return f"{number:.{0 if number >= 10 else 1}f}".removesuffix(".0") + unit


def factor(first: float, second: float) -> float:
    """Return the factor between two numbers above 0, at least 1."""
    return max(first / second, second / first)


def studies(folder: Path, case: Case) -> list[dict[str, Any]]:
    """Return the cases of studies, the nearest first: of the same data, of a like size, trained for more steps.

    The nearest of each study has its verdicts, if any is decided: encodings by word, by metric, metrics beyond
    training only if asked.
    """
    from poslab.experiments.collect import SPECIFICATION, read_results
    from poslab.experiments.metrics import in_words
    from poslab.experiments.report.scale import decisions_in_lines
    from poslab.experiments.statistics.verdict import Word

    def distance(row: Mapping[str, Any]) -> tuple[int, int, float]:
        are_texts = {row["data"], case.data} <= {*TEXTS}
        other = 0 if row["data"] == case.data or (are_texts and case.data == "text") else 1 if are_texts else 2
        return other, round(math.log10(factor(row["parameters"], case.size))), -row["steps"]

    tables = [read_results(path.parent) for path in sorted(folder.glob(f"*/{SPECIFICATION}"))]
    pairs = sorted(((row, of) for of in tables for row in _rows(of)), key=lambda pair: distance(pair[0]))
    shown: set[str] = set()
    for row, results in pairs:
        if distance(row)[0] == 2 or row["study"] in shown or len(shown) == MAX_STUDIES or row["seeds"] < 2:
            continue
        for criterion in results.comparison.criteria(row["case"]):
            if case.context > case.trained or row["lengths"][criterion.metric] <= row["training_length"]:
                words: dict[str, list[str]] = {}
                for name, verdict in results.verdicts(row["case"], criterion, row["baseline"]).items():
                    words.setdefault(str(verdict.word), []).append(name)
                mean = results.mean(row["case"], criterion, row["baseline"])
                row["verdicts"] |= {f"{in_words(criterion)} ({mean:.3g})": words} if words else {}
        if not any(words.keys() - {Word.INCONCLUSIVE} for words in row["verdicts"].values()):
            row["verdicts"] = {}  # undecided
        else:
            shown.add(row["study"])
            row["decisions"] = decisions_in_lines(results).to_dict("records")
    return [row for row, _ in pairs]


def _rows(results: Results) -> Iterator[dict[str, Any]]:
    from poslab.experiments.metrics import scored_lengths

    comparison = results.comparison
    for name, node in comparison.all_cases.items():
        runs = [run for run in results.runs_of_case(name) if 0 < run.metrics.get("parameters", 0) < 1e18]
        if not runs:
            continue
        first, trained = runs[0], runs[0].training_length
        chosen, tuned = {**comparison.train, **node.train}, node.tuned_as or name
        dataset = str(chosen.get("dataset", "python_docs"))
        kind = {"python_docs": "documentation"}.get(dataset, dataset.removeprefix("corpus_"))
        of_others = family("dataset", dataset) if dataset in choices("dataset") else dataset
        of_text = kind if first.task == "LanguageModelling" else first.task
        lengths = {c.metric: scored_lengths(c, first.scores, first.lengths, trained) for c in comparison.criteria(name)}
        yield {
            "study": Path(comparison.output).name,
            "case": name,
            "dataset": dataset,
            "data": of_text if kind in TEXTS else of_others,
            "parameters": sum(run.metrics["parameters"] for run in runs) / len(runs),
            "is_pretrained": chosen.get("model") == "pretrained",
            "training_length": trained,
            "lengths": {metric: max((n or trained for n in at), default=0) for metric, at in lengths.items()},
            "steps": first.metrics.get("steps", 0),
            "seeds": len({run.seed for run in runs}),
            "tuned": sorted({key for n in comparison.encodings_of(name) for key in comparison.space_of(tuned, n)}),
            "baseline": comparison.baseline,
            "verdicts": {},
        }


def presets(case: Case) -> list[dict[str, Any]]:
    """Return the presets of released models that are nearest, by size and then by context."""
    every = [preset_of(path) for path in sorted(CONF.glob("experiment/models/*.yaml"))]
    every.sort(key=lambda preset: factor(preset["context"] or math.inf, case.context))
    return sorted(every, key=lambda preset: factor(preset["parameters"] or math.inf, case.size))[:MAX_PRESETS]


def preset_of(path: Path) -> dict[str, Any]:
    """Return what the file of a preset says: layers in words; size and context are None where it names none."""
    node, released = read_yaml(path), RELEASED.search(read_text(path))
    chosen = {key: value for default in node["defaults"] for key, value in default.items()}
    model, size, context = released.groups() if released else (None, None, None)
    layers = node.get("model", {}).get("layers", {"kinds": [{}]})
    order = layers.get("order", list(range(len(layers["kinds"]))))
    common = {"encoding": {"_target_": chosen["override /encoding"], **node.get("encoding", {})}}
    kinds = {n: _in_words({**common, **layers["kinds"][n]}) for n in order}
    return {
        "preset": path.stem,
        "model": model,
        "family": str(chosen.get("override /model", "decoder")).replace("_", "-"),
        "layers": "; ".join(f"{order.count(n)} {kind}" if len(kinds) > 1 else kind for n, kind in kinds.items()),
        "parameters": size and parameters_of(size),
        "context": context and int(context.replace(",", "")),
    }


def _in_words(layer: Mapping[str, Any]) -> str:
    """Return a kind of layer in words: `window: rotary, base 10,000`."""
    encoding = layer["encoding"]
    name, scaling = encoding["_target_"].rpartition(".")[2], encoding.get("scaling", {})
    details = [
        {"NoPosition": "no position"}.get(name, name.lower()),
        f"base {encoding['base']:,.0f}" if "base" in encoding else "",
        f"{encoding['fraction']:.0%} of the channels" if "fraction" in encoding else "",
        f"{scaling['proportion']:.0%} of the frequencies" if "proportion" in scaling else "",
        "YaRN" if "yarn" in scaling.get("_target_", "") else "",
        f"scaled {scaling['factor']:g} times" if "factor" in scaling else "",
    ]
    sees = next((key for key in ("window", "chunk") if key in layer), "all")
    return f"{sees}: {', '.join(filter(None, details))}"


def costs(folder: Path, context: int) -> Iterator[dict[str, Any]]:
    """Yield the times under each encoding over none on each machine, of each part at the nearest length."""
    for path in sorted(folder.glob("*.json")):
        node = read_json(path)
        try:
            ours = [row for row in node.get("rows", []) if row.get("contestant") == "Poslab" and "time" in row]
            for part, measured in PARTS.items():
                if not (rows := [row for row in ours if row["part"] == part]):
                    continue
                length = min((row["length"] for row in rows), key=lambda length: factor(length, context))
                # bf16-mixed before 32-true
                precision = max(row["precision"] for row in rows if row["length"] == length)
                where = {"length": length, "precision": precision}
                times = {row["encoding"]: row["time"][1] for row in rows if where.items() <= row.items()}  # a median
                machine = node["machine"]["gpu"] or node["machine"]["processor"]
                yield {"file": path.name, "machine": machine, "measured": measured, **where, "times": times}
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise ValueError(f"{path} is damaged: it does not contain the timings of a machine") from error


def unknown(every: list[dict[str, Any]], case: Case) -> Iterator[str]:
    """Yield each part of a case that no table covers, in a few words."""
    from poslab.evaluation.retrieval import TASKS

    trained = [row for row in every if not row["is_pretrained"]]
    texts = [row for row in trained if row["data"] in (*TEXTS, case.data)]
    tests = [(row["data"], metric, n) for row in trained for metric, n in row["lengths"].items()]
    finding = [n for data, metric, n in tests if data == "recall" or metric.startswith(tuple(TASKS))]
    if not any(factor(row["parameters"], case.size) <= NEAR for row in trained):
        yield f"size: no table has models trained from scratch within a factor of {NEAR} of {short(case.size)}"
    if case.data not in ("text", *(row["data"] for row in every)):
        yield f"data: no table has {case.data}"
    if (longest := max((row["training_length"] for row in texts), default=0)) < case.trained:
        yield f"training at length {case.trained:,}: the longest in a table is {longest:,}"
    if (longest := max((n for data, _, n in tests if data in (*TEXTS, case.data)), default=0)) < case.context:
        yield f"a test at length {case.context:,}: the longest that decides is {longest:,}"
    if (longest := max(finding, default=0)) < case.context:
        yield f"retrieval from a context of {case.context:,}: the longest test of it has {longest:,}"


def command_of(case: Case) -> str:
    """Return the command that would measure a case, by the nearest comparison and size."""
    counted = {name: read_text(CONF / "size" / f"{name}.yaml") for name in choices("size")}
    sizes = {name: int(re.findall(r"([\d,]+) parameters", counted[name])[0].replace(",", "")) for name in counted}
    size = f"size={min(sizes, key=lambda name: factor(sizes[name], case.size))}"
    name, corpus = {"images": "resolution", "sounds": "spoken_language"}.get(case.data, "tasks"), f"corpus_{case.data}"
    data = [f"dataset={corpus}"] if corpus in choices("dataset") else ["dataset=text", "dataset.files=[FILES]"]
    of_text = ["comparison=text", *data, f"dataset.sequence_length={case.trained}"]
    return poslab_command("compare", *(of_text if case.data in TEXTS else [f"comparison={name}"]), size, "dry_run=true")


def lines_of(case: Case, folder: Path) -> Iterator[Any]:
    """Yield what is known as texts and a table of rich; `folder` has the tables of studies."""
    from poslab.evaluation.base_bound import smallest_base

    every = studies(folder, case)
    alike = [row for row in every if (row["data"] in TEXTS) == (case.data in TEXTS)]
    sizes = [row["parameters"] for row in alike if not row["is_pretrained"]]
    if sizes and (least := min(factor(size, case.size) for size in sizes)) > NEAR:
        times = f"{least:,.0f} times {'smaller' if max(sizes) < case.size else 'larger'}"
        yield f"No study here trains models within a factor of {NEAR} of {short(case.size)}: the nearest are {times}."
    if not every:
        yield "Measured here: the tables are in the repository of Poslab, not in its package; results=DIR reads them."
    for row in (shown := [row for row in every if row["verdicts"]]):
        ratio = factor(row["parameters"], case.size)
        yield (
            f"\nMeasured here, results/{row['study']}, {row['case']}: {short(row['parameters'])} parameters "
            f"({ratio:,.{1 if ratio < 10 else 0}f} times {'fewer' if row['parameters'] < case.size else 'more'}), "
            f"trained {'after pretraining' if row['is_pretrained'] else 'from scratch'} at length "
            f"{row['training_length']:,} for {row['steps']:,.0f} steps on {row['dataset']} ({row['data']}), "
            f"{amount(row['seeds'], 'seed')}, tuned: {', '.join(row['tuned']) or 'nothing'}. Next to "
            f"{row['baseline']} (mean):"
        )
        for metric, words in row["verdicts"].items():
            verdicts = "; ".join(f"{word}: {', '.join(names)}" for word, names in words.items())
            yield Padding(f"{metric}. {verdicts}", (0, 0, 0, 2), expand=False)
        for decided in row["decisions"]:
            pairs = ", ".join(f"{size}: {count}" for size, count in decided.items() if isinstance(count, str))
            yield Padding(f"decision accuracy (pairs in the order of the largest size). {pairs}", (0, 0, 0, 2))
    if shown and case.context > case.trained and case.data in TEXTS:
        yield "\nBeyond training a baseline without a window is a weak one: the fair one is RoPE in a sliding window."
    if shown:
        yield "\nresults/STUDY/comparison.yaml says what a name is."
    names = {row["study"] for row in shown}
    if others := dict.fromkeys(row["study"] for row in every if row["study"] not in names):
        yield f"\nUndecided, farther away, of other data or lengths, or with one seed: {', '.join(others)}."
    yield "\nReleased models, the nearest first; contexts are defaults of transformers, checkpoints may have more:"
    rows = Table("experiment=models/", "size", "context", "model and layers", box=None, pad_edge=False)
    for row in presets(case):
        size, context = row["parameters"] and short(row["parameters"]), row["context"] and f"{row['context']:,}"
        rows.add_row(row["preset"], size or "?", context or "?", f"{row['model']}, {row['family']}; {row['layers']}")
    yield rows
    base = smallest_base(case.head_dim, case.context) if case.context <= MAX_BOUND else None
    bound = "not known" if base is None else f"at least {base:,.0f}"
    yield f"\nBase of RoPE for {case.context:,} tokens and heads of {case.head_dim}: {bound} (Men et al. 2024)."
    for cost in costs(folder.parent / FIGURES.relative_to(RESULTS.parent), case.context):
        times_of = cost["times"]
        yield (
            f"\nTime of {cost['measured']}, over none, at length {cost['length']:,} in {cost['precision']} on "
            f"{cost['machine']} (benchmarks/figures/{cost['file']}): "
            f"{', '.join(f'{name} {times_of[name]:.2f}' for name in sorted(times_of, key=times_of.__getitem__))}."
        )
    if every:
        yield "\nNot known"
        yield from (Padding(f"{sentence}.", (0, 0, 0, 2), expand=False) for sentence in unknown(every, case))
    lines = wrap(command_of(case), WIDTH - 4, break_long_words=False, break_on_hyphens=False)
    yield "\nTo measure it:\n  {}".format(" \\\n  ".join(lines))


run = without_hydra(main)
