"""Turn a source of text into token files: drop repeated text, split documents, tokenise, measure the overlap."""

import hashlib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from poslab.data import cache
from poslab.data.deduplication import drop_repeated_paragraphs, drop_shared_paragraphs
from poslab.data.overlap import SEPARATOR, shared_fraction
from poslab.data.run_data import HELD_OUT
from poslab.data.source import BUILT_IN_TOKENIZERS, Source
from poslab.data.splitting import (
    as_dataset,
    cut,
    hold_out,
    join_neighbours,
    number_of_parts,
    random_order,
    spread_order,
)
from poslab.data.tokenizers import ByteTokenizer, SubwordTokenizer, Tokenizer, load_tokenizer

if TYPE_CHECKING:
    from datasets import Dataset

# Raise it with every change of the tokens of the same text, or of their files: old ones are then not found.
VERSION = 4
# The overlap is that of this much of a held-out split, drawn by document, with all of training.
MEASURED_BYTES = 1 << 20
_DOCUMENTS_AT_ONCE = 1000


def prepare(corpus: Any) -> Path:
    """Make the token files of a corpus unless they are there; return their folder. Raises errors of `Corpus`."""
    corpus.check()
    folder = corpus.cache / f"{corpus.title}-{cache.key(_settings(corpus))}"
    if cache.verify_or_discard(folder, _check):
        return folder
    documents = corpus.documents()
    if corpus.deduplicate:
        texts = {name: chain.from_iterable(_batches(dataset)) for name, dataset in documents.items()}
        documents = {name: as_dataset(drop_repeated_paragraphs(of_split)) for name, of_split in texts.items()}
    documents = _split(documents, corpus)
    if corpus.deduplicate:
        documents |= {
            name: as_dataset(drop_shared_paragraphs(documents[name]["text"][:], training_pieces(documents["train"])))
            for name in HELD_OUT
        }
    with cache.new_folder(folder) as temporary:
        tokenizer = make_tokenizer(corpus, _batches(documents["train"]))
        tokenizer.save(temporary)
        cache.write_facts(temporary, _write_tokens(documents, tokenizer, temporary))
    return folder


def _check(folder: Path) -> None:
    """Raise ValueError unless a folder holds as many tokens as its facts say, of its own vocabulary."""
    facts, vocab_size = cache.read_facts(folder, cache.Facts), load_tokenizer(folder).vocab_size
    for name in cache.SPLITS:
        path, count = folder / f"{name}.bin", facts.num_tokens[name]
        if (
            facts.dtype != str(np.min_scalar_type(vocab_size - 1))
            or path.stat().st_size != count * np.dtype(facts.dtype).itemsize
        ):
            raise ValueError(f"{path} does not hold what {cache.FACTS} says")
        if count and cache.TokenFile(path, facts.dtype).ids.max() >= vocab_size:
            raise ValueError(f"{path} holds tokens that are not of its vocabulary")


def _settings(corpus: Any) -> dict[str, object]:
    """Return all settings that decide which tokens come out."""
    settings: dict[str, object] = {
        "version": VERSION,
        "source": corpus.identity,
        "deduplicate": corpus.deduplicate,
        "fractions": list(corpus.fractions.values()),
    }
    if corpus.has_few_documents:
        settings["longest"] = corpus.longest
    return settings | tokenizer_settings(corpus)


def tokenizer_settings(source: Source) -> dict[str, object]:
    """Return all settings that decide which tokenizer is made."""
    if source.tokenizer == "bpe":
        return {"tokenizer": source.tokenizer, "vocab_size": source.vocab_size}
    if source.tokenizer in BUILT_IN_TOKENIZERS:
        return {"tokenizer": source.tokenizer}
    content = hashlib.sha256(Path(source.tokenizer).expanduser().read_bytes()).hexdigest()
    return {"tokenizer": content, "starts": "by template"}


