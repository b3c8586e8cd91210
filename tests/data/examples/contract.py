"""The contract of every source of examples, for tests of each of them."""

import dataclasses
from typing import Any

from poslab.data.examples.source import ExampleSource


def rows_of(source: ExampleSource, split: str = "train") -> list[dict[str, Any]]:
    """The examples of a split, after its source's check, as the contract has them."""
    source.check()
    assert source.identity == dataclasses.replace(source).identity
    splits = source.examples()
    assert set(splits) <= {"train", "validation", "test"}
    rows: list[dict[str, Any]] = splits[split].to_list()
    assert rows
    for row in rows:
        assert_kept(row, source)
    return rows


def assert_kept(row: dict[str, Any], source: ExampleSource) -> None:
    """An example has the columns of its kind."""
    known = {*source.kind.texts, *source.kind.kept}
    assert known - {"text_pair"} <= set(row) <= {*known, "document"}
    for column, value in row.items():
        if column == "answers":
            for answer in value:
                assert set(answer) == {"text", "start"}
                assert row["context"][answer["start"] : answer["start"] + len(answer["text"])] == answer["text"]
        elif isinstance(value, list):
            assert all(isinstance(name, str) and name for name in value)
        else:
            assert isinstance(value, str) and value.strip(), column
