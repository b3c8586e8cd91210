"""Search of settings: Optuna's trials under successive halving, then divisors of single pairs, then the decision."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import optuna
from optuna.pruners import SuccessiveHalvingPruner
from optuna.samplers import TPESampler
from optuna.storages import BaseStorage
from optuna.trial import Trial, TrialState

from poslab.experiments.extend.objective import Losses
from poslab.experiments.extend.settings import Setting, suggested
from poslab.experiments.space import Space

Measure = Callable[[Setting, int], Losses]
"""Measures a setting on the first items of a set."""

STARTUP_TRIALS, REDUCTION = 8, 2

MAX_OVER, MAX_LOSS = 1e3, 1e3
"""Largest price above the margin, and the weight by which one prunes a trial before any loss does."""

FIRST_STEP = 1.3
"""Factor by which the divisors of half of the pairs change at first; each halving takes its square root."""


@dataclass(frozen=True)
class Candidate:
    """A setting that was measured on all items of a set.

    Args:
        setting: positions of the model.
        losses: of the model under them.
        price: loss that they add within the old context, in nats per token; infinite if it is no number.
    """

    setting: Setting
    losses: Losses
    price: float

    @classmethod
    def of(cls, setting: Setting, losses: Losses, own: float) -> Candidate:
        """Return a candidate by the loss of the untouched model within the old context."""
        price = losses.short - own
        return cls(setting, losses, price if math.isfinite(price) else math.inf)


def rungs_of(size: int) -> list[int]:
    """Return the numbers of items on which a trial is measured, one after another: 1, 2, 4, ... and all."""
    rungs = [2**n for n in range(size.bit_length()) if 2**n < size]
    return [*rungs, size]


def search(
    name: str,
    storage: BaseStorage,
    space: Space,
    first: Sequence[Setting],
    measure: Measure,
    own: Mapping[int, float],
    margin: float,
    goes_on: Callable[[int], bool],
    seed: int,
) -> list[Candidate]:
    """Return the candidates of a study, which goes on where it was interrupted.

    Args:
        name: of the study.
        storage: of the study.
        space: of the settings.
        first: settings that are tried first.
        measure: of a setting on the first items of the set for searching.
        own: loss of the untouched model within its context, by the number of items of each rung.
        margin: largest price, in nats per token.
        goes_on: whether to begin the trial of a number.
        seed: of the sampler.
    """
    rungs = sorted(own)
    study = optuna.create_study(
        storage=storage,
        study_name=name,
        load_if_exists=True,
        pruner=SuccessiveHalvingPruner(min_resource=1, reduction_factor=REDUCTION),
    )
    # Trials of a process that was killed go on: what they have reported would prune another that repeats them.
    killed = [Trial(study, t._trial_id) for t in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))]
    for setting in first:
        study.enqueue_trial(space.defaults(setting.keys), skip_if_exists=True)

    while goes_on(number := len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)))):
        entropy = int(np.random.SeedSequence((seed, number)).generate_state(1)[0])
        study.sampler = TPESampler(seed=entropy, n_startup_trials=STARTUP_TRIALS)
        _try(study, killed.pop() if killed else study.ask(), space, measure, own, margin)
    settings = [
        suggested(space, optuna.trial.FixedTrial(trial.params))
        for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    ]
    distinct = {setting.identity: setting for setting in settings}.values()
    return [Candidate.of(setting, measure(setting, rungs[-1]), own[rungs[-1]]) for setting in distinct]


def _try(
    study: optuna.Study, trial: Trial, space: Space, measure: Measure, own: Mapping[int, float], margin: float
) -> None:
    """Measure a trial on more and more items until it is pruned, by a price above the margin before any loss."""
    setting, last = suggested(space, trial), max(own)
    reported = study.trials[trial.number].intermediate_values  # before a kill
    for rung in sorted(own):
        candidate = Candidate.of(setting, measure(setting, rung), own[rung])
        over = min(candidate.price - margin, MAX_OVER)
        if rung not in reported:
            trial.report(candidate.losses.objective + MAX_LOSS * max(over, 0.0), rung)
        is_pruned = rung < last and trial.should_prune()
        if is_pruned or rung == last:
            trial.set_constraint("price", over)
            end = {"state": TrialState.PRUNED} if is_pruned else {"values": candidate.losses.objective}
            study.tell(trial, **end)
            return


def divided(
    start: Candidate,
    divisors: Sequence[float],
    attention_factor: float,
    measure: Callable[[Setting], Losses],
    own: float,
    margin: float,
    goes_on: Callable[[], bool],
) -> Iterator[Candidate]:
    """Yield candidates whose divisors of a part of the pairs are better, by dividing and conquering.

    All divisors of a half of the pairs change by a step, then a quarter of them by a smaller one, and so on to single
    pairs. A change stays if the loss falls and the price is within the margin.

    Args:
        start: the candidate from which they start.
        divisors: of its frequencies, one for each pair.
        attention_factor: of its logits.
        measure: of a setting on all items for searching.
        own, margin: as of `search`.
        goes_on: whether to measure another.

    Source: Yang et al., DCIS: Efficient Length Extrapolation of LLMs via Divide-and-Conquer Scaling Factor Search
        (2024), arXiv 2412.18811: the idea; the steps here shrink with the parts.
    """
    best, lowest, pairs = [*divisors], start.losses.objective, len(divisors)
    parts, step = 2, FIRST_STEP
    while parts <= 2 ** math.ceil(math.log2(max(pairs, 2))):
        edges = np.unique(np.linspace(0, pairs, parts + 1).round().astype(int))
        for begin, end in pairwise(edges.tolist()):
            for factor in (step, 1 / step):
                if not goes_on():
                    return
                changed = [d * factor if begin <= n < end else d for n, d in enumerate(best)]
                setting = divisors_setting(changed, attention_factor)
                candidate = Candidate.of(setting, measure(setting), own)
                if candidate.losses.objective < lowest and candidate.price <= margin:
                    best, lowest = changed, candidate.losses.objective
                    yield candidate
                    break
        parts, step = 2 * parts, math.sqrt(step)


def divisors_setting(divisors: Sequence[float], attention_factor: float) -> Setting:
    """Return LongRoPE's form of divisors that are the same for short texts and long ones."""
    rounded = [float(f"{divisor:.6g}") for divisor in divisors]
    return Setting(
        {
            "encoding": "longrope",
            "encoding.short_factors": rounded,
            "encoding.long_factors": rounded,
            "encoding.attention_factor": float(f"{attention_factor:.6g}"),
        }
    )


def ranked(candidates: Sequence[Candidate], margin: float) -> list[Candidate]:
    """Return candidates, the best first: those within the margin by their loss, then others by their price."""

    def place(candidate: Candidate) -> tuple[bool, float]:
        is_dear = not candidate.price <= margin
        return is_dear, candidate.price if is_dear else candidate.losses.objective

    return sorted(candidates, key=place)
