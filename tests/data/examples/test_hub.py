"""Examples through `load_dataset`, on local files as the Hub's data sets have them."""

import json
import zipfile
from datetime import date
from pathlib import Path
from typing import Any

import datasets
import pytest
from datasets import ClassLabel, Dataset, Features, List, Translation, Value

from poslab.data.columns import class_names
from poslab.data.examples.answers import HubAnswers
from poslab.data.examples.classification import HubClassification
from poslab.data.examples.pairs import HubDialogue, HubPairs
from poslab.data.examples.tables import HubExamples

from .contract import rows_of

pytestmark = pytest.mark.usefixtures("hub_cache")

TEXT = Value("string")


def parquet(path: Path, columns: dict[str, list[Any]], features: dict[str, Any] | None = None) -> str:
    """A file as the Hub has it, which knows the names of classes."""
    Dataset.from_dict(columns, features=Features(features) if features else None).to_parquet(path)
    return str(path)


@pytest.fixture
def glue(tmp_path: Path) -> dict[str, Any]:
    """Arguments for a task of GLUE: two texts, named classes, a test without classes."""
    names = ClassLabel(names=["entailment", "not_entailment"])
    features = {"sentence1": TEXT, "sentence2": TEXT, "label": names, "idx": Value("int32")}

    def write(split: str, labels: list[int]) -> str:
        count = len(labels)
        columns = {
            "sentence1": [f"{split} {number}" for number in range(count)],
            "sentence2": [f"so {number}" for number in range(count)],
            "label": labels,
            "idx": list(range(count)),
        }
        return parquet(tmp_path / f"{split}.parquet", columns, features)

    labels = {"train": [0, 1] * 50, "validation": [1, 0], "test": [-1] * 3}
    files = {split: write(split, of_split) for split, of_split in labels.items()}
    return {"path": "parquet", "data_files": files, "text": "sentence1", "text_pair": "sentence2"}


def test_classes_have_their_names_and_two_texts_stay_a_pair(glue: dict[str, Any]) -> None:
    rows = rows_of(HubClassification(**glue, test_split="validation"), "test")
    assert rows == [
        {"text": "validation 0", "text_pair": "so 0", "label": "not_entailment"},
        {"text": "validation 1", "text_pair": "so 1", "label": "entailment"},
    ]


def test_validation_serves_as_test_and_part_of_training_as_validation(glue: dict[str, Any]) -> None:
    splits = HubClassification(**glue, test_split="validation").split_examples()
    assert {name: len(dataset) for name, dataset in splits.items()} == {"train": 90, "validation": 10, "test": 2}


