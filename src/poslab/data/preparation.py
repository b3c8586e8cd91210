"""Documents as token files: drop repeated text, split, tokenise, and measure the overlap; for `Corpus.prepare`."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from poslab.arguments import with_checked_arguments
from poslab.data import cache
from poslab.data.columns import as_examples
from poslab.data.overlap import SEPARATOR, shared_bytes, shared_fraction
from poslab.data.source import BUILT_IN_TOKENIZERS, HELD_OUT, LEARNED_TOKENIZERS, SPLITS, Source
from poslab.data.splitting import cut, hold_out, join_neighbours, number_of_parts, random_order, spread_order
from poslab.data.tokenizers import ByteTokenizer, SubwordTokenizer, Tokenizer, load_tokenizer

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

# Raise it with every change of the tokens of the same text, or of their files: old ones are then not found.
VERSION = 4
# The overlap is measured on this much of a held-out split, drawn by document, with all of training.
MEASURED_BYTES = 1 << 20
PARAGRAPH_END = "\n\n"
_DOCUMENTS_AT_ONCE = 1000


@with_checked_arguments
@dataclass(frozen=True)
class TextFacts:
    """Facts of prepared text, by split where they are a dictionary."""

    dtype: str  # of the token arrays
    num_documents: dict[str, cache.Number]
    num_tokens: dict[str, cache.Number]
    num_bytes: dict[str, cache.Number]  # of the text in UTF-8
    # share of the bytes of `validation` and `test` inside 60-byte strings that training contains too
    overlap: dict[str, cache.Share]

    def __post_init__(self) -> None:
        cache.require_splits(SPLITS, self.num_documents, self.num_tokens, self.num_bytes)
        cache.require_splits(HELD_OUT, self.overlap)


def check_tokens(folder: Path) -> None:
    """Raise ValueError unless a folder has as many tokens as its facts say, of its own vocabulary."""
    facts, vocab_size = cache.read_facts(folder, TextFacts), load_tokenizer(folder).vocab_size
    for name in SPLITS:
        path, count = folder / f"{name}.bin", facts.num_tokens[name]
        if (
            facts.dtype != str(np.min_scalar_type(vocab_size - 1))
            or path.stat().st_size != count * np.dtype(facts.dtype).itemsize
        ):
            raise ValueError(f"{path} does not contain what {cache.FACTS} says")
        if count and cache.TokenFile(path, facts.dtype).ids.max() >= vocab_size:
            raise ValueError(f"{path} contains tokens that are not of its vocabulary")


def tokenizer_settings(source: Source) -> dict[str, object]:
    """Return all settings that decide which tokenizer is made."""
    if source.tokenizer in LEARNED_TOKENIZERS:
        return {"tokenizer": source.tokenizer, "vocab_size": source.vocab_size}
    if source.tokenizer in BUILT_IN_TOKENIZERS:
        return {"tokenizer": source.tokenizer}
    content = hashlib.sha256(Path(source.tokenizer).expanduser().read_bytes()).hexdigest()
    return {"tokenizer": content, "starts": "by template"}


def make_tokenizer(source: Source, training: Iterator[list[str]]) -> Tokenizer:
    """Return the tokenizer that the user named, perhaps trained only on the training split, in lists of texts."""
    if source.tokenizer == "bytes":
        return ByteTokenizer()
    if source.tokenizer in LEARNED_TOKENIZERS:
        return SubwordTokenizer.train(training, source.vocab_size, single_digits=source.tokenizer == "bpe_digits")
    return SubwordTokenizer.from_file(source.tokenizer)


def drop_repeated_paragraphs(documents: Iterable[str]) -> list[str]:
    """Drop paragraphs that were before, in a document or an earlier one, and documents of nothing else.

    Example: `a / b / a` becomes `a / b`, and a document `b / c` after it becomes `c`.
    """
    kept, seen = [], set[bytes]()
    for document in documents:
        paragraphs = []
        for paragraph in document.split(PARAGRAPH_END):
            digest = hashlib.blake2b(paragraph.strip().encode(), digest_size=16).digest()
            if paragraph.strip() and digest not in seen:
                seen.add(digest)
                paragraphs.append(paragraph)
        if paragraphs:
            kept.append(PARAGRAPH_END.join(paragraphs))
    return kept


def drop_shared_paragraphs(documents: list[str], training: Iterable[bytes]) -> list[str]:
    """Drop paragraphs of held-out documents that touch a 60-byte string of training, and documents of nothing else."""
    encoded = [document.encode() for document in documents]
    shared = shared_bytes(SEPARATOR.join(encoded), training)
    kept, start = [], 0
    for document in encoded:
        paragraphs = []
        for paragraph in document.split(PARAGRAPH_END.encode()):
            if not shared[start : start + len(paragraph)].any():
                paragraphs.append(paragraph)
            start += len(paragraph) + len(PARAGRAPH_END)
        start += len(SEPARATOR) - len(PARAGRAPH_END)
        text = PARAGRAPH_END.join(p.decode() for p in paragraphs)
        if text.strip():
            kept.append(text)
    return kept


def training_pieces(training: "Dataset") -> Iterator[bytes]:
    """Return the training text in pieces, for `overlap.py`."""
    return (SEPARATOR.join(text.encode() for text in texts) for texts in batches(training))


def split_documents(
    documents: "dict[str, Dataset]", deduplicate: bool, fractions: Mapping[str, float], part_length: int | None
) -> "dict[str, Dataset]":
    """Hold out the splits that are missing, of whole documents, and drop repeated text if wanted.

    Where documents are too few, `part_length` is given: they are cut first, into parts of at least so many tokens.
    """
    if deduplicate:
        texts = {name: chain.from_iterable(batches(dataset)) for name, dataset in documents.items()}
        documents = {name: as_examples(text=drop_repeated_paragraphs(of_split)) for name, of_split in texts.items()}
    training, missing = documents["train"], {name: x for name, x in fractions.items() if name not in documents}
    if missing and part_length is None:
        chosen = hold_out(_sizes(training), random_order(training.num_rows), missing)
        documents = documents | {name: training.select(rows) for name, rows in chosen.items()}
    elif missing and part_length is not None:
        texts_of_training = training["text"][:]
        num_parts = number_of_parts(sum(map(len, texts_of_training)), part_length, min(missing.values()))
        parts = cut(texts_of_training, num_parts)
        chosen = hold_out([len(part.text) for part in parts], spread_order(len(parts)), missing)
        documents = documents | {name: as_examples(text=join_neighbours(parts, rows)) for name, rows in chosen.items()}
    if deduplicate:
        for name in HELD_OUT:
            shared = training_pieces(documents["train"])
            documents[name] = as_examples(text=drop_shared_paragraphs(documents[name]["text"][:], shared))
    return documents


def write_text(source: Source, documents: "dict[str, Dataset]", folder: Path) -> None:
    """Write the tokens of each split into a folder, their tokenizer, and what there is to know of them."""
    from datasets.utils import tqdm

    tokenizer = make_tokenizer(source, batches(documents["train"]))
    tokenizer.save(folder)
    dtype = np.min_scalar_type(tokenizer.vocab_size - 1)
    sizes = {name: _sizes(documents[name]) for name in SPLITS}
    num_bytes = {name: sum(sizes[name]) for name in SPLITS}
    num_tokens = dict.fromkeys(SPLITS, 0)
    for name in SPLITS:
        # delay: no bar where there is nothing to wait for
        bar = tqdm(total=num_bytes[name], desc=f"Tokenising {name}", unit="B", unit_scale=True, delay=1)
        with (folder / f"{name}.bin").open("wb") as file, bar:
            for texts in batches(documents[name]):
                ids = tokenizer.encode_documents(texts)
                file.write(ids.astype(dtype, copy=False).tobytes())
                num_tokens[name] += len(ids)
                bar.update(sum(len(text.encode()) for text in texts))
    facts = TextFacts(
        dtype=str(dtype),
        num_documents={name: int(np.count_nonzero(sizes[name])) for name in SPLITS},
        num_tokens=num_tokens,
        num_bytes=num_bytes,
        overlap={
            name: shared_fraction(_sample(documents[name], sizes[name]), training_pieces(documents["train"]))
            for name in HELD_OUT
        },
    )
    cache.write_facts(folder, facts)


def _sample(dataset: "Dataset", sizes: list[int]) -> list[str]:
    """Return documents drawn at random that together have about `MEASURED_BYTES`."""
    order = random_order(len(sizes))
    count = 1 + int(np.searchsorted(np.cumsum(np.asarray(sizes)[order]), MEASURED_BYTES))
    return [text for texts in batches(dataset.select(sorted(order[:count].tolist()))) for text in texts]


def _sizes(dataset: "Dataset") -> list[int]:
    """Return the bytes of each document."""
    batches = dataset.iter(batch_size=_DOCUMENTS_AT_ONCE)
    return [len((text or "").encode()) for batch in batches for text in batch["text"]]


def batches(dataset: "Dataset | IterableDataset", size: int = _DOCUMENTS_AT_ONCE) -> Iterator[list[str]]:
    """Yield the documents that are not empty, in lists of at most so many."""
    for batch in dataset.iter(batch_size=size):
        if texts := [text for text in batch["text"] if text]:
            yield texts