def make_tokenizer(source: Source, training: Iterator[list[str]]) -> Tokenizer:
    """Return the tokenizer that the user named, perhaps trained on the training split alone, in lists of texts."""
    if source.tokenizer == "bytes":
        return ByteTokenizer()
    if source.tokenizer == "bpe":
        return SubwordTokenizer.train(training, source.vocab_size)
    return SubwordTokenizer.from_file(source.tokenizer)


def training_pieces(training: "Dataset") -> Iterator[bytes]:
    """Return the training text in pieces, for `overlap.py`."""
    return (SEPARATOR.join(text.encode() for text in texts) for texts in _batches(training))


def _split(documents: "dict[str, Dataset]", corpus: Any) -> "dict[str, Dataset]":
    """Hold out the splits that the source lacks."""
    missing = {name: share for name, share in corpus.fractions.items() if name not in documents}
    if not missing:
        return documents
    training = documents["train"]
    if not corpus.has_few_documents:
        chosen = hold_out(_sizes(training), random_order(training.num_rows), missing)
        return documents | {name: training.select(rows) for name, rows in chosen.items()}
    texts = training["text"][:]
    num_parts = number_of_parts(sum(map(len, texts)), corpus.longest, min(missing.values()))
    parts = cut(texts, num_parts)
    chosen = hold_out([len(part.text) for part in parts], spread_order(len(parts)), missing)
    return documents | {name: as_dataset(join_neighbours(parts, rows)) for name, rows in chosen.items()}


def _write_tokens(documents: "dict[str, Dataset]", tokenizer: Tokenizer, folder: Path) -> cache.Facts:
    from datasets.utils import tqdm

    dtype = np.min_scalar_type(tokenizer.vocab_size - 1)
    sizes = {name: _sizes(documents[name]) for name in cache.SPLITS}
    num_bytes = {name: sum(sizes[name]) for name in cache.SPLITS}
    num_documents, num_tokens = dict.fromkeys(cache.SPLITS, 0), dict.fromkeys(cache.SPLITS, 0)
    for name in cache.SPLITS:
        # delay: no bar where there is nothing to wait for
        bar = tqdm(total=num_bytes[name], desc=f"Tokenising {name}", unit="B", unit_scale=True, delay=1)
        with (folder / f"{name}.bin").open("wb") as file, bar:
            for texts in _batches(documents[name]):
                ids = tokenizer.encode_documents(texts)
                file.write(ids.astype(dtype, copy=False).tobytes())
                num_documents[name] += len(texts)
                num_tokens[name] += len(ids)
                bar.update(sum(len(text.encode()) for text in texts))
    return cache.Facts(
        dtype=str(dtype),
        num_documents=num_documents,
        num_tokens=num_tokens,
        num_bytes=num_bytes,
        overlap={
            name: shared_fraction(_sample(documents[name], sizes[name]), training_pieces(documents["train"]))
            for name in HELD_OUT
        },
    )


def _sample(dataset: "Dataset", sizes: list[int]) -> list[str]:
    """Return documents drawn at random that together hold about `MEASURED_BYTES`."""
    order = random_order(len(sizes))
    count = 1 + int(np.searchsorted(np.cumsum(np.asarray(sizes)[order]), MEASURED_BYTES))
    return [text for texts in _batches(dataset.select(sorted(order[:count].tolist()))) for text in texts]


def _sizes(dataset: "Dataset") -> list[int]:
    """Return the bytes of each document."""
    batches = dataset.iter(batch_size=_DOCUMENTS_AT_ONCE)
    return [len((text or "").encode()) for batch in batches for text in batch["text"]]


def _batches(dataset: "Dataset") -> Iterator[list[str]]:
    """Yield the documents that are not empty, in lists."""
    for batch in dataset.iter(batch_size=_DOCUMENTS_AT_ONCE):
        if texts := [text for text in batch["text"] if text]:
            yield texts
