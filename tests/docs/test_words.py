"""Pages, comments, docstrings and messages use the field's words: each habit here is gone, and stays away."""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.conftest import ROOT

HABITS = {
    "inconclusive, distinguish": r"\b(?:told|tells?) (?:\w+ ){0,4}apart\b|may be as good|probably have been",
    "limitations": r"nothing is claimed|has no evidence",
    "only": r"\balone\b",
    "training length": r"\btrained lengths?\b(?!\*)|\blengths? of training\b|\blength that it was trained",
    "replace": r"\bin (?:the )?place of\b|\btakes? the(?:ir)? place\b|(?<!poslab\.)\bexchang(?:es?|ed|ing)\b",
    "own X": r"\bof (?:its|their|your|one's|our) own\b(?= (?:and|or|is|are|that|which|in|with|for|to)\b|[.,;:)]|$)",
    "start": r"\bbeg[iau]n(?:s|ning)? with\b(?! _)",
    "next to, in addition to": r"\bbeside\b",
    "again, fix, someone": r"\banew\b|\bdearest\b|\bmend(?:s|ed)?\b|\bheed(?:s|ed)?\b|\bsomebody\b|\bwhoever\b",
    "Poslab's": r"\b(?:of|with|to|beside) ours\b|\bours (?:is|are|has|have)\b",
    "image, plot": r"\bpictures?\b",
    "rotate": r"\b(?:channels|pairs|heads|queries|keys|layers) turn\b|\bturns? (?:queries|keys|all|by|each pair)\b",
    "raises an error, is not supported": r"\b(?:is|are) refused\b|(?<!it )\brefuses\b",
    "95%": r"\d[ \u00a0]%",
    "be, contain": r"\bstands?\b|\bstood\b|\bmust hold\b|\bthat holds (?:the|a)\b",
    "support, work with": r"\bserves\b(?!:)",
    "metrics, numbers": r"\b(?:all|the|these|test|validation) figures\b|\bfigures (?:of|that|are|show|say)\b",
    "the noun again": r"\b(?:that|those) of\b",
}
"""What to avoid, by what to write."""

IN_DOCSTRINGS = {
    **{better: pattern for better, pattern in HABITS.items() if better != "metrics, numbers"},
    "replace": r"\bin (?:the )?place of\b|\btakes? the(?:ir)? place\b|\bexchang(?:ed|ing)\b",
    "be, contain": rf"{HABITS['be, contain']}|\bholds\b(?! (?:out|it)\b)",
}
"""The same in docstrings and comments of the code, where reports have figures and models an `Exchange`."""

BY_HAND = ("README.md", "README.zh-CN.md", "CHANGELOG.md", ".github/CONTRIBUTING.md")
BY_HAND += tuple(f"{folder}/README.md" for folder in ("sweeps", "comparisons", "results"))
PAGES = [*ROOT.glob("docs/*.md"), *ROOT.glob("docs/guides/*.md"), *ROOT.glob("docs/tutorials/*.md")]
YAML = [path for folder in ("conf", "comparisons", "sweeps") for path in ROOT.glob(f"{folder}/**/*.yaml")]
MODULES = [path for path in ROOT.glob("src/poslab/**/*.py") if "testing" not in path.parts]
CODE = re.compile(r"^ *```.*?^ *```|``?[^`]*``?|\]\([^)\s]*\)|https?://\S+|<!--.*?-->", re.MULTILINE | re.DOTALL)


def prose(path: Path) -> str:
    """Return the prose of a page, the comments of a YAML file, or the strings of a module that are no docstrings.

    Only the first section of CHANGELOG.md counts, since a released section does not change.
    """
    text = path.read_text(encoding="utf-8")
    if path.name == "CHANGELOG.md":
        text = text.split("\n## ")[1]
    elif path.suffix == ".yaml":
        text = "\n".join(re.findall(r"(?:^|\s)#\s(.*)$", text, re.MULTILINE))
    elif path.suffix == ".py":
        tree = ast.parse(text)
        docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        constants = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in docstrings]
        text = ". ".join(node.value for node in constants if isinstance(node.value, str) and " " in node.value)
    return re.sub(r"\s+", " ", CODE.sub("_", text))


def documentation(module: Path) -> str:
    """Return the docstrings and comments of a module."""
    text = module.read_text(encoding="utf-8")
    docstrings = re.findall(r'"""(.+?)"""', text, re.DOTALL)
    comments = [block.replace("# ", "") for block in re.findall(r"(?:^ *# .*\n)+|  # .*$", text, re.MULTILINE)]
    return re.sub(r"\s+", " ", CODE.sub("_", "\n\n".join((*docstrings, *comments))))


def habits(text: str, avoided: Mapping[str, str] = HABITS) -> Iterator[tuple[str, str]]:
    """Yield what to write and the words around each habit in prose."""
    for better, pattern in avoided.items():
        for match in re.finditer(pattern, text, re.IGNORECASE):
            yield better, text[max(match.start() - 40, 0) : match.end() + 40]


@pytest.mark.parametrize(
    "paths",
    [
        pytest.param([*PAGES, *(ROOT / name for name in BY_HAND)], id="pages"),
        pytest.param(YAML, id="comments of YAML files"),
        pytest.param([*ROOT.glob("docs/pages/*.py"), *MODULES], id="messages and reports"),
    ],
)
def test_a_habit_does_not_come_back(paths):
    assert len(paths) > 20
    assert {path.relative_to(ROOT).as_posix(): found for path in paths if (found := list(habits(prose(path))))} == {}


def test_a_habit_does_not_come_back_in_docstrings_and_comments():
    modules = [*ROOT.glob("src/**/*.py")]
    assert len(modules) > 200
    texts = {path.relative_to(ROOT).as_posix(): documentation(path) for path in modules}
    assert {name: seen for name, text in texts.items() if (seen := list(habits(text, IN_DOCSTRINGS)))} == {}


@pytest.mark.parametrize(
    ("text", "better"),
    [
        ("A small model without positions is right about 95 % of clips.", "95%"),
        ("At the trained length it is as good.", "training length"),
        ("Layers see the content alone.", "only"),
        ("The tokenizer is that of the model.", "the noun again"),
        ("Two encodings that are not told apart.", "inconclusive, distinguish"),
        ("Half of the channels turn.", "rotate"),
    ],
)
def test_a_habit_is_found(text, better):
    assert [found for found, _ in habits(text)] == [better]


def test_a_habit_is_found_in_docstrings_and_in_comments_of_several_lines(tmp_path: Path):
    (tmp_path / "layer.py").write_text(
        '"""A layer that holds\nweights."""\n\nx = 1  # those of y\n# The width is that\n# of x, which is\n# alone.\n'
    )
    seen = [better for better, _ in habits(documentation(tmp_path / "layer.py"), IN_DOCSTRINGS)]
    assert sorted(seen) == ["be, contain", "only", "the noun again", "the noun again"]


def test_code_and_right_uses_are_left():
    assert not list(habits(CODE.sub("_", "A pair completes a turn; `poslab.exchange(model)` works in place: 95%.")))
    assert not list(habits("A process holds it; a source holds out examples. Undo an exchange.", IN_DOCSTRINGS))
