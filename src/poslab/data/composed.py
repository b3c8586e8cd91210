"""Check that the choices Hydra composed go together, and resolve them into plain data."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from poslab.configuration.build import build


def resolved(composed: DictConfig) -> dict[str, Any]:
    """Return a composed configuration with its interpolations resolved.

    Where the sequence length of an algorithmic dataset is null, it becomes that of the task's longest training example,
    which encodings then follow too. The key `trust` decides which classes are built, so it must be the user's.

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


def check_experiment(conf: Path, choices: Mapping[str, Any]) -> None:
    """Raise ValueError if an experiment has settings for families of datasets, and the dataset is of another.

    Args:
        conf: the folder of configurations.
        choices: by group, as Hydra has them.
    """
    experiment, family = choices.get("experiment"), choices.get("family")
    if str(experiment).startswith(("families/", "datasets/")):
        raise ValueError(f"experiment={experiment} is a part of experiments, and not one itself")
    files = sorted((conf / "experiment" / "families").glob(f"{experiment}_*.yaml"))
    if files and family not in (families := [file.stem.removeprefix(f"{experiment}_") for file in files]):
        raise ValueError(
            f"experiment={experiment} must go with a dataset of {' or '.join(families)}, got "
            f"dataset={choices.get('dataset')}: python -m src.train --help dataset lists them"
        )
