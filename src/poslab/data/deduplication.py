"""Drop repeated paragraphs, the stretches between blank lines, over all documents and from held-out ones."""

import hashlib
from collections.abc import Iterable

from poslab.data.overlap import SEPARATOR, shared_bytes

PARAGRAPH_END = "\n\n"


class RepeatedParagraphs:
    """The paragraphs of all documents so far, to drop their repetitions.

    Example: `a / b / a` becomes `a / b`, and a document `b / c` after it becomes `c`.
    """

    def __init__(self) -> None:
        self._seen: set[bytes] = set()

    def drop_from(self, document: str) -> str:
        """Return a document without the paragraphs that stood in it or an earlier one before."""
        return PARAGRAPH_END.join(p for p in document.split(PARAGRAPH_END) if self._is_new(p.strip()))

    def _is_new(self, paragraph: str) -> bool:
        digest = hashlib.blake2b(paragraph.encode(), digest_size=16).digest()
        if not paragraph or digest in self._seen:
            return False
        self._seen.add(digest)
        return True


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
