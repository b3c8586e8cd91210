"""The sentences that a report begins with, made from its figures.

Values of a metric are by model and length; the length `ALL` stands for all lengths together.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from poslab.evaluation.extrapolation.length_figures import ALL
from poslab.evaluation.extrapolation.text import FAR, FEW_BEFORE, NEAR, NON_OVERLAPPING, UNIGRAM
from poslab.evaluation.scores.intervals import difference, excess, interval
from poslab.evaluation.scores.items import ItemScores
from poslab.report.sentences import amount, listed
from poslab.tasks.task import LengthWords

TOLERANCE = 0.05
"""Share by which a metric may be worse than at the training length where a model still holds."""


@dataclass(frozen=True)
class SummaryMetric:
    """The metric by which a report concludes, on the items of each length.

    Args:
        form: a value in words, such as `{} bits per byte` or `an accuracy of {} %`.
        is_share: whether it is from 0 to 100 and more is better; otherwise less is better.
        scores: by model and length.
        trained: longest length of training, by model.
        words: words for a length.
        seed: of the bootstrap.
        unlearned: why a model says nothing of longer texts, as of `why_unlearned`, by its name.
    """

    form: str
    is_share: bool
    scores: Mapping[str, Mapping[int, ItemScores]]
    trained: Mapping[str, int]
    words: LengthWords
    seed: int = 0
    unlearned: Mapping[str, str] = field(default_factory=dict)

    def shown(self, value: float) -> str:
        """Return a value as text."""
        return f"{value:,.{1 if self.is_share else 3}f}".replace("-", "−")

    def value(self, scores: ItemScores) -> str:
        """Return the value of scores in words."""
        return self.form.format(self.shown(scores.value))

    def between(self, low: float, high: float) -> str:
        """Return an interval in words; empty if there is none."""
        return "" if math.isnan(low) else f"95 % interval {self.shown(low)} to {self.shown(high)}"

    def place(self, length: int) -> str:
        """Return a length in words, with its preposition."""
        if length == ALL:
            return "over all lengths"
        trained = f", {self.training}" if set(self.trained.values()) == {length} else ""
        preposition, words = self.words.at
        return f"{preposition} {words.format(length)}{trained}"

    @property
    def training(self) -> str:
        """The length of training in words, such as `the training side`."""
        return f"the training {self.words.name}"


def conclusion(headline: SummaryMetric) -> list[str]:
    """Return the sentences: which models have not learned, the best one and by how much, and how far each holds."""
    scores = {name: own for name, own in headline.scores.items() if own}
    broken = [name for name, own in scores.items() if any(math.isnan(one.value) for one in own.values())]
    sound = {name: own for name, own in scores.items() if name not in broken}
    sentences = [f"{name} has diverged: what it predicts is not a number." for name in broken]
    sentences += [f"{name} {reason}." for name, reason in headline.unlearned.items() if name in sound]
    for length in _chosen(sound, min(headline.trained.values())):
        of_length = {name: own[length] for name, own in sound.items() if length in own}
        sentences.append((_ranking if len(of_length) > 1 else _alone)(headline, of_length, length))
    return [*sentences, *_reaches(headline, sound)]


def why_unlearned(items: Mapping[tuple[str, int], ItemScores], trained: int, seed: int = 0) -> str | None:
    """Return why it says nothing how far a model of text holds, if it has nothing to lose; None if it may have.

    In windows of the longest trained length, a model that has learned is with 95 % certainty at least `TOLERANCE`
    better than the frequencies of tokens. One that uses context is better on tokens far into a window than on its first
    ones: with 95 % certainty, or by `TOLERANCE` where the items are too few for that.

    Args:
        items: as of `Extrapolation`.
        trained: longest length of training.
        seed: of the bootstrap.
    """
    within = [length for protocol, length in items if protocol == NON_OVERLAPPING and 2 <= length <= trained]
    if not within:
        return None
    length = max(within)
    own, near, far = (items[kind, length] for kind in (NON_OVERLAPPING, NEAR, FAR))
    if (unigram := items.get((UNIGRAM, length))) is not None and not math.isnan(own.value):
        ends = excess(own, unigram, 1 - TOLERANCE, False, seed)
        too_few = math.isnan(ends[1])
        if ends[1] >= 0 or (too_few and own.value > (1 - TOLERANCE) * unigram.value):
            return (
                f"has not learned to predict this text, so how far it holds says nothing: {own.value:.3f} bits per "
                f"byte, where the frequencies of tokens alone give {unigram.value:.3f}"
            )
    _, _, high = difference(far, near, False, seed)
    if not high < 0 and far.value > (1 - TOLERANCE) * near.value:
        return (
            f"uses no context beyond {min(FEW_BEFORE, length // 2)} tokens that can be seen, so how far it holds says "
            f"nothing: {far.value:.3f} bits per byte far into a window, {near.value:.3f} at its beginning"
        )
    return None


def _chosen(sound: Mapping[str, Mapping[int, ItemScores]], trained: int) -> list[int]:
    """Return the lengths to speak of: all together or the longest trained one, and the longest that two models have."""
    counts = [length for own in sound.values() for length in own]
    lengths = sorted(length for length in set(counts) if counts.count(length) >= min(2, len(sound)))
    if not lengths:
        return []
    within = [length for length in lengths if ALL < length <= trained]
    first = ALL if ALL in lengths else (within or lengths[:1])[-1]
    return list(dict.fromkeys([first, lengths[-1]]))


def _alone(headline: SummaryMetric, scores: Mapping[str, ItemScores], length: int) -> str:
    ((name, own),) = scores.items()
    number = int((own.counts > 0).sum())
    ends = headline.between(*interval(own, headline.is_share, headline.seed))
    over = f"{ends} over {number:,} items" if ends else f"no interval: {_too_few(number)}"
    return f"{name} has {headline.value(own)} {headline.place(length)} ({over})."


def _too_few(items: int) -> str:
    return f"{amount(items, 'item')} {'is' if items == 1 else 'are'} too few"


def _ranking(headline: SummaryMetric, scores: Mapping[str, ItemScores], length: int) -> str:
    """Return the best model at a length, and by how much it is better than the next one, if it surely beats all."""
    best, *others = sorted(scores, key=lambda name: scores[name].value, reverse=headline.is_share)
    gaps = {name: _gain(headline, scores[best], scores[name]) for name in others}
    unclear = [name for name, (_, low, _) in gaps.items() if math.isnan(low) or low <= 0]
    second = (unclear or others)[0]
    found, low, high = gaps[second]
    points = " points" if headline.is_share else ""
    gap = f"{headline.shown(found)}{points} ({headline.between(low, high) or 'no interval: too few items'})"
    place = headline.place(length)
    place = f"{place[0].upper()}{place[1:]}"
    if found == low == high == 0:
        return f"{place}, {best} and {second} are alike: {headline.value(scores[best])}, and no item differs."
    if unclear:
        return (
            f"{place}, {best} next to {second} is inconclusive: {headline.value(scores[best])} and "
            f"{headline.value(scores[second])}, a difference of {gap}."
        )
    among = f" of {len(scores)}" if len(scores) > 2 else ""
    than = f"{'more' if headline.is_share else 'less'} than {second}{', the next' if among else ''}"
    return f"{place}, {best} is the best{among}: {headline.value(scores[best])}, {gap} {than}."


def _gain(headline: SummaryMetric, best: ItemScores, other: ItemScores) -> tuple[float, float, float]:
    """Return how much better the best model is than another, and the 95 % interval."""
    more, less = (best, other) if headline.is_share else (other, best)
    return difference(more, less, headline.is_share, headline.seed)


def _reaches(headline: SummaryMetric, sound: Mapping[str, Mapping[int, ItemScores]]) -> Iterator[str]:
    """Yield how far each model holds that has learned, for those with figures at a trained and at a longer length."""
    reaches: dict[tuple[str, str], list[str]] = {}
    for name, own in sound.items():
        if name in headline.unlearned:
            continue
        lengths = sorted(length for length in own if length != ALL)
        first = max((place for place, length in enumerate(lengths) if length <= headline.trained[name]), default=None)
        if first is not None and lengths[first:-1]:
            reaches.setdefault(_reach(headline, own, lengths[first:]), []).append(name)
    if reaches:
        words = [
            f"{listed(names)} {PLURAL[verb] if len(names) > 1 else verb} {reach}"
            for (verb, reach), names in reaches.items()
        ]
        means = (
            f"To hold is to be at most {TOLERANCE * 100:g} % worse than at {headline.training}, with 95 % certainty."
        )
        yield f"{'; '.join(words)}. ({means})"


PLURAL = {"holds": "hold", "does not hold": "do not hold", "is": "are"}


def _reach(headline: SummaryMetric, own: Mapping[int, ItemScores], lengths: Sequence[int]) -> tuple[str, str]:
    """Return how far a model surely holds, as a verb and the rest; the first of the lengths is the trained one."""
    reference, training = own[lengths[0]], headline.training
    if headline.is_share and reference.value == 0:
        return "is", f"never right at {training}"
    holds = [_holds(headline, own[length], reference) for length in lengths[1:]]
    last = next((place for place, sure in enumerate(holds) if not sure), len(holds))
    reach = f"up to {headline.words.at[1].format(lengths[last])}, {lengths[last] / lengths[0]:.2g} times {training}"
    if last == len(holds):
        return "holds", f"{reach}, the longest that were tested"
    if False in holds:
        length = lengths[1 + holds.index(False)]
        end = f"{headline.place(length)} ({headline.value(own[length])})"
        return ("holds", f"{reach}, but not {end}") if last else ("does not hold", end)
    following = own[lengths[last + 1]]
    number = min(int((one.counts > 0).sum()) for one in (reference, following))
    ends = headline.between(*interval(following, headline.is_share, headline.seed))
    value = f"{headline.place(lengths[last + 1])}: {headline.value(following)}{ends and f', {ends}'}"
    too_few = f"{_too_few(number)} to tell ({value})"
    return (
        ("holds", f"{reach}, beyond which {too_few}")
        if last
        else ("is", f"not known to hold beyond {training}: {too_few}")
    )


def _holds(headline: SummaryMetric, scores: ItemScores, reference: ItemScores) -> bool | None:
    """Return whether scores are at most 5 % worse than those at the training length; None if that is not certain."""
    sign = -1 if headline.is_share else 1
    ends = excess(scores, reference, 1 + sign * TOLERANCE, headline.is_share, headline.seed)
    if max(sign * end for end in ends) <= 0:
        return True
    return False if min(sign * end for end in ends) > 0 else None
