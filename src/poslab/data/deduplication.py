"""Repeated text: dropped once over all documents, and once more from what is held out.

A paragraph is what stands between blank lines.
"""

import hashlib
from collections.abc import Iterable

from poslab.data.overlap import SEPARATOR, shared_bytes

PARAGRAPH_END = "\n\n"


class RepeatedParagraphs:
    """Drops every paragraph that stood in this or an earlier document; keeps the first one of its kind.

    Example: `a / b / a` becomes `a / b`, and a document `b / c` after it becomes `c`.
    """

    def __init__(self) -> None:
        self._seen: set[bytes] = set()

    def drop_from(self, document: str) -> str:
        """The document without the paragraphs that were seen before."""
        return PARAGRAPH_END.join(p for p in document.split(PARAGRAPH_END) if self._is_new(p.strip()))

    def _is_new(self, paragraph: str) -> bool:
        digest = hashlib.blake2b(paragraph.encode(), digest_size=16).digest()
        if not paragraph or digest in self._seen:
            return False
        self._seen.add(digest)
        return True


def drop_shared_paragraphs(documents: list[str], training: Iterable[bytes]) -> list[str]:
    """Held-out documents without any paragraph that touches a 60-byte string which training holds too.

    Args:
        documents: held-out documents.
        training: the training text, in pieces.

    Returns: what is left of the documents, in order; a document of which nothing is left is dropped.
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
