"""No example is in two splits, and splits have their shares."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from datasets.utils import are_progress_bars_disabled

from poslab.data.columns import as_examples
from poslab.data.examples.pairs import PAIRS
from poslab.data.examples.source import ExampleSource
from poslab.data.run_data import RunData
from poslab.data.splitting import drop_duplicates, drop_held_out, split

from ..conftest import story

TENTHS = {"validation": 0.1, "test": 0.1}


@dataclass(kw_only=True)
class Given(ExampleSource):
    """Examples that a test gives."""

    given: dict[str, Dataset] = field(default_factory=dict)

    title = "given"
    kind = PAIRS

    @property
    def identity(self) -> str:  # type: ignore[override]
        return "given"

    def examples(self) -> dict[str, Dataset]:
        return self.given


def pairs(*sources: str) -> Dataset:
    return as_examples(source=list(sources), target=[source.upper() for source in sources])


def numbers(count: int, **columns: list[Any]) -> Dataset:
    return Dataset.from_dict({"text": [str(number) for number in range(count)], **columns})


@pytest.mark.parametrize("count", [3, 10, 101, 1234])
def test_held_out_splits_are_exact_disjoint_and_in_order(count: int) -> None:
    splits = split(numbers(count), TENTHS)
    rows = {name: [int(text) for text in dataset["text"][:]] for name, dataset in splits.items()}
    assert sorted(row for of_split in rows.values() for row in of_split) == list(range(count))
    assert all(of_split == sorted(of_split) for of_split in rows.values())
    for name in TENTHS:
        assert abs(len(rows[name]) - count / 10) <= 1 and rows[name]


def test_a_split_is_the_same_every_time_and_another_with_another_seed() -> None:
    first, again, other = (split(numbers(100), TENTHS, seed=seed)["test"]["text"][:] for seed in (0, 0, 1))
    assert first == again != other
    assert split(numbers(100), TENTHS)["test"]["text"][:] == first


def test_the_seed_of_a_run_does_not_move_its_test() -> None:
    given = {"train": pairs(*map(str, range(50)))}
    first, other = (Given(given=given, seed=seed).split_examples()["test"].to_list() for seed in (1, 2))
    assert first == other


def test_classes_have_their_shares_to_the_nearest_example() -> None:
    labels = ["common"] * 700 + ["rare"] * 210 + ["rarer"] * 30
    splits = split(numbers(940, label=labels), {"validation": 0.1, "test": 0.2}, stratify="label")
    for name, share in {"validation": 0.1, "test": 0.2, "train": 0.7}.items():
        counts = Counter(splits[name]["label"][:])
        assert all(abs(counts[label] - share * labels.count(label)) <= 1 for label in set(labels))
    assert [len(splits[name]) for name in ("validation", "test")] == [94, 188]


def test_a_class_of_one_or_two_examples_is_for_training() -> None:
    labels = ["common"] * 97 + ["twice", "once", "twice"]
    splits = split(numbers(100, label=labels), TENTHS, stratify="label")
    assert Counter(splits["train"]["label"][:]) == {"common": 77, "twice": 2, "once": 1}


def test_of_several_classes_the_rarest_is_shared_out() -> None:
    labels = [["all", "tenth"] if number % 10 == 0 else ["all"] if number % 2 else [] for number in range(1000)]
    splits = split(numbers(1000, label=labels), TENTHS, stratify="label")
    assert sum("tenth" in names for names in splits["test"]["label"][:]) == 10
    assert sum(not names for names in splits["test"]["label"][:]) == pytest.approx(40, abs=1)


def test_documents_stay_whole() -> None:
    documents = [str(number // 7) for number in range(700)]
    splits = split(numbers(700, document=documents), TENTHS)
    homes = [set(dataset["document"][:]) for dataset in splits.values()]
    assert sum(map(len, homes)) == len(set().union(*homes)) == 100
    assert {name: len(dataset) for name, dataset in splits.items()} == {"train": 560, "validation": 70, "test": 70}


def test_one_large_document_leaves_every_split_something() -> None:
    documents = ["large"] * 98 + ["small", "smaller"]
    assert all(len(dataset) for dataset in split(numbers(100, document=documents), TENTHS).values())


@pytest.mark.parametrize(
    "columns, message",
    [
        ({}, "need at.*3 different examples, got 2$"),
        ({"document": ["one", "one"]}, "need at least 3 documents, got 1$"),
    ],
)
def test_too_few_examples_are_refused(columns: dict[str, list[str]], message: str) -> None:
    with pytest.raises(ValueError, match=f"^validation_fraction and test_fraction {message}"):
        split(numbers(2, **columns), TENTHS)


def test_the_first_of_equal_examples_is_kept() -> None:
    dataset = as_examples(text=["a", "b", "a", "a"], text_pair=["x", "x", "x", "y"], label=["1", "2", "3", "4"])
    assert drop_duplicates(dataset, ["text", "text_pair"])["label"][:] == ["1", "2", "4"]
    assert drop_duplicates(dataset, ["text"])["label"][:] == ["1", "2"]
    parted = as_examples(source=["ab", "a"], target=["c", "bc"])
    assert len(drop_duplicates(parted, ["source", "target"])) == 2


def test_training_loses_what_is_held_out_and_a_published_test_stays_whole() -> None:
    given = {"train": pairs("a", "b", "b", "c", "d"), "validation": pairs("b", "x", "x"), "test": pairs("c", "x", "c")}
    splits = {name: dataset["source"][:] for name, dataset in Given(given=given).split_examples().items()}
    assert splits == {"train": ["a", "d"], "validation": ["b"], "test": ["c", "x", "c"]}


def test_without_deduplication_nothing_is_dropped() -> None:
    given = {"train": pairs("a", "b", "b"), "validation": pairs("b"), "test": pairs("b")}
    assert Given(given=given, deduplicate=False).split_examples() == given


def test_only_what_a_source_lacks_is_held_out() -> None:
    given = {"train": pairs(*map(str, range(100))), "test": pairs("5", "x")}
    splits = Given(given=given, validation_fraction=0.2).split_examples()
    assert {name: len(dataset) for name, dataset in splits.items()} == {"train": 79, "validation": 20, "test": 2}


def reads(texts: list[str]) -> set[str]:
    return {"".join(character for character in text.lower() if character.isalnum()) for text in texts}


@pytest.mark.parametrize("documents", [False, True])
def test_what_reads_the_same_is_never_in_two_splits(documents: bool) -> None:
    sources = [f"{text}{sign}" for text in map(chr, range(ord("a"), ord("z") + 1)) for sign in ("", "!", " ...")]
    columns = {"source": [*sources, *map(str.upper, sources)], "target": [str(n) for n in range(2 * len(sources))]}
    more = {"document": [str(number % 26) for number in range(2 * len(sources))]} if documents else {}
    splits = Given(given={"train": as_examples(**columns, **more)}).split_examples()
    train, validation, test = (reads(splits[name]["source"][:]) for name in ("train", "validation", "test"))
    assert validation and test and not train & validation and not train & test and not validation & test
    if not documents:  # nothing has to be dropped where what is alike can stay together
        assert sum(map(len, splits.values())) == 2 * len(sources)


def test_near_copies_stay_together_where_the_version_of_the_split_says_so(tmp_path: Path) -> None:
    @dataclass(kw_only=True)
    class Apart(Given):
        split_version = 2

    bodies = [" ".join(story(number, paragraphs=1).split()) for number in range(60)]
    texts = [f"{number} is the headline of {body}" for number, body in enumerate([*bodies, *bodies])]
    splits_by_version = {}
    for kind in (Given, Apart):
        source = kind(given={"train": pairs(*texts)}, cache_dir=str(tmp_path), tokenizer="bytes")
        found = {
            name: {text.partition("of ")[2] for text in rows["source"][:]}
            for name, rows in source.split_examples().items()
        }
        splits_by_version[source.split_version] = found
        assert sum(map(len, source.split_examples().values())) == len(texts)
        source.prepare()
    first, second = splits_by_version[1], splits_by_version[2]
    assert first["test"] & first["train"]
    assert second["test"] and not second["test"] & (second["train"] | second["validation"])
    assert not second["validation"] & second["train"]
    assert len(list(tmp_path.glob("given-*"))) == 2  # what was prepared before is not read again


def test_published_training_loses_what_reads_as_a_held_out_example() -> None:
    given = {"train": pairs("A b.", "c", "d"), "validation": pairs("C!", "x"), "test": pairs("a  B", "X?")}
    splits = {name: dataset["source"][:] for name, dataset in Given(given=given).split_examples().items()}
    assert splits == {"train": ["d"], "validation": ["C!"], "test": ["a  B", "X?"]}


def test_what_is_alike_moves_no_other_example() -> None:
    apart, alike = [str(number) for number in range(100, 200)], [str(number) for number in range(100, 200)]
    alike[70] = f"{alike[30]}."
    before, after = (Given(given={"train": pairs(*texts)}).split_examples() for texts in (apart, alike))
    for name in before:
        moved = {text.rstrip(".") for text in set(before[name]["source"][:]) ^ set(after[name]["source"][:])}
        assert len(moved - {apart[30], apart[70]}) <= 1, name


def test_a_text_with_two_translations_is_two_examples() -> None:
    given = {"train": as_examples(source=["a"] * 9 + ["b"] * 9 + ["c"] * 9, target=[str(n % 8) for n in range(27)])}
    assert sum(map(len, Given(given=given).split_examples().values())) == 24


def test_a_split_that_would_be_emptied_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^deduplicate leaves nothing of train"):
        drop_held_out({"train": pairs("a"), "test": pairs("a", "b")}, ["source"])


def test_the_line_on_the_data_counts_what_is_nearly_alike(tmp_path: Path) -> None:
    long = [f"{number:02} " + " ".join(story(number, paragraphs=1).split()) for number in range(40)]
    given = {
        "train": pairs(*long[:30], "short"),
        "validation": pairs(*(f"and {text}" for text in long[:3]), *long[30:35], "shorter"),
        "test": pairs(*long[35:]),
    }
    data = RunData(Given(given=given, cache_dir=str(tmp_path), tokenizer="bytes"))
    data.setup()
    (line,) = (line for line in data.report_lines() if line.startswith("overlap"))
    shared = sum(len(text) for text in long[:3])
    total = shared + 3 * len("and ") + sum(map(len, long[30:35])) + len("shorter")
    assert f": {100 * shared / total:.2f}% of validation, 0.00% of test" in line
    assert line.endswith(" 3 of 8 in validation, 0 of 5 in test")


def test_a_count_of_no_examples_is_not_printed(tmp_path: Path) -> None:
    short = Given(given={"train": pairs(*map(str, range(40)))}, cache_dir=str(tmp_path), tokenizer="bytes")
    data = RunData(short)
    data.setup()
    (line,) = (line for line in data.report_lines() if line.startswith("overlap"))
    assert line.endswith("(60-byte strings)")


def test_saving_shows_no_bar_and_leaves_the_others_as_they_were(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    short = Given(given={"train": pairs(*map(str, range(40)))}, cache_dir=str(tmp_path), tokenizer="bytes")
    before = are_progress_bars_disabled()
    RunData(short).setup()
    assert "Saving the dataset" not in capfd.readouterr().err
    assert are_progress_bars_disabled() == before
