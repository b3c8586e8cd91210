"""Comparison files with their sizes, and the keys of the command line that override them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from poslab.arguments import nearest
from poslab.configuration.command_line import key_of
from poslab.configuration.spec_files import SpecFiles
from poslab.experiments.comparison import Comparison, check_names
from poslab.experiments.composition import with_rates_of_typed_model
from poslab.experiments.mistakes import checked

KEYS = (
    *("question", "baseline", "encodings", "variants", "cases", "seeds", "metrics", "gate", "tuning", "budget"),
    *("pairing", "cases_are", "costs", "train", "paper", "published", "claims", "differences", "predictions"),
    *("sizes", "tokens_per_parameter"),
)
"""Keys of a comparison file other than `presets`."""


def comparison_files(folder: Path) -> SpecFiles:
    return SpecFiles("comparison", folder, KEYS)


def read_comparison(folder: Path, given: Mapping[str, Any], overrides: Sequence[str]) -> Comparison:
    """Return the comparison of a command line, with its own keys and its choices of every run.

    ValueError is raised for an unknown comparison, preset or key, or an invalid value.
    """
    of_file = {key: value for key, value in given.items() if key not in ("encodings", "sizes")}
    stem, node = comparison_files(folder).chosen(of_file, Comparison, overrides)
    whole = dict(node)
    node |= _selected(node, given["encodings"]) if "encodings" in given else {}
    node = with_rates_of_typed_model({**node, "cases": _cases_of_typed_model(node, overrides)}, overrides)
    try:
        selected = with_cases_of_sizes(node, given.get("sizes"))
        if isinstance(node.get("predictions"), list):
            kept = {**_by_name(node), **selected["cases"]}
            left_out = [name for name in {**_by_name(whole), **with_cases_of_sizes(node)["cases"]} if name not in kept]
            selected["predictions"] = [p for p in node["predictions"] if not _is_of(p, left_out)]
        return checked(Comparison(**selected))
    except ValueError as error:
        raise ValueError(f"{error} (comparison={stem})") from error


def _selected(node: Mapping[str, Any], names: Any) -> dict[str, Any]:
    """Return the encodings and variants of the typed names, and the tuning and the lists of cases without others.

    A name of the file is its encoding or variant, any other one an encoding of `conf/encoding`. A case whose own list
    has fewer than two of them has nothing to compare, and is left out.
    """
    if not isinstance(names, list):
        return {"encodings": names}  # a mistake
    variants, tuning, of_file = node.get("variants"), node.get("tuning"), _by_name(node)
    variants = variants if isinstance(variants, Mapping) else {}
    selected: dict[str, Any] = {
        "encodings": [of_file.get(str(name), name) for name in names if str(name) not in variants],
        "variants": {name: choices for name, choices in variants.items() if name in names},
    }
    if isinstance(tuning, Mapping) and isinstance(tuning.get("of"), Mapping):
        left_out = [name for name in of_file if name not in names]
        selected["tuning"] = {**tuning, "of": {name: of for name, of in tuning["of"].items() if name not in left_out}}
    if isinstance(node.get("cases"), Mapping):
        cases = {name: _among(case, names) for name, case in node["cases"].items()}
        selected["cases"] = {name: case for name, case in cases.items() if case is not None} or node["cases"]
    return selected


def _among(case: Any, names: Sequence[Any]) -> Any:
    """Return a case with only its encodings that are typed; None if these are fewer than two."""
    if not isinstance(case, Mapping) or not isinstance(case.get("encodings"), list):
        return case
    encodings = [name for name in case["encodings"] if name in names]
    return {**case, "encodings": encodings} if len(encodings) > 1 else None


def _by_name(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return the encodings and variants of a file by name."""
    entries, variants = node.get("encodings"), node.get("variants")
    return {
        str(entry.get("name") if isinstance(entry, Mapping) else entry): entry
        for entry in (entries if isinstance(entries, list) else ())
    } | dict(variants if isinstance(variants, Mapping) else {})


def _is_of(prediction: Any, left_out: Sequence[str]) -> bool:
    """Return whether a prediction is of a case or an encoding that the command line leaves out."""
    is_node = isinstance(prediction, Mapping)
    return is_node and any(prediction.get(key) in left_out for key in ("case", "of", "minus"))


def _cases_of_typed_model(node: Mapping[str, Any], overrides: Sequence[str]) -> Any:
    """Return the cases of a comparison: with only a typed path, the cases of pretrained models, if there are any."""
    cases, typed = node.get("cases"), set(map(key_of, overrides))
    if "model.path" not in typed or "model" in typed or not isinstance(cases, Mapping):
        return cases
    choices = {name: {**(node.get("train") or {}), **((case or {}).get("train") or {})} for name, case in cases.items()}
    pretrained = {name: cases[name] for name in cases if choices[name].get("model") == "pretrained"}
    return pretrained or cases


RATE = "optimizer.lr"

OF_A_SIZE = ("seeds", "encodings", "tokens_per_parameter")  # keys of a size other than choices of its runs
TUNED = 2  # sizes that are tuned, the smallest ones, unless `tuning.sizes` names others


