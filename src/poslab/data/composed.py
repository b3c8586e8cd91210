"""A configuration that Hydra has composed, as plain data in which nothing is left to be worked out."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, OmegaConf

from poslab.configuration.build import build


def resolved(composed: DictConfig) -> dict[str, Any]:
    """Return a composed configuration with its interpolations resolved.

    Where the sequence length of an algorithmic dataset is null, it becomes that of the task's longest training example,
    which encodings then follow too. Classes are built as far as the key `trust` allows, so that it must be the user's.

    Raises:
        ValueError: naming the full key, if the dataset cannot be built.
    """
    if OmegaConf.select(composed, "dataset.task") and composed.dataset.get("sequence_length", 0) is None:
        from poslab.data.algorithmic.examples import AlgorithmicExamples

        trust, dataset = (OmegaConf.to_container(composed[key], resolve=True) for key in ("trust", "dataset"))
        assert isinstance(dataset, dict)
        node = {key: value for key, value in dataset.items() if key != "sequence_length"}
        source: AlgorithmicExamples = build(
            {"trust": trust, "dataset": node}, "dataset", AlgorithmicExamples, sequence_length=0
        )
        composed.dataset.sequence_length = source.most_tokens_trained
    config = OmegaConf.to_container(composed, resolve=True)
    assert isinstance(config, dict)
    return {str(key): value for key, value in config.items()}
