"""BLEU, chrF, ROUGE and exact match of texts that a model has written, each 0 to 100."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import regex
from torchmetrics.functional.text import rouge_score

if TYPE_CHECKING:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"
"""Scripts that put no space between words: each of their characters counts as a word, as is usual for Chinese."""

WORD = regex.compile(rf"(?V1){UNSPACED}\p{{M}}*|[[\p{{L}}\p{{N}}\p{{M}}]--{UNSPACED}]+")

ROUGE = {"rouge_1": "rouge1", "rouge_2": "rouge2", "rouge_l": "rougeL"}

MEANS = (*ROUGE, "exact_match")
"""The metrics of a corpus that are means over its texts."""


class Comparison(NamedTuple):
    """The likeness of a written text to the right one.

    Args:
        bleu, chrf: sacrebleu's counts, whose sums over all texts give the metrics of the corpus.
        rouge_1, rouge_2, rouge_l: F measures, 0 to 100.
        exact_match: 0 or 100.
    """

    bleu: list[int]
    chrf: list[int]
    rouge_1: float
    rouge_2: float
    rouge_l: float
    exact_match: float


def compare(text: str, reference: str) -> Comparison:
    """Compare a text with the right one; an exact match ignores outer white space.

    ROUGE ignores case and punctuation. Texts of ASCII letters have the words of Google's `rouge-score`, which drops all
    other letters; here those of every script count.

    Source: Lin, "ROUGE: A Package for Automatic Evaluation of Summaries" (2004).
    """
    found = rouge_score(text, reference, rouge_keys=tuple(ROUGE.values()), normalizer=str.lower, tokenizer=WORD.findall)
    rouge = {name: 100 * found[f"{key}_fmeasure"].item() for name, key in ROUGE.items()}
    # sacrebleu's own `corpus_score` is these two steps in one, and holds the n-grams of all texts together: 0.5 GB of
    # 10,000 short ones.
    bleu, chrf = (metric._extract_corpus_statistics([text], [[reference]])[0] for metric in _metrics())
    return Comparison(bleu, chrf, **rouge, exact_match=100.0 * (text.strip() == reference.strip()))


def corpus_scores(comparisons: Sequence[Comparison]) -> dict[str, float]:
    """Return sacrebleu's BLEU and chrF of one or more texts, with its defaults, and the means of the other metrics."""
    bleu, chrf = _metrics()
    means = {name: sum(getattr(one, name) for one in comparisons) / len(comparisons) for name in MEANS}
    return {
        "bleu": bleu._aggregate_and_compute([one.bleu for one in comparisons]).score,
        "chrf": chrf._aggregate_and_compute([one.chrf for one in comparisons]).score,
        **means,
    }


@cache
def _metrics() -> tuple[BLEU, CHRF]:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    return BLEU(force=True), CHRF()  # force: no advice on texts that look tokenised
