"""Prompts of benchmarks at any length for any tokenizer, made on this machine without a download and kept on its disk.

`items` makes them for each task of `TASKS`. An item names the parts of its prompt that determine the answer, so that a
model can be scored with them, without them, and with nothing else.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from poslab.data import retrieval_prompts
from poslab.data.cache import fingerprint, new_folder, verify_or_discard
from poslab.data.source import default_cache, require_choice
from poslab.data.tokenizers import FILE_NAME, Tokenizer
from poslab.evaluation.benchmarks import fitting, forms, ruler
from poslab.evaluation.benchmarks.fitting import Item
from poslab.io.files import files_of, patterns_of, read_json

GROUPS = {
    "ruler": tuple(task for task in ruler.TASKS if task not in (*ruler.NEED_TEXT, *ruler.NEED_ANSWERS)),
    "ruler_text": ruler.NEED_TEXT,
    "ruler_qa": ruler.NEED_ANSWERS,
    "retrieval": retrieval_prompts.TASKS,
}
"""Tasks of RULER that need no data, your own text, or your own questions, and tasks that need no package."""
TASKS = tuple(chain(*GROUPS.values()))
HAVE_DEPTH = (*ruler.HAVE_DEPTH, *retrieval_prompts.HAVE_DEPTH)
"""Tasks in which one needle is to be found, which a depth can place."""
MAX_BYTES = 2**30
"""Size of the largest file of items that is kept."""
LIBRARIES = ("lm-eval", "wonderwords", "numpy")
"""Packages that decide on the prompts of RULER."""


class PoslabTokenizer:
    """A tokenizer of Poslab, called as one of transformers."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer

    def __call__(self, text: str) -> SimpleNamespace:
        return SimpleNamespace(input_ids=self.tokenizer.encode(text))


def items(
    task: str,
    tokenizer: Callable[[str], Any] | Tokenizer,
    length: int,
    count: int,
    seed: int = 42,
    *,
    text: str | None = None,
    answers: str | Sequence[str] | None = None,
    depth: float | None = None,
) -> list[dict[str, Any]]:
    """Return the items of a task, which depend only on the arguments; they are made once and kept in Poslab's cache.

    An item has the keys of lm-evaluation-harness's items: `index`, `input`, `outputs`, `gen_prefix`, `length` (tokens
    of `input`, `gen_prefix`, special tokens and the longest answer together) and `max_length`. Its others are `form`,
    which says what of the prompt is the benchmark's and what is yours; `needles`, the parts of `input` that determine
    the answer, none where all of it does (cwe, fwe); `hay`, from and to which character of `input` there is hay;
    `distractors`, up to three wrong answers of the form of `outputs`; and `max_new_tokens`, of the longest answer.
    `custom_dataset` of a task of the harness can return `{"test": datasets.Dataset.from_list(items(...))}`.

    Args:
        task: one of `TASKS`.
        tokenizer: a tokenizer of transformers or of Poslab. Items of a tokenizer without a `backend_tokenizer` are not
            kept.
        length: most tokens of a prompt and its answer.
        count: number of items.
        seed: of all random draws, from 0 to 2^32 - 1; 42 in RULER.
        text: for hay. The tasks `ruler_text` need one, and BABILong takes one; others do without.
        answers: files of questions for the tasks `ruler_qa` of `GROUPS`, as `dataset=answers_file` has them.
        depth: of the needle in tasks of `HAVE_DEPTH`, from 0 (the beginning) to 1 (right before the question). None
            draws it.

    Raises:
        ValueError: for another argument, a missing file, or a short length, with the least length in the message.
        NotInstalledError: if a task of RULER is to be made without the extra `lm-eval`.
    """
    require_choice("task", task, TASKS)
    if length < 1 or count < 1 or not 0 <= seed < 2**32:
        limits = "length and count must be at least 1 and seed from 0 to 4294967295"
        raise ValueError(f"{limits}, got length={length}, count={count}, seed={seed}")
    if depth is not None and not 0 <= depth <= 1:
        raise ValueError(f"depth must be from 0 to 1, got {depth}")
    if depth is not None and task not in HAVE_DEPTH:
        raise ValueError(f"depth must be null for task={task}; it is for {', '.join(HAVE_DEPTH)}")
    tokenizer = called(tokenizer)
    text = text if task in (*ruler.NEED_TEXT, *retrieval_prompts.BABILONG) else None

    def make() -> list[dict[str, Any]]:
        if task in retrieval_prompts.TASKS:
            return forms.form_items(task, tokenizer, length, count, seed, text=text, depth=depth)
        return ruler.ruler_items(task, tokenizer, length, count, seed, text=text, answers=answers, depth=depth)

    serialised = _serialised(tokenizer)
    if serialised is None:
        return make()
    paths = files_of("answers", patterns_of("answers", answers)) if answers and task in ruler.NEED_ANSWERS else []
    code = [Path(str(module.__file__)) for module in (retrieval_prompts, fitting, forms, ruler)]
    settings = [task, serialised, length, count, seed, depth, text, list(map(_version, LIBRARIES))]
    sizes = [path.stat().st_size for path in paths]
    folder = default_cache() / f"prompts-{task}-{fingerprint((*code, *paths), settings, sizes)[:20]}"
    kept: list[dict[str, Any]] = []
    if verify_or_discard(folder, lambda folder: kept.extend(_read(folder, length, count))):
        return kept
    made = make()
    text = json.dumps({"items": made})
    if len(text) <= MAX_BYTES:
        try:
            with new_folder(folder) as temporary:
                (temporary / "items.json").write_text(text)
        except ValueError as error:
            print(f"warning: {error}: the prompts are not kept", file=sys.stderr)
    return made


