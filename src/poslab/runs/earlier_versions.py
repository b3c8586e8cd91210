"""Configurations of runs by earlier versions, translated to this one."""

from __future__ import annotations

import re
from typing import Any

MOVED = {
    "poslab.training.settings.TrainerSettings": "poslab.runs.trainer_settings.TrainerSettings",
    "poslab.training.optimizer.AdamWithCosine": "poslab.runs.optimizers.AdamW",
    "poslab.runs.optimizer.AdamWithCosine": "poslab.runs.optimizers.AdamW",
}
"""Classes of a `_target_` by their earlier places."""

OFFLINE = (
    *("bbc_headlines", "bbc_topics", "dialogue_pairs", "film_sentiment", "gettext_messages", "manual_pages"),
    *("movie_dialogue", "question_types", "sms_spam", "tweet_sentiment"),
)
"""Modules of `data.offline`, which were in `data.examples`."""

ADDED: dict[str, Any] = {
    "adapt": {"_target_": "poslab.models.adaptation.Full"},
    "objective": {"_target_": "poslab.runs.steps.OwnLoss"},
    "step": {"_target_": "poslab.runs.steps.Standard"},
    "start": {"_target_": "poslab.runs.start.Fresh"},
    "callbacks": {},
    "logger": {
        "tensorboard": {"_target_": "poslab.training.loggers.RunTensorBoard"},
        "csv": {"_target_": "poslab.training.loggers.MetricsCsv"},
    },
}
"""Groups that came later, with what a run without them does."""

REMOVED = {
    "poslab.data.examples.grade_school_math.GradeSchoolMath": (
        "it trained on the published test of GSM8K, and was removed after version 0.1.0; dataset=gsm8k trains on its "
        "training part"
    ),
}
"""Removed classes, and why."""


def migrate_config(node: Any) -> Any:
    """Return a configuration with classes named by their present places.

    Raises:
        ValueError: naming a class that was removed.
    """
    if isinstance(node, dict):
        moved = {key: migrate_config(value) for key, value in node.items()}
        name = moved.get("_target_")
        return moved if not isinstance(name, str) else {**moved, "_target_": _name_of_now(name)}
    return [migrate_config(item) for item in node] if isinstance(node, list) else node


def _name_of_now(name: str) -> str:
    if name in REMOVED:
        raise ValueError(f"{name}: {REMOVED[name]}")
    name = re.sub(r"(?<=^poslab\.data\.algorithmic\.)(regular|context_free|context_sensitive)\.\w+", "chomsky", name)
    name = re.sub(r"(?<=^poslab\.data\.algorithmic\.)length_generalization\.(scan|pcfg)\b", "compositional", name)
    name = re.sub(r"(?<=^poslab\.data\.algorithmic\.)(recall|length_generalization)\.[a-z]\w*", r"\1", name)
    package, _, rest = name.partition("poslab.data.examples.")
    is_offline = not package and rest.partition(".")[0] in OFFLINE
    return f"poslab.data.offline.{rest}" if is_offline else MOVED.get(name, name)
