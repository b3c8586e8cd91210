"""docs/encodings.md says what the code says; `python docs/encodings_page.py` makes it so."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from docs.encodings_page import CONF, DOCS, PAGE, page
from hydra import initialize_config_dir
from omegaconf import DictConfig

from tests.encoding_choices import composed

TEXT = PAGE.read_text(encoding="utf-8")
FILES = sorted(path for group in ("encoding", "positions", "temperature") for path in (CONF / group).glob("*.yaml"))


def section(path: Path) -> str:
    """What the page says of a choice, from its heading to the next."""
    title = path.stem if path.parent.name == "encoding" else f"{path.parent.name}={path.stem}"
    _, found, rest = TEXT.partition(f"\n## {title}\n")
    assert found, f"{title} has no section"
    return re.split(r"\n##? ", rest)[0]


def keys(node: DictConfig, prefix: str) -> Iterator[str]:
    """Yield the dotted keys of a choice that a user can set."""
    for key, value in node.items_ex(resolve=False):
        if key not in ("_target_", "_partial_"):
            yield f"{prefix}.{key}"
            if isinstance(value, DictConfig):
                yield from keys(value, f"{prefix}.{key}")


def test_the_page_is_what_the_code_says_now():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        assert page() == TEXT, "docs/encodings.md is out of date: python docs/encodings_page.py"


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}={path.stem}")
def test_every_choice_has_a_section_with_its_picture_and_hyperparameters(path):
    text = section(path)
    (picture,) = re.findall(r"!\[.*\]\((.*)\)", text)
    assert (DOCS / picture).stat().st_size < 60_000
    for key in keys(composed(f"{path.parent.name}={path.stem}")[path.parent.name], path.parent.name):
        assert f"| `{key}` |" in text


@pytest.mark.parametrize("path", [path for path in FILES if path.parent.name == "encoding"], ids=lambda path: path.stem)
def test_every_encoding_has_a_row_that_leads_to_its_section(path):
    assert f"\n| [{path.stem}](#{path.stem}) | " in TEXT


def test_no_picture_is_left_of_a_choice_that_is_gone():
    pictures = [
        path for group in ("encodings", "positions", "temperature") for path in (DOCS / "figures" / group).iterdir()
    ]
    assert len(pictures) == len(FILES)
