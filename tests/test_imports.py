"""Imports between the rooms of the library go down only, and no modules import one another in a circle."""

import ast
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

LIBRARY = Path(__file__).resolve().parents[1] / "src" / "poslab"

ROOMS = (
    *("arguments", "io", "configuration", "compiled", "encodings", "attention", "models", "testing", "data"),
    *("pretrained", "generation", "tasks", "runs", "report", "evaluation", "training"),
    *("experiments", "explorer", "cli", "__main__"),
)
"""From the ground up: a package may import those before it. docs/architecture.md draws them."""


@cache
def imports() -> dict[str, set[str]]:
    """Return the modules that each module of the library names, within functions and for type checkers too."""
    files = {".".join(file.relative_to(LIBRARY.parent).with_suffix("").parts): file for file in LIBRARY.rglob("*.py")}
    modules = {name.removesuffix(".__init__"): ast.parse(file.read_text()) for name, file in files.items()}
    return {
        name: {
            # `from poslab.io import files` names the module, `from poslab.io.files import read_json` what is in it
            f"{node.module}.{alias.name}" if f"{node.module}.{alias.name}" in modules else node.module
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] == "poslab"
            for alias in node.names
        }
        for name, tree in modules.items()
    }


def room(module: str) -> str:
    return module.split(".")[1]


def test_encodings_and_attention_need_nothing_but_torch():
    """So `pip install --no-deps poslab` is enough for them beside torch."""
    files = [
        LIBRARY / "arguments.py",
        *(file for name in ("compiled", "encodings", "attention") for file in LIBRARY.glob(f"{name}/**/*.py")),
    ]
    imported = set()
    for node in (node for file in files for node in ast.walk(ast.parse(file.read_text()))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        imported.update(
            ".".join(name.split(".")[:2]) if name.startswith("poslab") else name.split(".")[0] for name in names
        )
    own = {"poslab.arguments", "poslab.compiled", "poslab.encodings", "poslab.attention"}
    assert imported - {*sys.stdlib_module_names} <= {"torch", "numpy"} | own


@pytest.mark.slow
def test_modules_import_their_own_room_and_those_below():
    above = {
        f"{module} imports {target}"
        for module, targets in imports().items()
        for target in targets
        if "." in module and ROOMS.index(room(target)) > ROOMS.index(room(module))
    }
    assert not above


def test_no_modules_import_one_another_in_a_circle():
    try:
        TopologicalSorter(imports()).prepare()
    except CycleError as error:
        pytest.fail(f"these import one another: {' <- '.join(error.args[1])}")
