"""The command that opens the explorer."""

from __future__ import annotations

import webbrowser
from pathlib import Path

import pytest

from poslab.cli.explore import main
from poslab.configuration.command_line import STARTED_AS
from poslab.explorer import explorer_page


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The addresses that a browser was asked to open, in a directory of its own."""
    addresses: list[str] = []
    monkeypatch.setattr(webbrowser, "open", addresses.append)
    monkeypatch.chdir(tmp_path)
    return addresses


@pytest.mark.parametrize(("words", "place"), [([], "outputs/explorer.html"), (["to=my page.html"], "my page.html")])
def test_it_writes_the_page_says_where_and_opens_it(words, place, opened, tmp_path, capsys):
    main(words)
    assert (tmp_path / place).read_text(encoding="utf-8") == explorer_page()
    assert capsys.readouterr().out == f"written: {place}\n"
    assert opened == [(tmp_path / place).as_uri()]


def test_the_page_trains_by_the_command_that_opened_it(opened, tmp_path, monkeypatch):
    monkeypatch.setenv(STARTED_AS, "poslab ")
    main([])
    page = (tmp_path / "outputs/explorer.html").read_text(encoding="utf-8")
    assert '["poslab train", ...words' in page


@pytest.mark.parametrize("word", ["encoding=rotary", "to=", "--fast", ""])
def test_other_words_are_refused(word, opened):
    with pytest.raises(ValueError, match=f"^'{word}' is not understood"):
        main([word])
    assert not opened


def test_a_place_that_cannot_be_written_is_named(opened, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"^to=file/page\.html cannot"):
        main(["to=file/page.html"])
