"""Passwords of databases are shown nowhere."""

from __future__ import annotations

import pytest

from poslab.experiments.storage_url import mistake_in_storage, without_password


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://me:secret@host/db", "postgresql://me:***@host/db"),
        ("postgresql+psycopg://me:s/e:c@r'et@host:5432/db", "postgresql+psycopg://me:***@host:5432/db"),
        ("mysql://host/db?user=me&password=secret&x=1", "mysql://host/db?user=me&password=***&x=1"),
        ("compare 'storage=mysql://me:it'\"'\"'s@host/db' name=x", "compare 'storage=mysql://me:***@host/db' name=x"),
        ("postgresql://me@host:5432/db", "postgresql://me@host:5432/db"),
        ("sqlite:///here.db", "sqlite:///here.db"),
        ("text/none: loss@4x is 3", "text/none: loss@4x is 3"),
    ],
)
def test_the_passwords_of_a_text_are_hidden(text, shown):
    assert without_password(text) == shown


@pytest.mark.parametrize("storage", ["postgresql:/me:secret@host/db", "postgresql//me:secret@host", "me:secret@host"])
def test_what_is_not_a_url_is_refused_without_its_password(storage):
    assert "secret" not in mistake_in_storage(storage)
    assert mistake_in_storage(storage).startswith("storage must be the URL")
