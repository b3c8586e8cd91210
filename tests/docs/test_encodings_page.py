"""The pages encodings/ of the site, built from the code, show each encoding with code that makes it."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_type_hints

import pytest
from hydra import initialize_config_dir
from hydra.utils import get_object
from omegaconf import DictConfig
from pages.documented_choices import Encoding, choices
from pages.encodings import CONF, DOCS, pages

from poslab.encodings import PositionalEncoding, StackEncodings
from tests.encoding_choices import choice

PRETRAINED = ("pretrained",)
"""Choices without a page: the positions that a pretrained model has."""
GROUPS = ("encoding", "positions", "temperature")
FILES = sorted(path for group in GROUPS for path in (CONF / group).glob("*.yaml") if path.stem not in PRETRAINED)
ENCODINGS = [path.stem for path in FILES if path.parent.name == "encoding"]


@pytest.fixture(scope="module")
def sections(once: Callable[..., Path]) -> dict[str, str]:
    """The text of each section of the pages by its title."""

    def write(file: Path) -> None:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            file.write_text("\n".join(pages().values()), encoding="utf-8")

    text = once("encodings.md", write).read_text(encoding="utf-8")
    _, *parts = re.split(r"^##? (?=.+\n\n)", text, flags=re.M)
    return {title: body for title, _, body in (part.partition("\n") for part in parts)}


def title(path: Path) -> str:
    return path.stem if path.parent.name == "encoding" else f"{path.parent.name}={path.stem}"


def keys(node: DictConfig, prefix: str) -> Iterator[str]:
    """Yield the dotted keys of a choice that a user can set."""
    for key, value in node.items_ex(resolve=False):
        if key not in ("_target_", "_partial_"):
            yield f"{prefix}.{key}"
            if isinstance(value, DictConfig):
                yield from keys(value, f"{prefix}.{key}")


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=title)
def test_every_choice_has_a_section_with_its_plot_and_hyperparameters(path, sections):
    text = sections[title(path)]
    (plot,) = re.findall(r"!\[.*\]\(\.\./(.*)\)", text)
    assert (DOCS / plot).stat().st_size < 60_000
    for key in keys(choice(path.parent.name, path.stem), path.parent.name):
        assert f"| `{key}` |" in text
    if path.parent.name == "encoding":
        assert re.search(rf"^\| \[{path.stem}\]\(\w+\.md#{path.stem}\) \| ", sections["All encodings"], re.M)
        assert len(re.findall(r"^\*\*Use it\*\* when .*\.$", text, re.M)) == 1


@pytest.mark.parametrize("name", ENCODINGS)
def test_the_code_of_an_encoding_makes_what_the_choice_makes(name):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        (encoding,) = (encoding for encoding in choices("encoding", Encoding) if encoding.name == name)
        names: dict = {}
        exec(encoding.code, names)
    ours = names["encodings"].layer(0) if "encodings" in names else names["encoding"]
    assert isinstance(ours, PositionalEncoding)
    if "encodings" in names:
        assert isinstance(names["encodings"], StackEncodings)
    else:
        target = get_object(choice("encoding", name)._target_)
        assert type(ours) in (target, get_type_hints(target).get("return"))


def test_no_plot_is_left_of_a_choice_that_is_gone():
    for folder, group in (("encodings", "encoding"), ("positions", "positions"), ("temperature", "temperature")):
        plots = {path.stem for path in (DOCS / "figures" / folder).iterdir()}
        assert plots <= {path.stem for path in FILES if path.parent.name == group}
