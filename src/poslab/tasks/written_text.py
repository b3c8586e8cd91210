"""BLEU, chrF, ROUGE and exact match of texts that a model has written, each from 0 to 100."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import regex
from torchmetrics.functional.text import rouge_score

UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"
"""Scripts that put no space between words: each of their characters counts as a word, as is usual for Chinese."""

WORD = regex.compile(rf"(?V1){UNSPACED}\p{{M}}*|[[\p{{L}}\p{{N}}\p{{M}}]--{UNSPACED}]+")

ROUGE = {"rouge_1": "rouge1", "rouge_2": "rouge2", "rouge_l": "rougeL"}


class WrittenText(NamedTuple):
    """A text that a model has written beside the right one, with what is measured of the two alone, 0 to 100."""

    text: str
    reference: str
    rouge_1: float
    rouge_2: float
    rouge_l: float
    exact_match: float


def compare(text: str, reference: str) -> WrittenText:
    """Compare a text with the right one: ROUGE-1, 2 and L (F measure), and exact match, outer white space aside.

    Case and punctuation count nothing in ROUGE. Texts of ASCII letters have the words of Google's `rouge-score`, which
    drops all other letters; here those of every script count.

    Source: Lin, "ROUGE: A Package for Automatic Evaluation of Summaries" (2004).
    """
    found = rouge_score(text, reference, rouge_keys=tuple(ROUGE.values()), normalizer=str.lower, tokenizer=WORD.findall)
    rouge = {name: 100 * found[f"{key}_fmeasure"].item() for name, key in ROUGE.items()}
    return WrittenText(text, reference, **rouge, exact_match=100.0 * (text.strip() == reference.strip()))


def corpus_figures(texts: Sequence[WrittenText]) -> dict[str, float]:
    """Return sacrebleu's BLEU and chrF of the whole corpus, with its defaults, and the means of the other figures.

    Args:
        texts: all of them, at least one, in any order.
    """
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    written, references = [one.text for one in texts], [[one.reference for one in texts]]
    means = {name: sum(getattr(one, name) for one in texts) / len(texts) for name in (*ROUGE, "exact_match")}
    return {
        "bleu": BLEU(force=True).corpus_score(written, references).score,  # force: no advice on tokenised texts
        "chrf": CHRF().corpus_score(written, references).score,
        **means,
    }
