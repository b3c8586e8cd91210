"""Nothing that a terminal obeys is printed, whoever named it."""

import io
import re

import pytest
from rich.table import Table
from rich.text import Text

from poslab.io.terminal import HarmlessConsole, harmless, one_line

CONTROLS = {
    "CSI": "\x1b[31m",
    "clear": "\x1b[2J",
    "OSC title": "\x1b]0;title\x07",
    "OSC link": "\x1b]8;;http://example.org\x1b\\",
    "8-bit CSI": "\x9b2J",
    "BEL": "\x07",
    "CR": "safe\roverwritten",
    "backspace": "ab\x08\x08",
    "DEL": "\x7f",
    "bidi override": "\u202egnp.exe",
    "bidi isolate": "\u2066abc\u2069",
    "line separator": "\u2028",
    "surrogate": "\udc9b",
}
OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069\ud800-\udfff]")


@pytest.mark.parametrize("control", CONTROLS.values(), ids=CONTROLS)
def test_what_a_terminal_obeys_is_replaced(control: str) -> None:
    assert not OBEYED.search(harmless(control))
    assert len(harmless(control)) == len(control)


@pytest.mark.parametrize(
    "text", ["a\tb\nné😀", "位置\u3000编码", "a\u00a0b", "می\u200cخواهم", "👩\u200d🔬", "[bold]x[/bold]"]
)
def test_text_of_any_language_is_left_as_it_is(text: str) -> None:
    assert harmless(text) == text


def test_one_line_is_one_line() -> None:
    assert one_line("a\n b\r\nc\x1b[2J") == "a b c�[2J"


def printed(content: object) -> str:
    file = io.StringIO()
    HarmlessConsole(file, force_terminal=False, width=200).print(content)
    return file.getvalue()


@pytest.mark.parametrize("control", CONTROLS.values(), ids=CONTROLS)
def test_a_console_prints_no_control_in_any_form(control: str) -> None:
    table = Table(control, title=control, caption=control)
    table.add_row(control)
    for content in (control, Text(control), table):
        assert not OBEYED.search(printed(content))


def test_markup_and_emoji_codes_are_printed_as_they_stand() -> None:
    table = Table("[bold]name[/bold]", title="[red]title")
    table.add_row(":smile: [/closing] [link=http://example.org]x[/link]")
    text = printed(table) + printed("[blink]line[/blink]")
    for part in ("[bold]name[/bold]", "[red]title", ":smile: [/closing] [link=http://example.org]x[/link]", "[blink]"):
        assert part in text
