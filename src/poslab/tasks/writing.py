"""Texts that a model writes token by token, and their metrics: BLEU, chrF, ROUGE and exact match, each 0 to 100.

Dimension letters: B texts, T tokens, S source tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import regex
import torch
from torchmetrics.functional.text import rouge_score

from poslab.data.tokenizers import Tokenizer
from poslab.generation.beam_search import Continuation, beam_search
from poslab.models import Model
from poslab.tasks.task import Prediction, Search, device_of

if TYPE_CHECKING:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"
"""Scripts that put no space between words: each of their characters counts as a word, as is usual for Chinese."""

WORD = regex.compile(rf"(?V1){UNSPACED}\p{{M}}*|[[\p{{L}}\p{{N}}\p{{M}}]--{UNSPACED}]+")

ROUGE = {"rouge_1": "rouge1", "rouge_2": "rouge2", "rouge_l": "rougeL"}

MEANS = (*ROUGE, "exact_match")
"""The metrics of a corpus that are means over its texts."""


@torch.no_grad()
def written(model: Model, tokenizer: Tokenizer, source: Sequence[int], search: Search) -> Prediction:
    """Return the text that a model writes from a source.

    Args:
        model: in evaluation mode; one that declares `source` reads it, any other continues it.
        tokenizer: of the model.
        source: token ids, with the token that ends it.
        search: settings of the search for the most probable text.

    Raises:
        ValueError: if the source leaves no room in the positions of the model.
    """
    read = torch.tensor([[*source]], device=device_of(model))
    has_source, most = "source" in model.capabilities, search.max_new_tokens
    if model.max_length is not None:
        room = model.max_length - (0 if has_source else read.shape[1])
        if room < 1 or read.shape[1] > model.max_length:
            raise ValueError(
                f"prompt must leave room in the {model.max_length} positions at which the model's encoding ends, "
                f"got {read.shape[1]} tokens"
            )
        most = min(most, room)
    end = tokenizer.end_id
    decoding = model.begin(read) if has_source else Continuation(model)
    first = torch.full((1, 1), end, device=read.device) if has_source else read
    (tokens,) = beam_search(
        decoding, first, beams=search.beams, length_penalty=search.length_penalty, max_new_tokens=most, end_id=end
    )
    return Prediction(tokenizer.decode(tokens.tolist()).strip())


def encoded(tokenizer: Any, text: str) -> list[int]:
    """Return the tokens of a prompt; ValueError for symbols that its task does not have."""
    try:
        tokens: list[int] = tokenizer.encode(text).tolist()
    except ValueError as error:
        raise ValueError(f"prompt: {error}") from error
    return tokens


class Likeness(NamedTuple):
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


def compare(text: str, reference: str) -> Likeness:
    """Compare a text with the right one; an exact match ignores outer white space.

    ROUGE ignores case and punctuation. Texts of ASCII letters have the words of Google's `rouge-score`, which drops all
    other letters; here those of every script count.

    Source: Lin, "ROUGE: A Package for Automatic Evaluation of Summaries" (2004).
    """
    keys = tuple(ROUGE.values())
    scores = rouge_score(text, reference, rouge_keys=keys, normalizer=str.lower, tokenizer=WORD.findall)
    rouge = {name: 100 * scores[f"{key}_fmeasure"].item() for name, key in ROUGE.items()}
    # sacrebleu's own `corpus_score` is these two steps in one, and holds the n-grams of all texts together: 0.5 GB of
    # 10,000 short ones.
    bleu, chrf = (metric._extract_corpus_statistics([text], [[reference]])[0] for metric in _metrics())
    return Likeness(bleu, chrf, **rouge, exact_match=100.0 * (text.strip() == reference.strip()))


def corpus_scores(comparisons: Sequence[Likeness]) -> dict[str, float]:
    """Return sacrebleu's BLEU and chrF of one or more texts, with its defaults, and the means of the other metrics."""
    bleu, chrf = _metrics()
    means = {name: sum(getattr(comparison, name) for comparison in comparisons) / len(comparisons) for name in MEANS}
    return {
        "bleu": bleu._aggregate_and_compute([comparison.bleu for comparison in comparisons]).score,
        "chrf": chrf._aggregate_and_compute([comparison.chrf for comparison in comparisons]).score,
        **means,
    }


@cache
def _metrics() -> tuple[BLEU, CHRF]:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    return BLEU(force=True), CHRF()  # force: no advice on texts that look tokenised
