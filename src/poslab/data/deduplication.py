"""Drop repeated paragraphs, the stretches between blank lines, over all documents and from held-out ones."""

import hashlib
from collections.abc import Iterable

from poslab.data.overlap import SEPARATOR, shared_bytes

PARAGRAPH_END = "\n\n"


def drop_repeated_paragraphs(documents: Iterable[str]) -> list[str]:
    """Drop paragraphs that stood before, in a document or an earlier one, and documents of nothing else.

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
    """Drop paragraphs of held-out documents that touch a 60-byte string of training, and documents of nothing else.

    Args:
        documents: held-out documents.
        training: the training text, in pieces.
    """
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
