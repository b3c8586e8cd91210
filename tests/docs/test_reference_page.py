"""docs/reference/ says what the commands, conf/ and the packages say; `python docs/make.py reference` makes it anew."""

import re
from pathlib import Path

import pytest
from pages.reference import DOCS, FOLDER, pages

from poslab.cli.choices import choices, groups

NEW_WITHOUT_THE_PAGE = ("encoding", "positions", "temperature", "dataset", "model")
"""Groups to which a choice may be added by its own files alone: it is on the page when that is next made."""


@pytest.fixture(scope="module")
def made() -> dict[Path, str]:
    return pages()


def sections(text: str) -> dict[str, str]:
    titles = re.split(r"^## (.+)$", text, flags=re.M)
    return dict(zip(titles[1::2], titles[2::2], strict=True))


@pytest.mark.parametrize("group", groups())
def test_the_page_of_a_group_is_what_its_files_say(group, made):
    path = FOLDER / "conf" / f"{group}.md"
    now, written = sections(made[path]), sections(path.read_text(encoding="utf-8"))
    if group not in NEW_WITHOUT_THE_PAGE:
        assert written.keys() == now.keys()
    for name, text in written.items():
        assert text.strip() == now[name].strip(), f"docs/reference is out of date on {group}={name}"


def test_every_choice_has_a_section_with_all_its_keys(made):
    for group in groups():
        assert set(choices(group)) <= sections(made[FOLDER / "conf" / f"{group}.md"]).keys()
    yarn = sections(made[FOLDER / "conf" / "encoding.md"])["yarn"]
    assert "| `encoding.scaling.beta_fast` | `32.0` | Pairs that turn" in yarn and "Begins with [rotary]" in yarn
    tiny = sections(made[FOLDER / "conf" / "size.md"])["tiny"]
    assert "| `model.num_heads` | `6` | query heads, of 32 dimensions each |" in tiny


def test_the_commands_and_the_python_interface_are_those_of_the_code(made):
    for path, text in made.items():
        if path.parent != FOLDER / "conf" and path.stem not in ("configuration", "encodings"):
            assert path.read_text(encoding="utf-8") == text, f"{path.relative_to(DOCS)} is out of date"


def test_no_page_is_left_of_what_is_gone(made):
    assert set(FOLDER.rglob("*.md")) == set(made)
