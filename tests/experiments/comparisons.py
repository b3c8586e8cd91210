"""A comparison, and its plan, for the tests of this folder."""

from __future__ import annotations

from typing import Any

from poslab.experiments.comparison import Comparison
from poslab.experiments.mistakes import checked
from poslab.experiments.plan import CellPlan

COPYING = {"train": {"experiment": "small", "dataset": "copy"}}

TUNING = {"metric": "loss", "direction": "minimize", "space": {"optimizer.lr": [1e-3, 2e-3, 4e-3]}}


def comparison(**changes: Any) -> Comparison:
    """A comparison of three encodings on one case with two seeds, unless said otherwise."""
    node: dict[str, Any] = {
        "name": "question",
        "question": "Does it work?",
        "baseline": "rotary",
        "encodings": ["none", "rotary", {"name": "slow", "encoding": "rotary", "encoding.base": 1000}],
        "cases": {"copying": COPYING},
        "metrics": {"exact_match@beyond": {"direction": "maximize", "margin": 2}},
        "seeds": 2,
        "output": "outputs/comparisons/question",
    }
    return checked(Comparison(**{**node, **changes}))


def plan(**changes: Any) -> CellPlan:
    """The plan of such a comparison, at lengths 10 and 20, trained up to 10."""
    made = comparison(**changes)
    definitions = {f"{case}/{name}": 1 for case, name in made.pairs}
    return CellPlan(made, definitions, {case: [10, 20] for case in made.cases}, dict.fromkeys(made.cases, 10))
