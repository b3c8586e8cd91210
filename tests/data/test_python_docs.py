"""The default text: what is left of it, and that its test is not its training."""

from pydoc_data.topics import topics

import pytest

from poslab.data.python_docs import PythonDocs
from poslab.data.run_data import RunData

from .test_overlap import naive_shared_bytes


@pytest.fixture(scope="module")
def datamodule(tmp_path_factory: pytest.TempPathFactory) -> RunData:
    datamodule = RunData(PythonDocs(cache_dir=str(tmp_path_factory.mktemp("cache"))))
    datamodule.setup()
    return datamodule


@pytest.fixture(scope="module")
def texts(datamodule: RunData) -> dict[str, str]:
    assert datamodule.lengths_of("test") == [256, 512, 1024, 2048]
    assert all(share <= 0.01 for share in datamodule.splits.overlap.values())
    return {name: datamodule.tokenizer.decode(tokens.ids) for name, tokens in datamodule.splits._tokens.items()}


@pytest.mark.parametrize("split", ["validation", "test"])
def test_at_most_one_percent_of_held_out_bytes_lie_in_strings_that_training_holds(
    texts: dict[str, str], split: str
) -> None:
    held_out = texts[split].encode()
    assert sum(naive_shared_bytes(held_out, [texts["train"].encode()])) / len(held_out) <= 0.01


def test_each_split_has_its_share_of_what_is_left_without_repeated_paragraphs(texts: dict[str, str]) -> None:
    paragraphs = {p.strip() for topic in topics.values() for p in topic.split("\n\n")} - {""}
    whole = sum(len(p) + 2 for p in paragraphs)
    assert 0.85 * whole < len(texts["train"]) < 0.95 * whole
    for split in ("validation", "test"):
        assert 0.03 * whole < len(texts[split]) < 0.06 * whole


def test_no_paragraph_stands_twice(texts: dict[str, str]) -> None:
    seen = [p.strip() for text in texts.values() for p in text.split("\n\n") if p.strip()]
    # A part may be cut within a paragraph, and the ends of parts meet where the end of a document decodes to nothing.
    assert len(seen) - len(set(seen)) <= 2


def test_bits_per_byte_come_from_nats_per_token(datamodule: RunData) -> None:
    predicted = datamodule.splits.num_tokens["test"] - 1
    ends = int((datamodule.splits._tokens["test"].ids == datamodule.tokenizer.end_id).sum())
    # The first byte is not predicted.
    assert datamodule.splits.bytes_per_token["test"] == (predicted - ends) / predicted
