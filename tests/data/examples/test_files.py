"""A user's own files, in every format, for each kind of examples; and every mistake in them."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from poslab.data.examples.answers import AnswersFile
from poslab.data.examples.answers import spans as spans_of
from poslab.data.examples.classification import ClassificationFile
from poslab.data.examples.pairs import PairsFile
from poslab.data.examples.tables import ExampleFiles

from .contract import rows_of

pytestmark = pytest.mark.usefixtures("hub_cache")

ROWS = [
    {"review": "Good, and short.", "stars": 5},
    {"review": 'It says "no"\nand means it.', "stars": 1},
    {"review": "Ça va — 好", "stars": 5},
]
EXPECTED = [{"text": row["review"], "label": str(row["stars"])} for row in ROWS]


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    pd.DataFrame(rows).to_csv(path, index=False)


def write_json(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text(json.dumps(rows), encoding="utf-8")


def write_json_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_under_data(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text(json.dumps({"version": 1, "data": rows}), encoding="utf-8")


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    parquet.write_table(pa.Table.from_pylist(rows), path)


def text_file(path: Path, text: str) -> str:
    path.write_bytes(text.encode())
    return str(path)


@pytest.mark.parametrize(
    "name, write",
    [
        ("r.csv", write_csv),
        ("R.CSV", write_csv),
        ("r.json", write_json),
        ("lines.json", write_json_lines),
        ("data.json", write_under_data),
        ("r.jsonl", write_json_lines),
        ("r.parquet", write_parquet),
    ],
)
def test_a_format_is_read_as_its_suffix_says(
    tmp_path: Path, name: str, write: Callable[[Path, list[dict[str, Any]]], None]
) -> None:
    write(tmp_path / name, ROWS)
    assert rows_of(ClassificationFile(files=str(tmp_path / name), text="review", label="stars")) == EXPECTED


def test_quotation_marks_in_tsv_are_text(tmp_path: Path) -> None:
    files = text_file(tmp_path / "x.tsv", 'source\ttarget\n"Yes" he said\t"Oui\r\nno "\tnon\n')
    assert rows_of(PairsFile(files=files)) == [
        {"source": '"Yes" he said', "target": '"Oui'},
        {"source": 'no "', "target": "non"},
    ]


def test_cells_may_be_parted_by_another_character_and_excels_mark_is_no_text(tmp_path: Path) -> None:
    files = text_file(tmp_path / "x.csv", "\N{ZERO WIDTH NO-BREAK SPACE}source;target\na,b;c\n\n")
    assert rows_of(PairsFile(files=files, delimiter=";")) == [{"source": "a,b", "target": "c"}]


def test_a_cell_may_be_longer_than_the_library_expects(tmp_path: Path) -> None:
    files = text_file(tmp_path / "x.csv", f"source,target\n{'long ' * 40_000},short\n")
    assert len(rows_of(PairsFile(files=files))[0]["source"]) == 200_000


def test_several_files_and_globs_are_read_once_each_and_held_out_files_are_splits(tmp_path: Path) -> None:
    for name, text in [("a.csv", "s,t\n1,2\n"), ("b.csv", "t,s\n4,3\n"), ("test.tsv", "s\tt\n5\t6\n")]:
        text_file(tmp_path / name, text)
    files = [str(tmp_path / "*.csv"), str(tmp_path / "a.csv")]
    source = PairsFile(files=files, test_files=str(tmp_path / "test.tsv"), source="s", target="t")
    assert rows_of(source) == [{"source": "1", "target": "2"}, {"source": "3", "target": "4"}]
    assert rows_of(source, "test") == [{"source": "5", "target": "6"}]


def test_a_test_may_be_of_one_class(tmp_path: Path) -> None:
    files, more = text_file(tmp_path / "a.csv", GOOD), text_file(tmp_path / "b.csv", "text,label\nc,x\n")
    assert rows_of(ClassificationFile(files=files, test_files=more), "test") == [{"text": "c", "label": "x"}]


def test_a_column_of_documents_is_kept(tmp_path: Path) -> None:
    files = text_file(tmp_path / "x.csv", "source,target,page\na,b,1\nc,d,2\n")
    assert [row["document"] for row in rows_of(PairsFile(files=files, document="page"))] == ["1", "2"]


@pytest.mark.parametrize(
    "change",
    [
        {"files": "b.csv"},
        {"source": "target", "target": "source"},
        {"document": "story"},
        {"delimiter": ";"},
        {"files": ["a.csv", "b.csv"]},
        {"test_files": "b.csv"},
    ],
)
def test_whatever_changes_the_examples_changes_the_identity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    text_file(tmp_path / "a.csv", "source,target\na,b\n")
    text_file(tmp_path / "b.csv", "source,target\na,c\n")
    assert PairsFile(**{"files": "a.csv", **change}).identity != PairsFile(files="a.csv").identity
    assert PairsFile(files="a.csv", seed=3, batch_size=2).identity == PairsFile(files="a.csv").identity


def test_a_second_text_is_kept(tmp_path: Path) -> None:
    files = text_file(tmp_path / "x.csv", "premise,hypothesis,label\na,b,yes\nc,d,no\n")
    source = ClassificationFile(files=files, text="premise", text_pair="hypothesis")
    assert rows_of(source)[0] == {"text": "a", "text_pair": "b", "label": "yes"}


def test_a_separator_parts_classes_and_an_empty_cell_is_none(tmp_path: Path) -> None:
    files = text_file(tmp_path / "x.csv", "text,label\na,fast| cheap\nb,\nc,good|good\n")
    labels = [row["label"] for row in rows_of(ClassificationFile(files=files, separator="|"))]
    assert labels == [["fast", "cheap"], [], ["good"]]


@pytest.mark.parametrize("name, write", [("x.jsonl", write_json_lines), ("x.parquet", write_parquet)])
def test_lists_are_several_classes(tmp_path: Path, name: str, write: Callable[..., None]) -> None:
    write(tmp_path / name, [{"text": "a", "label": [1, 2]}, {"text": "b", "label": []}, {"text": "c", "label": None}])
    labels = [row["label"] for row in rows_of(ClassificationFile(files=str(tmp_path / name)))]
    assert labels == [["1", "2"], [], []]


def test_a_class_is_written_as_in_csv_whatever_its_type_is(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", [{"text": "a", "label": value} for value in (5.0, 5, " 5", True, 0.5)])
    labels = [row["label"] for row in rows_of(ClassificationFile(files=str(tmp_path / "x.json")))]
    assert labels == ["5", "5", "5", "true", "0.5"]


CONTEXT = " The cat sat. The cat 🙂 ran."
ABOUT_CATS = [
    {"id": "1", "question": "Who ran?", "answers": [{"text": "cat", "answer_start": 18}]},
    {"id": "2", "question": "Who flew?", "answers": [], "is_impossible": True},
]
SQUAD = {
    "version": "v2.0",
    "data": [
        {"title": "Cats", "paragraphs": [{"context": CONTEXT, "qas": ABOUT_CATS}]},
        {"title": "Dogs", "paragraphs": [{"context": "A dog.", "qas": [{"question": "Who?", "answers": []}]}]},
    ],
}


def test_squads_json_needs_no_columns_and_an_article_is_a_document(tmp_path: Path) -> None:
    (tmp_path / "dev.json").write_text(json.dumps(SQUAD))
    rows = rows_of(AnswersFile(files=str(tmp_path / "dev.json"), question="other"))
    answers = [{"text": "cat", "start": 18}]
    assert rows[0] == {"question": "Who ran?", "context": CONTEXT, "answers": answers, "document": "Cats"}
    assert [(row["answers"], row["document"]) for row in rows[1:]] == [([], "Cats"), ([], "Dogs")]


@pytest.mark.parametrize(
    "answer, spans",
    [
        ("cat", [("cat", 5)]),
        (["cat", "ran"], [("cat", 5), ("ran", 24)]),
        ({"text": ["cat"], "answer_start": [18]}, [("cat", 18)]),
        ({"text": ["cat"], "answer_start": []}, [("cat", 5)]),
        ({"text": [], "answer_start": []}, []),
        ({"text": "cat", "start": 18}, [("cat", 18)]),
        ([{"text": "cat", "answer_start": 18}, {"text": "ran"}], [("cat", 18), ("ran", 24)]),
        (None, []),
        ("", []),
    ],
)
def test_an_answer_may_have_any_form_that_data_sets_give_it(
    tmp_path: Path, answer: Any, spans: list[tuple[str, int]]
) -> None:
    write_json_lines(tmp_path / "x.jsonl", [{"question": "Who?", "context": CONTEXT, "answer": answer}])
    (row,) = rows_of(AnswersFile(files=str(tmp_path / "x.jsonl")))
    assert [(answer["text"], answer["start"]) for answer in row["answers"]] == spans


@pytest.mark.parametrize("starts", [[5], 5])
def test_answers_with_other_numbers_of_starts_are_refused_with_their_place(starts: Any) -> None:
    with pytest.raises(ValueError, match=r"^start must .*row 3 .*5\]? of \['cat', 'ran'\]$"):
        spans_of(CONTEXT, {"text": ["cat", "ran"], "answer_start": starts}, None, "row 3")


def test_a_column_may_say_where_an_answer_begins_and_an_empty_cell_does_not(tmp_path: Path) -> None:
    files = text_file(tmp_path / "x.csv", "question,context,answer,at\nq,a b a,a,4\nq,a b a,a,\nq,a b a,,\n")
    rows = rows_of(AnswersFile(files=files, start="at"))
    assert [row["answers"] for row in rows] == [[{"text": "a", "start": 4}], [{"text": "a", "start": 0}], []]


GOOD = "text,label\na,x\nb,y\n"
SCORES = "text,label\n" + "".join(f"a,{n}.5\n" for n in range(2000))


@pytest.mark.parametrize(
    "name, content, change, message",
    [
        ("x.csv", GOOD, {"text": "txt"}, "text must.*you mean 'text'"),
        ("x.csv", GOOD, {"label": "stars"}, "label must be .* got 'stars'"),
        ("x.csv", GOOD, {"text_pair": "b"}, "text_pair must be .* got 'b'"),
        ("x.csv", GOOD, {"document": "d"}, "document must be .* got 'd'"),
        ("x.csv", "text;label\na;x\n", {}, "text must be.*got 'text'"),
        ("x.csv", SCORES, {}, "label must .* 2,000 different values"),
        ("x.csv", "text,label\na,x\n ,y\n", {}, "text must .* '.*x.csv' row 2"),
        ("x.csv", "text,label\na,x\nb,\n", {}, "label must .* '.*x.csv' row 2"),
        ("x.csv", b"text,label\na,x\nb\xe9,y\n", {}, "files '.*x.csv'.*read: 'utf-8' .* position 16"),
        ("x.jsonl", b'{"text": "a\xe9", "label": 1}', {}, "files must.*'.*x.jsonl' is not"),
        ("x.csv", "text,label\na,x,3\nb,y\n", {}, "files '.*x.csv'.*in line 2, saw 3"),
        ("x.csv", "text,label\na,x\nb,c,y\n", {}, "files '.*x.csv'.*in line 3, saw 3"),
        ("x.csv", 'text,label\n"a,x\n', {}, "files '.*x.csv'.*EOF inside string"),
        ("x.csv", "text,label\n", {}, "files '.*x.csv'.*has no row"),
        ("x.csv", "text,label,text\na,b,c\n", {}, "files '.*x.csv' .* one column 'text'"),
        ("x.json", "[]", {}, "files '.*x.json'.*has no row"),
        ("x.json", "[1]", {}, "label must.*text, got 'label'"),
        ("x.json", "no", {}, "files '.*x.json' cannot be read: "),
        ("x.jsonl", '{"text": "a"}\nno', {}, "files '.*x.jsonl'.*be read: .* row 1"),
        ("x.jsonl", '{"text": ["a"], "label": 1}', {}, "text must.*'text' contains List"),
        ("x.jsonl", '{"text": "2020-01-01", "label": 1}', {}, "text must.*'text' contains .*timestamp"),
        ("x.jsonl", '{"text": "a", "label": [1]}\n{"text": "b", "label": 2}', {}, "label must contain lists"),
        ("x.jsonl", '{"text": "a", "label": [["x"]]}', {}, "label must.*'label' contains List"),
        ("x.jsonl", r'{"text": "a \ud800", "label": "b"}', {}, "files '.*x.jsonl'.*be read: .*surrogate"),
        ("x.jsonl", '{"text": "a", "label": "b", "text": "c"}', {}, "files '.*x.jsonl'.*be read: .*text"),
        ("x.jsonl", "[" * 100_000, {}, "files '.*x.jsonl' cannot be read: "),
        ("x.parquet", "text,label\n", {}, "files '.*x.parquet'.*Parquet magic bytes"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_file_is_told_with_its_place(
    tmp_path: Path, name: str, content: str | bytes, change: dict[str, Any], message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=rf"^{message}") as error:
        ClassificationFile(files=str(path), **change).examples()
    assert "\n" not in str(error.value)


def test_a_mistake_in_a_test_file_is_told_by_its_argument(tmp_path: Path) -> None:
    files = text_file(tmp_path / "a.csv", "source,target\na,b\n")
    more = text_file(tmp_path / "b.csv", "source,target\n")
    with pytest.raises(ValueError, match=r"^test_files.*has no row$"):
        PairsFile(files=files, test_files=more).examples()


@pytest.mark.parametrize(
    "rows, change, message",
    [
        ("q,a cat,dog,", {}, "answer must.*of '.*x.csv' row 1"),
        ("q,a cat,cat,3", {"start": "start"}, "answer must.*of '.*x.csv' row 1"),
        ("q,a cat,cat,-3", {"start": "start"}, "answer must.*of '.*x.csv' row 1"),
        ("q,a cat,cat,x", {"start": "start"}, "start must .* 'x' of '.*x.csv' row 1"),
        (",a cat,cat,", {}, "question must.*in '.*x.csv' row 1"),
        ("q,a cat,cat,", {"answer": "answers"}, "answer must.*you mean 'answer'"),
        ("q,a cat,cat,", {"start": ""}, "start must.*or path, got ''"),
    ],
)  # fmt: skip
def test_a_mistake_in_answers_is_told_with_its_place(
    tmp_path: Path, rows: str, change: dict[str, Any], message: str
) -> None:
    files = text_file(tmp_path / "x.csv", f"question,context,answer,start\n{rows}\n")
    with pytest.raises(ValueError, match=f"^{message}"):
        AnswersFile(files=files, **change).examples()


@pytest.mark.parametrize(
    "paragraph, message",
    [
        ({"context": "A cat."}, "row 1 lacks 'qas'$"),
        ({"context": None, "qas": ABOUT_CATS}, "row 1 lacks a text 'context'$"),
        ({"context": CONTEXT, "qas": [*ABOUT_CATS, {"id": "3", "answers": []}]}, "row 1 lacks a text 'question'$"),
    ],
)
def test_an_article_of_squad_that_lacks_something_is_told(
    tmp_path: Path, paragraph: dict[str, Any], message: str
) -> None:
    (tmp_path / "x.json").write_text(json.dumps({"data": [{"title": "Cats", "paragraphs": [paragraph]}]}))
    with pytest.raises(ValueError, match=f"^files must.*{message}"):
        AnswersFile(files=str(tmp_path / "x.json")).examples()


def test_articles_without_a_title_are_documents_of_their_own(tmp_path: Path) -> None:
    articles = [{"paragraphs": article["paragraphs"]} for article in SQUAD["data"]]
    (tmp_path / "x.json").write_text(json.dumps({"data": [*articles, {"title": "Owls", "paragraphs": []}]}))
    rows = rows_of(AnswersFile(files=str(tmp_path / "x.json")))
    assert len({row["document"] for row in rows}) == 2


def test_a_list_of_rows_in_json_with_values_of_several_types_is_told(tmp_path: Path) -> None:
    rows = [{"text": "a", "label": "b"}, {"text": ["a"], "label": "b"}]
    (tmp_path / "x.json").write_text(json.dumps({"data": rows}))
    with pytest.raises(ValueError, match=r"^(files '.*x.json' cannot be read: |text must (have|contain) text)"):
        ClassificationFile(files=str(tmp_path / "x.json")).examples()


@pytest.mark.parametrize("change", [{"label": "text"}, {"text_pair": "text"}, {"document": "label"}])
def test_no_two_arguments_name_one_column(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must name a column that .*, and (text|label) is '(text|label)' too$"):
        ClassificationFile(files="x.csv", **change)


@pytest.mark.parametrize("source", [ClassificationFile, PairsFile, AnswersFile])
@pytest.mark.parametrize(
    "change, message",
    [
        ({"files": None}, "files must be .*, got null"),
        ({"files": []}, r"files must be .*, got \[\]"),
        ({"test_files": 3}, "test_files must be .*, got 3"),
        ({"delimiter": "::"}, "delimiter must be .*, got '::'"),
        ({"document": ""}, "document must be .*, got ''"),
        ({"files": "{}/a.cvs"}, "files names '{}/a.cvs', .*'{}/a.csv'.*"),
        ({"files": "{}/*.tsv"}, r"files names '{}/\*.tsv', .*no file"),
        ({"files": "{}"}, r"files must name files, .*'{}/\*'"),
        ({"files": "{}/notes.txt"}, "files must .*csv, .*, got '{}/notes.txt'"),
        ({"files": "{}/empty.csv"}, "files must .*'{}/empty.csv' is empty"),
        ({"validation_files": "{}/no/x.csv"}, "validation_files names '{}/no/x.csv', .*"),
    ],
)  # fmt: skip
def test_a_mistake_that_needs_no_reading_is_found_by_the_check(
    tmp_path: Path, source: type[ExampleFiles], change: dict[str, Any], message: str
) -> None:
    text_file(tmp_path / "a.csv", GOOD)
    text_file(tmp_path / "notes.txt", GOOD)
    text_file(tmp_path / "empty.csv", "")
    arguments = {"files": "{}/a.csv", **change}
    arguments = {k: v.replace("{}", str(tmp_path)) if isinstance(v, str) else v for k, v in arguments.items()}
    with pytest.raises(ValueError, match=f"^{message.replace('{}', re.escape(str(tmp_path)))}$"):
        source(**arguments).check()


def test_a_file_that_may_not_be_read_is_found_by_the_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = text_file(tmp_path / "x.csv", GOOD)
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.R_OK)  # no permission binds root
    with pytest.raises(ValueError, match=r"^files must.*permissions forbid it$"):
        PairsFile(files=files).check()


@pytest.mark.parametrize(
    "name, value, bounds",
    [
        *[(name, value, "a name or path") for name, value in (("text", ""), ("text_pair", ""))],
        ("separator", " ", "one or more characters"),
    ],
)
def test_a_column_without_a_name_and_a_blank_separator_are_refused(name: str, value: object, bounds: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be {bounds}, got {value!r}$"):
        ClassificationFile(files="x.csv", **{name: value})


def test_odd_columns_that_nobody_asked_for_do_no_harm(tmp_path: Path) -> None:
    files = text_file(tmp_path / "x.csv", "source,target,,,note,note\na\0,b,,,1,2\n")
    assert rows_of(PairsFile(files=files)) == [{"source": "a\0", "target": "b"}]


def test_pairs_of_surrogates_and_a_missing_number_are_read_as_ever(tmp_path: Path) -> None:
    files = text_file(tmp_path / "x.jsonl", r'{"source": "\ud83d\ude00", "target": 12.0, "note": NaN}')
    assert rows_of(PairsFile(files=files)) == [{"source": "\N{GRINNING FACE}", "target": "12"}]


def test_a_name_with_signs_of_a_glob_names_one_file(tmp_path: Path) -> None:
    files = text_file(tmp_path / "x[1]*.csv", "source,target\na,b\n")
    text_file(tmp_path / "x1.csv", "source,target\nc,d\n")
    assert rows_of(PairsFile(files=files)) == [{"source": "a", "target": "b"}]


def test_a_name_that_the_library_would_take_for_an_address_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^files must .* got '.*a::b.csv'$"):
        PairsFile(files=text_file(tmp_path / "a::b.csv", "source,target\na,b\n")).check()


@pytest.mark.parametrize("content", ["nothing", "half"])
def test_damaged_parquet_is_told_with_its_file(tmp_path: Path, content: str) -> None:
    write_parquet(tmp_path / "y.parquet", [{"source": "a", "target": "b"}])
    whole = (tmp_path / "y.parquet").read_bytes()
    damaged = {"nothing": b"PAR1PAR1", "half": whole[:-60] + bytes(reversed(whole[-60:-8])) + whole[-8:]}[content]
    (tmp_path / "z.parquet").write_bytes(damaged)
    with pytest.raises(ValueError, match=r"^files '.*z.parquet' cannot be read: "):
        PairsFile(files=str(tmp_path / "z.parquet")).examples()


@pytest.mark.parametrize("start", ["[1]", "1e300", "{}"])
def test_a_start_that_is_no_number_is_told(tmp_path: Path, start: str) -> None:
    row = f'{{"question": "q", "context": "a cat", "answer": "cat", "start": {start}}}'
    with pytest.raises(ValueError, match=r"^(start|answer) must "):
        AnswersFile(files=text_file(tmp_path / "x.jsonl", row), start="start").examples()