def test_a_test_whose_classes_are_not_published_is_refused(glue: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^test_split must .* 'test'"):
        HubClassification(**glue, test_split="test").examples()


def test_rows_without_a_class_or_a_text_are_left_out(tmp_path: Path) -> None:
    names = ClassLabel(names=["no", "yes"])
    columns = {"text": ["a", "b", None, "d", " "], "label": [1, -1, 0, None, 1]}
    files = parquet(tmp_path / "x.parquet", columns, {"text": TEXT, "label": names})
    assert rows_of(HubClassification(path="parquet", data_files=files)) == [{"text": "a", "label": "yes"}]


def test_lists_of_classes_are_several(tmp_path: Path) -> None:
    features = {"text": TEXT, "labels": List(ClassLabel(names=["joy", "fear"]))}
    files = parquet(tmp_path / "x.parquet", {"text": ["a", "b"], "labels": [[1, 0], []]}, features)
    labels = [row["label"] for row in rows_of(HubClassification(path="parquet", data_files=files, label="labels"))]
    assert labels == [["fear", "joy"], []]


@pytest.mark.parametrize(
    "values, names", [(["x", "y"], ["x", "y"]), ([-1, 7], ["-1", "7"]), ([True, False], ["true", "false"])]
)
def test_classes_without_names_are_written_out(tmp_path: Path, values: list[Any], names: list[str]) -> None:
    files = parquet(tmp_path / "x.parquet", {"text": ["a", "b"], "label": values})
    assert [row["label"] for row in rows_of(HubClassification(path="parquet", data_files=files))] == names


@pytest.mark.parametrize("number", [-2, 2])
def test_a_number_that_names_no_class_is_refused(number: int) -> None:
    name = class_names(ClassLabel(names=["no", "yes"]), "answer")
    with pytest.raises(ValueError, match=rf"^label must .*'answer' contains {number}$"):
        name(number)


@pytest.fixture
def wmt(tmp_path: Path) -> str:
    """A training set as WMT has it: a column `translation` with a text in each language."""
    pairs = [{"de": f"Satz {number}", "en": f"sentence {number}"} for number in range(20)] + [{"de": "", "en": "gone"}]
    return parquet(tmp_path / "wmt.parquet", {"translation": pairs}, {"translation": Translation(["de", "en"])})


def test_a_column_within_another_is_written_with_a_point(wmt: str) -> None:
    source = HubPairs(path="parquet", data_files=wmt, source="translation.en", target="translation.de")
    rows = rows_of(source)
    assert rows[1] == {"source": "sentence 1", "target": "Satz 1"}
    assert len(rows) == 20  # without the pair of one text


def test_a_column_within_another_that_does_not_exist_is_told_with_those_that_do(wmt: str) -> None:
    source = HubPairs(path="parquet", data_files=wmt, source="translation.en", target="translation.fr")
    with pytest.raises(ValueError, match=r"^target must .*got 'translation\.fr'.*'translation\.en'"):
        source.examples()


@pytest.mark.parametrize("part, count", [("train[:10]", 10), ("train[50%:]", 10)])
def test_a_part_of_a_split_is_enough(wmt: str, part: str, count: int) -> None:
    columns = {"source": "translation.en", "target": "translation.de"}
    source = HubPairs(path="parquet", data_files=wmt, train_split=part, **columns)
    assert len(rows_of(source)) == count
    assert source.identity != HubPairs(path="parquet", data_files=wmt, **columns).identity


@pytest.mark.parametrize("suffix", ["json", "csv"])
def test_plain_columns_of_other_formats_are_pairs(tmp_path: Path, suffix: str) -> None:
    dataset = Dataset.from_dict({"article": ["a long text", "b"], "highlights": ["short", "c"], "id": ["1", "2"]})
    path = tmp_path / f"x.{suffix}"
    dataset.to_json(path) if suffix == "json" else dataset.to_csv(path)
    source = HubPairs(path=suffix, data_files=str(path), source="article", target="highlights", document="id")
    assert rows_of(source)[0] == {"source": "a long text", "target": "short", "document": "1"}


def test_columns_may_have_each_others_names(tmp_path: Path) -> None:
    files = parquet(tmp_path / "x.parquet", {"source": ["a"], "target": ["b"]})
    source = HubPairs(path="parquet", data_files=files, source="target", target="source")
    assert rows_of(source) == [{"source": "b", "target": "a"}]


def test_a_document_that_is_a_number_becomes_text(tmp_path: Path) -> None:
    files = parquet(tmp_path / "x.parquet", {"source": ["a"], "target": ["b"], "page": [7]})
    assert rows_of(HubPairs(path="parquet", data_files=files, document="page"))[0]["document"] == "7"


def test_the_archives_of_scrolls_are_read_without_its_script(tmp_path: Path) -> None:
    for split in ("train", "validation"):
        row = {"id": "1", "pid": "1_0", "input": f"a report for {split}", "output": "its summary"}
        with zipfile.ZipFile(tmp_path / "gov_report.zip", "a") as archive:
            archive.writestr(f"gov_report/{split}.jsonl", json.dumps(row) + "\n")
    files = {split: f"zip://gov_report/{split}.jsonl::{tmp_path}/gov_report.zip" for split in ("train", "validation")}
    columns = {"source": "input", "target": "output"}
    source = HubPairs(path="json", name="gov_report", data_files=files, test_split="validation", **columns)
    assert rows_of(source) == [{"source": "a report for train", "target": "its summary"}]
    assert rows_of(source, "test") == [{"source": "a report for validation", "target": "its summary"}]


@pytest.fixture
def squad(tmp_path: Path) -> str:
    """Questions as SQuAD 2 has them on the Hub."""
    context = "The cat sat. The cat ran."
    answers = [{"text": ["cat", "The cat"], "answer_start": [17, 13]}, {"text": [], "answer_start": []}]
    columns = {
        "id": ["1", "2"], "title": ["Cats", "Cats"], "context": [context] * 2, "question": ["Who ran?", "Who flew?"],
        "answers": answers,
    }  # fmt: skip
    features = dict.fromkeys(columns, TEXT) | {"answers": {"text": List(TEXT), "answer_start": List(Value("int32"))}}
    return parquet(tmp_path / "squad.parquet", columns, features)


def test_answers_stand_in_their_context_and_may_be_none(squad: str) -> None:
    rows = rows_of(HubAnswers(path="parquet", data_files=squad, document="title"))
    assert rows[0]["answers"] == [{"text": "cat", "start": 17}, {"text": "The cat", "start": 13}]
    assert rows[1]["answers"] == [] and rows[1]["document"] == "Cats"


def test_conversations_become_contexts_and_replies_and_stay_whole(tmp_path: Path) -> None:
    short = [[f"say {number}", f"reply {number}"] for number in range(20)]
    conversations = [["Hi .", "Hello .", "Bye ."], *short, []]
    files = parquet(tmp_path / "x.parquet", {"dialog": conversations, "act": [[0] * len(c) for c in conversations]})
    source = HubDialogue(path="parquet", data_files=files)
    rows = rows_of(source)
    assert rows[:2] == [
        {"source": "Hi .", "target": "Hello .", "document": "0"},
        {"source": "Hi .\nHello .", "target": "Bye .", "document": "0"},
    ]
    assert len(rows) == 22
    assert rows_of(HubDialogue(path="parquet", data_files=files, context_turns=1))[1]["source"] == "Hello ."
    homes = [set(split["document"][:]) for split in source.split_examples().values()]
    assert sum(map(len, homes)) == len(set().union(*homes)) == 21


def test_changed_files_change_the_identity(tmp_path: Path) -> None:
    def identity(text: str) -> str:
        files = parquet(tmp_path / "x.parquet", {"source": [text], "target": ["b"]})
        return HubPairs(path="parquet", data_files=files).identity

    assert identity("a") != identity("a longer text")


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"source": "sorce"},
            r"^source must.*got 'sorce'; did",
        ),
        ({"source": "day"}, r"^source must.*contains Value\('date32'\)$"),
        (
            {"document": "pages"},
            r"^document must.*got 'pages'; did",
        ),
        ({"train_split": "trian"}, r"^train_split.*you mean 'train'\?$"),
        ({"test_split": "test[:3]"}, r"^test_split.*train, got 'test'$"),
        ({"data_files": "gone.parquet"}, r"^data_files.*does not exist$"),
        ({"data_files": None}, r"^data_files.*reads, got None$"),
        ({"path": None}, r"^path must.*path, got None$"),
        ({"revision": 3}, r"^revision must.*or null, got 3$"),
        ({"target": "source"}, r"^target must.*is 'source' too$"),
        ({"document": "source"}, r"^document must.*is 'source' too$"),
        ({"test_split": "train"}, r"^test_split.*is 'train' too$"),
        ({"path": "json"}, r"^data_files cannot be read: "),
    ],
)
def test_mistakes_are_told_in_one_sentence(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    columns = {"source": ["a"], "target": ["b"], "page": [1], "day": [date(2026, 1, 1)]}
    right = {"path": "parquet", "data_files": parquet(tmp_path / "x", columns)}
    with pytest.raises(ValueError, match=message):
        source = HubPairs(**{**right, **change})
        source.check()
        source.examples()


ANSWERED_TWICE = {"question": ["q", "q"], "context": ["a", "a"], "answers": ["a", "b"]}


@pytest.mark.parametrize(
    "source, columns, message",
    [
        (HubClassification, {"text": ["a"], "label": [0.5]}, "label must .*'label' contains .*float64"),
        (HubDialogue, {"dialog": ["Hi ."]}, "turns must .*'dialog' contains .*string"),
        (HubAnswers, ANSWERED_TWICE, "answer must .*'b' .*'train' row 2"),
    ],
)
def test_columns_that_hold_something_else_are_refused(
    tmp_path: Path, source: type[HubExamples], columns: dict[str, list[Any]], message: str
) -> None:
    files = parquet(tmp_path / "x.parquet", columns)
    with pytest.raises(ValueError, match=f"^{message}"):
        source(path="parquet", data_files=files).examples()


@pytest.mark.parametrize(
    "raised, message",
    [
        (
            ConnectionError("Couldn't reach 'a/b'"),
            r"^path 'a/b' .*: Couldn't reach",
        ),
        (
            RuntimeError("Dataset scripts are no longer\nsupported"),
            r"^path 'a/b' cannot be read: Dataset",
        ),
        (ValueError("BuilderConfig 'x' not found"), r"^name 'x' .*'a/b': .*not found$"),
    ],
)
@pytest.mark.parametrize("source", [HubClassification, HubPairs, HubAnswers, HubDialogue])
def test_what_the_library_raises_is_told_in_one_sentence(
    source: type[HubExamples], raised: Exception, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr(datasets, "load_dataset_builder", refuse)
    examples = source(path="a/b", name="x")
    examples.check()
    with pytest.raises(ValueError, match=message):
        examples.examples()
    with pytest.raises(ValueError, match=message):
        _ = examples.identity


def test_the_name_and_revision_reach_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def load(path: str, name: str | None, **arguments: Any) -> None:
        seen.append((path, name, arguments["revision"]))
        raise ConnectionError("there is no network")

    monkeypatch.setattr(datasets, "load_dataset_builder", load)
    with pytest.raises(ValueError, match="there is no network"):
        HubPairs(path="owner/x", name="de-en", revision="refs/convert/parquet").examples()
    assert seen == [("owner/x", "de-en", "refs/convert/parquet")]
