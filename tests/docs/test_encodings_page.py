"""docs/encodings.md says nothing that the code does not say; a choice that is not on it yet is no mistake.

`python docs/make.py encodings` brings it up to date.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from docs.encodings_page import CONF, DOCS, PAGE, page
from hydra import initialize_config_dir
from omegaconf import DictConfig

from tests.encoding_choices import composed

TEXT = PAGE.read_text(encoding="utf-8")
GROUPS = ("encoding", "positions", "temperature")
FILES = sorted(path for group in GROUPS for path in (CONF / group).glob("*.yaml") if path.stem != "own")


@pytest.fixture(scope="module")
def made() -> str:
    """The page as its generator makes it now."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return page()


def sections(text: str) -> dict[str, list[str]]:
    """The lines of each section by its title, but for those that point to other choices."""
    _, *parts = re.split(r"^##? (?=.+\n\n)", text, flags=re.M)
    split = (part.partition("\n") for part in parts)
    return {title: [line for line in body.splitlines() if not line.startswith("See also")] for title, _, body in split}


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
def test_what_the_page_says_is_what_the_code_says_now(made):
    now = sections(made)
    for name, lines in sections(TEXT).items():
        gone = set(lines) - set(now.get(name, []))
        assert not gone, f"docs/encodings.md is out of date on {name}: python docs/make.py encodings"


@pytest.mark.parametrize("path", FILES, ids=title)
def test_every_choice_is_given_a_section_with_its_picture_and_hyperparameters(path, made):
    text = "\n".join(sections(made)[title(path)])
    assert len(re.findall(r"!\[.*\]\(.*\)", text)) == 1
    for key in keys(composed(f"{path.parent.name}={path.stem}")[path.parent.name], path.parent.name):
        assert f"| `{key}` |" in text
    if path.parent.name == "encoding":
        assert f"\n| [{path.stem}](#{path.stem}) | " in made


def test_every_picture_of_the_page_is_there_and_small():
    pictures = re.findall(r"!\[.*\]\((.*)\)", TEXT)
    assert pictures
    for picture in pictures:
        assert (DOCS / picture).stat().st_size < 60_000


def test_no_picture_is_left_of_a_choice_that_is_gone():
    for folder, group in (("encodings", "encoding"), ("positions", "positions"), ("temperature", "temperature")):
        pictures = {path.stem for path in (DOCS / "figures" / folder).iterdir()}
        assert pictures <= {path.stem for path in FILES if path.parent.name == group}
