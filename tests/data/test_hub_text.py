"""Data sets through `load_dataset`, on local files of the Hub's formats, stored and streamed."""

import json
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import datasets
import pytest

from poslab.data.hub_text import HubText, windows_of
from poslab.data.run_data import RunData
from poslab.data.tokenizers import ByteTokenizer

from .conftest import story

pytestmark = pytest.mark.usefixtures("hub_cache")


def write(path: Path, seeds: range, column: str = "text") -> str:
    rows = [{"id": seed, column: story(seed)} for seed in seeds]
    if path.suffix == ".parquet":
        datasets.Dataset.from_list(rows).to_parquet(path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def opened(**arguments: Any) -> RunData:
    datamodule = RunData(HubText(**arguments))
    datamodule.setup()
    return datamodule


def text_of(datamodule: RunData, split: str) -> str:
    return datamodule.tokenizer.decode(datamodule.splits._tokens[split].ids)


@pytest.mark.parametrize("path", ["json", "parquet"])
def test_own_splits_are_used(tmp_path: Path, arguments: dict[str, Any], path: str) -> None:
    files = {"train": range(30), "dev": range(30, 33), "test": range(33, 35)}
    data_files = {name: write(tmp_path / f"{name}.{path}", seeds, "content") for name, seeds in files.items()}
    datamodule = opened(
        path=path, data_files=data_files, column="content", validation_split="dev", test_split="test", **arguments
    )
    assert text_of(datamodule, "train") == "".join(map(story, range(30)))
    assert text_of(datamodule, "validation") == "".join(map(story, range(30, 33)))
    assert text_of(datamodule, "test") == "".join(map(story, range(33, 35)))


@pytest.mark.slow
@pytest.mark.parametrize("streaming", [False, True])
def test_what_save_to_disk_wrote_is_read(tmp_path: Path, arguments: dict[str, Any], streaming: bool) -> None:
    of_split = {"train": range(30), "dev": range(30, 33), "test": range(33, 35)}
    rows = {split: datasets.Dataset.from_dict({"text": list(map(story, seeds))}) for split, seeds in of_split.items()}
    datasets.DatasetDict(rows).save_to_disk(tmp_path / "saved")
    splits = {"validation_split": "dev", "test_split": "test"}
    datamodule = opened(path=str(tmp_path / "saved"), streaming=streaming, **splits, **arguments)
    assert text_of(datamodule, "test") == "".join(map(story, range(33, 35)))


@pytest.mark.slow
def test_a_missing_split_is_held_out_by_document(tmp_path: Path, arguments: dict[str, Any]) -> None:
    data_files = {"train": write(tmp_path / "a.json", range(40)), "dev": write(tmp_path / "b.json", range(40, 42))}
    datamodule = opened(path="json", data_files=data_files, validation_split="dev", test_fraction=0.1, **arguments)
    assert text_of(datamodule, "validation") == story(40) + story(41)
    held_out = [seed for seed in range(40) if story(seed) in text_of(datamodule, "test")]
    assert len(held_out) == 4
    assert [seed for seed in range(40) if story(seed) in text_of(datamodule, "train")] == sorted(
        set(range(40)) - set(held_out)
    )


def test_deduplicate_drops_what_validation_shares_with_training(tmp_path: Path, arguments: dict[str, Any]) -> None:
    data_files = {"train": write(tmp_path / "a.json", range(10)), "dev": write(tmp_path / "b.json", range(8, 12))}
    splits = {"validation_split": "dev", "test_split": "dev"}
    shared = opened(path="json", data_files=data_files, **splits, **arguments)
    assert shared.splits.overlap["validation"] == pytest.approx(0.5, abs=0.05)
    fresh = opened(path="json", data_files=data_files, deduplicate=True, **splits, **arguments)
    assert fresh.splits.overlap["validation"] == 0
    assert text_of(fresh, "validation") == story(10) + story(11)


def test_changed_files_are_prepared_anew(tmp_path: Path, arguments: dict[str, Any]) -> None:
    splits = {"validation_split": "train", "test_split": "train"}
    texts = []
    for seeds in (range(3), range(5)):
        data_files = write(tmp_path / "a.json", seeds)
        datamodule = opened(path="json", data_files=data_files, **splits, **arguments)
        texts.append(text_of(datamodule, "train"))
    assert texts == ["".join(map(story, range(3))), "".join(map(story, range(5)))]


@pytest.fixture
def stream(tmp_path: Path, arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Callable[..., HubText]:
    """Makes streams of thirty documents, which hold few of them out."""
    monkeypatch.setattr("poslab.data.hub_text.HELD_OUT_DOCUMENTS", 3)
    monkeypatch.setattr("poslab.data.hub_text.FIRST_DOCUMENTS", 10)
    data_files = [write(tmp_path / f"{n}.parquet", range(10 * n, 10 * n + 10)) for n in range(3)]
    return partial(HubText, path="parquet", data_files=data_files, streaming=True, **arguments)


def test_a_stream_holds_out_its_first_documents_and_trains_on_the_others(
    tmp_path: Path, stream: Callable[..., HubText], attach: Callable[..., Any]
) -> None:
    datamodule = attach(stream(), max_steps=200)
    assert text_of(datamodule, "validation") == "".join(map(story, range(3)))
    assert text_of(datamodule, "test") == "".join(map(story, range(3, 6)))
    assert "train" not in datamodule.splits.num_tokens
    seen = "".join(
        datamodule.tokenizer.decode(row) for batch in datamodule.train_dataloader() for row in batch.tokens.tolist()
    )
    assert all(f"story {seed} part" not in seen for seed in range(6))
    assert all(story(seed) in seen for seed in range(7, 29)), "every other document, whole"
    assert not list((tmp_path / "hub-cache").rglob("*.arrow")), "nothing of a stream is stored"


@pytest.mark.parametrize("world_size, accumulate", [(2, 1), (3, 2)])
def test_the_windows_of_a_streamed_step_do_not_depend_on_devices(
    stream: Callable[..., HubText], attach: Callable[..., Any], world_size: int, accumulate: int
) -> None:
    whole = [batch.tokens.tolist() for batch in islice(attach(stream()).train_dataloader(), 5)]
    ranks = [attach(stream(), world_size, rank, accumulate) for rank in range(world_size)]
    batches = [list(islice(rank.train_dataloader(), 5 * accumulate)) for rank in ranks]
    for step in range(5):
        mine = slice(step * accumulate, (step + 1) * accumulate)
        rows = [row for of_rank in batches for batch in of_rank[mine] for row in batch.tokens.tolist()]
        assert rows == whole[step]


def test_the_seed_orders_a_stream(stream: Callable[..., HubText], attach: Callable[..., Any]) -> None:
    first, again, other = (
        next(iter(attach(stream(seed=seed)).train_dataloader())).tokens.tolist() for seed in (1, 1, 2)
    )
    assert first == again != other


def test_overfit_repeats_the_first_global_batch_of_a_stream(
    stream: Callable[..., HubText], attach: Callable[..., Any]
) -> None:
    first = next(iter(attach(stream()).train_dataloader())).tokens.tolist()
    corpus = stream(overfit=True)
    for start in (0, 5):
        ranks = [attach(corpus, world_size=2, rank=rank, global_step=start) for rank in range(2)]
        for batches in islice(zip(*(rank.train_dataloader() for rank in ranks), strict=True), 3):
            assert [row for batch in batches for row in batch.tokens.tolist()] == first


def test_a_stream_learns_its_vocabulary_from_its_first_training_documents(
    stream: Callable[..., HubText], attach: Callable[..., Any]
) -> None:
    datamodule = attach(stream(tokenizer="bpe", vocab_size=400))
    assert 257 < datamodule.vocab_size <= 400
    assert datamodule.splits.bytes_per_token["validation"] > 1.5


def test_windows_of_a_stream_are_its_tokens_in_order() -> None:
    documents = [["abc", "d"], ["efghijklmnop"], ["q"]]
    windows = list(windows_of(iter(documents), ByteTokenizer(), 4))
    flat = [256 if c == "|" else ord(c) for c in "abc|d|efghijklmnop|q|"]
    assert [window.tolist() for window in windows] == [flat[i : i + 5] for i in range(0, len(flat) - 4, 4)]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"column": "txt"}, r"^column must.*you mean 'text'\?$"),
        ({"column": "id"}, "^column must.*and 'id' contains"),
        ({"test_split": "tset"}, "^test_split.*train, got 'tset'$"),
        ({"train_split": "trian"}, r"^train_split.*you mean 'train'\?$"),
        ({"data_files": "missing.parquet"}, "^data_files.*does not exist$"),
    ],
)
@pytest.mark.parametrize("streaming", [False, True])
def test_mistakes_are_told_in_one_sentence(
    tmp_path: Path, arguments: dict[str, Any], change: dict[str, str], message: str, streaming: bool
) -> None:
    right = {"path": "parquet", "data_files": write(tmp_path / "a.parquet", range(40)), "streaming": streaming}
    with pytest.raises(ValueError, match=message):
        HubText(**{**right, **arguments, **change}).prepare()