def called(tokenizer: Callable[[str], Any] | Tokenizer) -> Callable[[str], Any]:
    """Return a tokenizer that is called as one of transformers."""
    return PoslabTokenizer(tokenizer) if isinstance(tokenizer, Tokenizer) else tokenizer


def without_needles(item: dict[str, Any]) -> str:
    """Return the prompt without its needles; all of it where it has none."""
    text: str = item["input"]
    for needle in map(re.escape, item["needles"]):
        text = re.sub(f" {needle}|{needle}\\s*", "", text, count=1)
    return text


def only_needles(item: dict[str, Any]) -> str:
    """Return the prompt with nothing but the needles for hay; all of it where it has none."""
    text: str = item["input"]
    if not item["needles"]:
        return text
    start, end = item["hay"]
    hay = text[start:end]
    needles = [
        match[0] for needle in item["needles"] for match in [re.search(re.escape(needle) + r"\s*", hay)] if match
    ]
    return text[:start] + "".join(needles).strip(", \n") + text[end:]


def _serialised(tokenizer: Callable[[str], Any]) -> str | None:
    """Return all that decides on the tokens of a tokenizer; None if it cannot be had."""
    if isinstance(tokenizer, PoslabTokenizer):
        with tempfile.TemporaryDirectory() as folder:
            tokenizer.tokenizer.save(folder)
            return (Path(folder) / FILE_NAME).read_text()
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return None if backend is None else str(backend.to_str())


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _read(folder: Path, length: int, count: int) -> list[dict[str, Any]]:
    """Read items that were kept; ValueError for others than these could be."""
    kept = read_json(folder / "items.json", MAX_BYTES).get("items")
    if not isinstance(kept, list) or len(kept) != count:
        raise ValueError(f"{folder} must contain {count} items")
    for index, item in enumerate(kept):
        if not isinstance(item, dict) or item.keys() != Item.__dataclass_fields__.keys():
            raise ValueError(f"{folder} is damaged: item {index} must have the keys of an item")
        known = Item(**item)
        if (known.index, known.max_length, len(known.hay), bool(known.outputs)) != (index, length, 2, True):
            raise ValueError(f"{folder} is damaged: item {index} is not one of these arguments")
    return kept
