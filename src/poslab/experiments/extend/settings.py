"""Settings that give a model with RoPE more positions: which there are, and which programs serve each."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.trial import BaseTrial

from poslab.experiments.space import Space
from poslab.report.text import listed

SERVED_BY = {
    "rope_linear": "transformers, vLLM, SGLang, llama.cpp",
    "rope_ntk": "transformers, vLLM, SGLang, llama.cpp",
    "rope_dynamic_ntk": "transformers, vLLM, SGLang",
    "yarn": "transformers, vLLM, SGLang, llama.cpp",
    "llama3": "transformers, vLLM, SGLang, llama.cpp (Llama)",
    "longrope": "transformers, vLLM, SGLang, llama.cpp (Llama)",
    "rotary_proportional": "transformers 5.20",
    "self_extend": "Poslab",
    "dual_chunk": "Poslab",
}
"""Programs that compute each setting from a model's files."""

TYPES = ("rope_linear", "rope_ntk", "rope_dynamic_ntk", "yarn", "llama3")
"""Types that are searched unless others are named; divisors for each pair follow from the best of them."""


@dataclass(frozen=True)
class Setting:
    """Positions of a model, as keys of a command line: `{"encoding": "yarn", "encoding.factor": 4.0}`."""

    keys: Mapping[str, Any]
    run: str = ""  # directory of the run that trained the model further under them

    @property
    def type(self) -> str:
        return str(self.keys["encoding"])

    @property
    def label(self) -> str:
        """The setting in words, of a list of divisors only its ends."""
        values = {key.rpartition(".")[2]: value for key, value in self.keys.items() if key != "encoding"}
        divisors = values.pop("long_factors", None)
        values.pop("short_factors", None)
        words = [f"{key}={value:g}" for key, value in values.items() if value is not None]
        if divisors is not None:
            words.append(f"divisors {min(divisors):.3g} to {max(divisors):.3g}")
        words += ["trained"] if self.run else []
        return f"{self.type} ({', '.join(words)})" if words else self.type

    @property
    def identity(self) -> str:
        return json.dumps({**self.keys, **({"run": self.run} if self.run else {})}, sort_keys=True)


OWN = Setting({"encoding": "pretrained"})
"""The positions that a model has."""


def space_of(types: Sequence[str], stretch: float, context: int) -> Space:
    """Return the space of settings for `stretch` times the context, each number on a logarithmic scale.

    Factors reach from a quarter of the stretch to twice the stretch; of NTK to four times the stretch, since it divides
    only the slowest pair by its factor, and of dynamic NTK from the stretch, below which servers end before.
    """
    least = max(stretch / 4, 1.0)
    spans: dict[str, dict[str, tuple[float, float]]] = {
        "rope_linear": {"factor": (least, 2 * stretch)},
        "rope_ntk": {"factor": (least, 4 * stretch)},
        "rope_dynamic_ntk": {"factor": (stretch, 4 * stretch)},
        "yarn": {
            "factor": (least, 2 * stretch),
            "beta_fast": (4.0, 64.0),
            "beta_slow": (0.25, 3.5),
            "attention_factor": (0.9, max(1.6, 1.2 * attention_factor(stretch))),
        },
        "llama3": {
            "factor": (least, 2 * stretch),
            "low_freq_factor": (0.25, 2.0),
            "high_freq_factor": (2.5, 16.0),
        },
        "rotary_proportional": {"proportion": (0.25, 1.0)},
        "self_extend": {"group": (max(stretch, 2.0), 4 * stretch), "window": (context / 16, context / 2)},
        "dual_chunk": {},
    }
    if not types:
        raise ValueError("types must not be empty; null is the default")
    if unknown := [name for name in types if name not in spans]:
        raise ValueError(f"types must be of {listed([*spans])}, got {unknown[0]}")
    integers = ("group", "window")
    nodes: dict[str, Any] = {"encoding": {"choices": list(types)}}
    for name in types:
        for key, (low, high) in spans[name].items():
            kind, ends = ("int", [round(low), round(high)]) if key in integers else ("float", [low, high])
            nodes.setdefault(f"encoding.{key}", []).append({kind: ends, "log": True, "when": {"encoding": name}})
    return Space(nodes)


def attention_factor(stretch: float) -> float:
    """Return YaRN's attention factor."""
    return 0.1 * math.log(stretch) + 1


def suggested(space: Space, trial: BaseTrial) -> Setting:
    """Return the setting of a trial, its numbers with four digits."""
    return Setting({k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in space.suggest(trial).items()})


def defaults(types: Sequence[str], stretch: float) -> list[Setting]:
    """Return the settings that papers and servers take, which are tried first: the factor is the stretch."""
    others: dict[str, dict[str, float]] = {
        "yarn": {"beta_fast": 32.0, "beta_slow": 1.0, "attention_factor": attention_factor(stretch)},
        "rope_ntk": {},
        "rope_linear": {},
        "llama3": {"low_freq_factor": 1.0, "high_freq_factor": 4.0},
        "rope_dynamic_ntk": {},
    }
    keys = {name: {"factor": float(stretch), **others[name]} for name in others if name in types}
    return [
        Setting({"encoding": name, **{f"encoding.{key}": float(f"{value:.4g}") for key, value in of_type.items()}})
        for name, of_type in keys.items()
    ]