def test_a_file_of_another_format_is_told_in_one_sentence(tmp_path: Path, arguments: dict[str, Any]) -> None:
    (tmp_path / "a.json").write_text("no json at all")
    with pytest.raises(ValueError, match=r"^data_files.*be read: .*JSON"):
        HubText(path="json", data_files=str(tmp_path / "a.json"), **arguments).prepare()


def test_a_data_set_that_cannot_be_reached_is_told_in_one_sentence(
    arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise ConnectionError("Couldn't reach 'some/where' (LocalEntryNotFoundError)")

    monkeypatch.setattr(datasets, "load_dataset_builder", offline)
    with pytest.raises(ValueError, match=r"^path 'some/where'.*Couldn't reach"):
        HubText(path="some/where", **arguments).prepare()


def test_an_address_of_a_protocol_that_is_not_there_is_told_in_one_sentence(arguments: dict[str, Any]) -> None:
    """Some protocols need a package, and connections have errors of their own."""
    address = "ssh://127.0.0.1:9/x.csv"
    with pytest.raises(ValueError, match=rf"^data_files '{address}' cannot be read: .") as error:
        HubText(path="csv", data_files=address, **arguments).prepare()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["a.h5", "a.tar", "a.xml"])
def test_a_folder_of_another_format_is_refused_by_its_name(
    tmp_path: Path, arguments: dict[str, Any], name: str
) -> None:
    """They may hold code, or need a package."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / name).write_bytes(b"x")
    kind = {".h5": "hdf5", ".tar": "webdataset", ".xml": "xml"}[name[1:]]
    with pytest.raises(ValueError, match=rf"^path '.*data' cannot be read: .* {kind}, .*json"):
        HubText(path=str(tmp_path / "data"), **arguments).prepare()


@pytest.mark.parametrize("path", ["hdf5", "ssh://127.0.0.1/x", "pandas", "sql", "cvs", "a/b/c"])
def test_a_path_that_is_no_format_and_no_name_is_refused_before_a_server_is_asked(
    arguments: dict[str, Any], path: str
) -> None:
    with pytest.raises(ValueError, match=rf"^path must be .* got '{path}'"):
        HubText(path=path, data_files="a", **arguments).check()


def test_a_folder_named_as_an_address_is_refused_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any]
) -> None:
    """`datasets` asks the Hub for it, whether or not there is a folder hf:/buckets/a/b."""
    monkeypatch.chdir(tmp_path)
    Path("hf:/buckets/a/b").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"^path must.*got 'hf://buckets/a/b'"):
        HubText(path="hf://buckets/a/b", **arguments).check()


def test_a_folder_of_the_home_directory_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any]
) -> None:
    (tmp_path / "rows").mkdir()
    write(tmp_path / "rows" / "train.json", range(30))
    monkeypatch.setenv("HOME", str(tmp_path))
    source = HubText(path="~/rows", **arguments)
    source.check()
    assert [row["text"] for row in source.documents()["train"]] == list(map(story, range(30)))
