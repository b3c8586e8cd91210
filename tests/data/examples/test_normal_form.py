"""Texts that read the same have the same form, and no others."""

import pytest

from poslab.data.overlap import normal_form


@pytest.mark.parametrize(
    "text, same",
    [
        ("It's OK!", "its  ok"),
        ("Straße", "STRASSE"),
        ("caf\u00e9 \ufb01ne", "cafe\u0301 fine"),
        ("\uff21\uff22\uff23", "abc"),
        ("one\u00a0two\u200b three\n", "one two three"),
        ("\u201cWell\u201d \u2014 he said \u2026", '"well" - he said ...'),
        ("``What'' is it ?", "What is it"),
        ("in 2004", "In 2004."),
    ],
)
def test_case_space_punctuation_and_unicode_form_do_not_count(text: str, same: str) -> None:
    assert normal_form(text) == normal_form(same) != ""


@pytest.mark.parametrize(
    "text, other",
    [
        ("What is 7 - 4?", "What is 7 * 4?"),
        ("7-4", "74"),
        ("3.5", "35"),
        ("1 2", "12"),
        ("a < b", "a > b"),
        (":-)", ":-("),
        ("\u0915\u093f", "\u0915\u0941"),  # two vowels of Hindi, which are marks
        ("\u6211\u559c\u6b22", "\u6211\u4e0d\u559c\u6b22"),
        ("resume", "r\u00e9sum\u00e9"),
    ],
)
def test_what_says_something_else_has_another_form(text: str, other: str) -> None:
    assert normal_form(text) != normal_form(other)
