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

FIRST_STEP = 1.3
"""Factor by which the divisors of half of the pairs change at first; each halving takes its square root."""


@dataclass(frozen=True)
class Candidate:
    """A setting that was measured on all items of a set.

    Args:
        setting: positions of the model.
        losses: of the model under them.
        price: loss that they add within the old context, in nats per token.
    """

    setting: Setting
    losses: Losses
    price: float


def rungs_of(size: int) -> list[int]:
    """Return the numbers of items on which a trial is measured before it is: 1, 2, 4, ... and all."""
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
    known = study.get_trials(deepcopy=False)
    if not known:
        for setting in first:
            study.enqueue_trial(space.defaults(setting.keys))
    for trial in known:
        if trial.state == TrialState.RUNNING:  # its process was killed; what it measured is kept
            study.tell(trial.number, state=TrialState.FAIL)
            study.enqueue_trial(trial.params)

    candidates: list[Candidate] = []
    while goes_on(len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)))):
        number = len(study.get_trials(deepcopy=False))
        entropy = int(np.random.SeedSequence((seed, number)).generate_state(1)[0])
        study.sampler = TPESampler(seed=entropy, n_startup_trials=STARTUP_TRIALS)
        _try(study, study.ask(), space, measure, rungs, own, margin)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        setting = suggested(space, optuna.trial.FixedTrial(trial.params))
        losses = measure(setting, rungs[-1])
        candidates.append(Candidate(setting, losses, losses.short - own[rungs[-1]]))
    return candidates


def _try(
    study: optuna.Study,
    trial: Trial,
    space: Space,
    measure: Measure,
    rungs: Sequence[int],
    own: Mapping[int, float],
    margin: float,
) -> None:
    setting = suggested(space, trial)
    for rung in rungs:
        losses = measure(setting, rung)
        trial.report(losses.objective, rung)
        is_pruned = rung < rungs[-1] and trial.should_prune()
        if is_pruned or rung == rungs[-1]:
            trial.set_constraint("price", losses.short - own[rung] - margin)
            study.tell(trial, **({"state": TrialState.PRUNED} if is_pruned else {"values": losses.objective}))
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
        (2024), arXiv 2412.18811, section 3; as there, but with steps that shrink with the parts.
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
                losses = measure(setting)
                if losses.objective < lowest and losses.short - own <= margin:
                    best, lowest = changed, losses.objective
                    yield Candidate(setting, losses, losses.short - own)
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


def decided(candidates: Sequence[Candidate], margin: float) -> Candidate:
    """Return the candidate of the lowest loss whose price is within the margin; of the lowest price if none is."""
    affordable = [candidate for candidate in candidates if candidate.price <= margin]
    if affordable:
        return min(affordable, key=lambda candidate: candidate.losses.objective)
    return min(candidates, key=lambda candidate: candidate.price)