def with_cases_of_sizes(node: Mapping[str, Any], typed: Any = None) -> dict[str, Any]:
    """Return the keys of a comparison file without `sizes`, in which each case at each size is a case.

    `typed` are the names of the sizes to which the command line restricts it; None is all.
    """
    rest = {key: value for key, value in node.items() if key not in ("sizes", "tokens_per_parameter")}
    sizes, ratio, tuning, cases = (node.get(key) for key in ("sizes", "tokens_per_parameter", "tuning", "cases"))
    tuned = tuning.get("sizes") if isinstance(tuning, Mapping) else None
    if sizes is None:
        for key, value in {"tokens_per_parameter": ratio, "tuning.sizes": tuned, "sizes": typed}.items():
            if value is not None:
                raise ValueError(f"{key} must have the sizes of the file, as in sizes: {{1M: {{model.d_model: 160}}}}")
        return rest
    if not isinstance(sizes, Mapping) or not sizes:
        raise ValueError(f"sizes must be choices by name, as in {{1M: {{model.d_model: 160}}}}, got {sizes!r}")
    check_names("sizes", sizes)
    first, *_ = sizes
    tuned = list(sizes)[:TUNED] if tuned is None else _names("tuning.sizes", tuned, sizes)
    sizes = sizes if typed is None else {name: sizes[name] for name in _names("sizes", typed, sizes)}
    if tuning is not None and first not in {*tuned}.intersection(sizes):
        key = "tuning.sizes" if first in sizes else "sizes"
        raise ValueError(f"{key} must contain {first}, the first size of the file, whose tuned values others may take")
    expanded: dict[str, Any] = {}
    cases = cases if isinstance(cases, Mapping) else {}
    for case, of_case in cases.items():
        if not isinstance(of_case, Mapping) or not isinstance(of_case.get("train"), Mapping):
            raise ValueError(f"cases.{case} must contain its choices by key under train, got {of_case!r}")
        for name, at_size in _at_sizes(node, case, sizes, tuned if isinstance(tuning, Mapping) else ()):
            if name in {*cases, *expanded}:
                raise ValueError(f"cases: {name} is the name of {case} at a size, and of another case")
            expanded[name] = at_size
    return {**rest, "cases": expanded}


def _at_sizes(
    node: Mapping[str, Any], case: str, sizes: Mapping[str, Any], tuned: Collection[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name and the keys of a case at each size and ratio; the first ratio of a file is in no name."""
    of_case, (usual, *_), source = node["cases"][case], _ratios("tokens_per_parameter", node), None
    for size, choices in sizes.items():
        if not isinstance(choices, Mapping) or not all(isinstance(key, str) for key in choices):
            raise ValueError(f"sizes.{size} must be choices by key, as in {{model.d_model: 160}}, got {choices!r}")
        train = {**of_case["train"], **{key: value for key, value in choices.items() if key not in OF_A_SIZE}}
        ratios = _ratios(f"sizes.{size}.tokens_per_parameter", choices)
        for ratio in _ratios("tokens_per_parameter", node) if ratios == [None] else ratios:
            suffix = f"-{size}" if ratio == usual else f"-{size}-{ratio:g}"
            if ratio is not None and node.get("budget") is not None:
                raise ValueError("budget must not be there with tokens_per_parameter, from which steps follow")
            if ratio is not None and "trainer.max_steps" in map(key_of, [*(node.get("train") or {}), *train]):
                raise ValueError(f"{case}{suffix} must not set trainer.max_steps: tokens_per_parameter gives its steps")
            is_tuned = size in tuned
            tuned = [name for name in tuned if name != size]  # only at its first ratio
            source = f"{case}{suffix}" if is_tuned else source
            yield (
                f"{case}{suffix}",
                {
                    **of_case,
                    **{key: choices[key] for key in ("seeds", "encodings") if key in choices},
                    **({"after": f"{after}{suffix}"} if isinstance(after := of_case.get("after"), str) else {}),
                    **{"train": train, "size": size, "case": case, "tokens_per_parameter": ratio},
                    "tuned_as": None if is_tuned else source,
                },
            )


def _names(key: str, names: Any, sizes: Mapping[Any, Any]) -> list[str]:
    """Return the names of some sizes, in their order."""
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{key} must be a list of names of the sizes, {', '.join(sizes)}, got {names!r}")
    if unknown := [name for name in names if name not in sizes]:
        raise ValueError(f"{key}: there is no size {unknown[0]}{nearest(str(unknown[0]), sizes)}")
    return [name for name in sizes if name in names]


def _ratios(key: str, node: Mapping[str, Any]) -> list[float | None]:
    """Return the ratios of tokens to parameters of a file or a size; None is the ratio of the choices of a run."""
    value = node.get("tokens_per_parameter")
    ratios: list[Any] = value if isinstance(value, list) else [value]
    known = ratios if value is not None else []
    if not ratios or not all(type(ratio) in (int, float) and 0 < ratio < 1e9 for ratio in known):
        raise ValueError(f"{key} must be a positive number, or a list of them, got {value!r}")
    if len(set(ratios)) < len(ratios):
        raise ValueError(f"{key} must be different numbers, got {value!r}")
    return ratios


def ladders(comparison: Comparison) -> dict[tuple[str, float | None], list[str]]:
    """Return the cases of sizes, in the order of these, by the case of the file and the tokens for each parameter."""
    by_ratio: dict[tuple[str, float | None], list[str]] = {}
    for name, node in comparison.all_cases.items():
        if node.case is not None:
            by_ratio.setdefault((node.case, node.tokens_per_parameter), []).append(name)
    return by_ratio


def carried(comparison: Comparison, point: Mapping[str, Any], source: str, case: str) -> dict[str, Any]:
    """Return the tuned values of a case as they are at another size: a rate goes with a power of the width.

    Source: Yang et al., "Tensor Programs V" (2022), table 3: with Adam, 1 / width for the matrices of hidden layers.
    """
    tuning, rate = comparison.tuning_of(source), point.get(RATE)
    smaller, width = (comparison.all_cases[name].width for name in (source, case))
    if tuning is None or smaller is None or width is None or not isinstance(rate, int | float):
        return dict(point)
    return {**point, RATE: float(f"{rate * (smaller / width) ** tuning.rate_exponent:.6g}")}
