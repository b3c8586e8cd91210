"""The pages reference/ of the site are built from what the commands, conf/ and the packages say."""

import re
from pathlib import Path

import pytest
from pages.reference import FOLDER, pages

from poslab.configuration.command_line import choices, groups


@pytest.fixture(scope="module")
def built() -> dict[Path, str]:
    return pages()


def sections(text: str) -> dict[str, str]:
    titles = re.split(r"^## (.+)$", text, flags=re.M)
    return dict(zip(titles[1::2], titles[2::2], strict=True))


def test_every_choice_has_a_section_with_all_its_keys(built):
    for group in groups():
        assert set(choices(group)) <= sections(built[FOLDER / "conf" / f"{group}.md"]).keys()
    yarn = sections(built[FOLDER / "conf" / "encoding.md"])["yarn"]
    assert "| `encoding.scaling.beta_fast` | `32.0` |" in yarn and "Inherits [rotary]" in yarn
    tiny = sections(built[FOLDER / "conf" / "size.md"])["tiny"]
    assert "| `model.num_heads` | `6` |" in tiny
