"""docs/encodings.md and docs/encodings/ say nothing that the code does not say; a choice may be missing yet.

`python docs/make.py encodings` brings them up to date.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_type_hints

import pytest
from hydra import initialize_config_dir
from hydra.utils import get_object
from omegaconf import DictConfig
from pages.encodings import CONF, DOCS, FOLDER, PAGE, pages

from poslab.encodings import PositionalEncoding, StackEncodings
from tests.encoding_choices import choice

TEXTS = {path: path.read_text(encoding="utf-8") for path in (PAGE, *sorted(FOLDER.iterdir()))}
GROUPS = ("encoding", "positions", "temperature")
FILES = sorted(path for group in GROUPS for path in (CONF / group).glob("*.yaml") if path.stem != "own")
OTHERS = re.compile(r"See also|\| \[[^]]+\]\(encodings/\w+\.md\) \|")


def sections(text: str) -> dict[str, list[str]]:
    """The lines of each section by its title, but for those that list other choices: a new one may not be there yet."""
    _, *parts = re.split(r"^##? (?=.+\n\n)", text, flags=re.M)
    split = (part.partition("\n") for part in parts)
    return {title: [line for line in body.splitlines() if not OTHERS.match(line)] for title, _, body in split}


SECTIONS = {name: "\n".join(lines) for text in TEXTS.values() for name, lines in sections(text).items()}
CODE = {name: block[1] for name, text in SECTIONS.items() if (block := re.search(r"```python\n(.*?)\n```", text, re.S))}
"""Code of each encoding, by its name."""


@pytest.fixture(scope="module")
def made() -> dict[Path, str]:
    """The pages as their generator makes them now."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return pages()


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
def test_what_the_pages_say_is_what_the_code_says_now(made):
    for path, text in TEXTS.items():
        now = sections(made[path])
        for name, lines in sections(text).items():
            gone = set(lines) - set(now.get(name, []))
            assert not gone, f"{path.name} is out of date on {name}: python docs/make.py encodings"


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=title)
def test_every_choice_is_given_a_section_with_its_picture_and_hyperparameters(path, made):
    (text,) = ("\n".join(found[title(path)]) for found in map(sections, made.values()) if title(path) in found)
    assert len(re.findall(r"!\[.*\]\(.*\)", text)) == 1
    for key in keys(choice(path.parent.name, path.stem), path.parent.name):
        assert f"| `{key}` |" in text
    if path.parent.name == "encoding":
        assert re.search(rf"^\| \[{path.stem}\]\(encodings/\w+\.md#{path.stem}\) \| ", made[PAGE], re.M)


@pytest.mark.parametrize("name", CODE)
def test_the_code_of_an_encoding_makes_what_the_choice_makes(name):
    names: dict = {}
    exec(CODE[name], names)
    ours = names["encodings"].layer(0) if "encodings" in names else names["encoding"]
    assert isinstance(ours, PositionalEncoding)
    if "encodings" in names:
        assert isinstance(names["encodings"], StackEncodings)
    else:
        target = get_object(choice("encoding", name)._target_)
        assert type(ours) in (target, get_type_hints(target).get("return"))


@pytest.mark.parametrize("name", CODE)
def test_every_encoding_says_when_to_use_it(name):
    assert len(re.findall(r"^\*\*Use it\*\* when .*\.$", SECTIONS[name], re.M)) == 1


def test_every_picture_of_the_pages_is_there_and_small():
    pictures = [
        path.parent / picture for path, text in TEXTS.items() for picture in re.findall(r"!\[.*\]\((.*)\)", text)
    ]
    assert pictures
    for picture in pictures:
        assert picture.stat().st_size < 60_000


def test_no_picture_is_left_of_a_choice_that_is_gone():
    for folder, group in (("encodings", "encoding"), ("positions", "positions"), ("temperature", "temperature")):
        pictures = {path.stem for path in (DOCS / "figures" / folder).iterdir()}
        assert pictures <= {path.stem for path in FILES if path.parent.name == group}
