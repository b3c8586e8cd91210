"""Classes of transformers that are a model under the encoding which its `config.json` describes."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

from poslab.pretrained.borrow import ExchangeInPlace, encodings_of
from poslab.pretrained.directory import require_transformers
from poslab.pretrained.families import FAMILIES, PREFIX

REMOTE_FILE = "modeling_poslab.py"

AUTO_CLASSES = (
    *("AutoModel", "AutoModelForCausalLM", "AutoModelForMaskedLM", "AutoModelForSequenceClassification"),
    *("AutoModelForTokenClassification", "AutoModelForQuestionAnswering"),
)
"""Classes of transformers that choose a model by its configuration."""

REMOTE_CODE = '''\
"""Models under an encoding of Poslab, which config.json describes. They need Poslab (pip install poslab).

    AutoModel.from_pretrained(directory, trust_remote_code=True)

loads them. After `poslab.pretrained.register()` it does so without trust_remote_code, and this file is not read.
"""

from poslab.pretrained.exchanged_classes import config_class, model_classes

{config} = config_class("{model_type}")
{models}
'''


def register() -> None:
    """Let `AutoModel.from_pretrained` and its siblings load models that were exported under an encoding of Poslab.

    Raises:
        ValueError: without transformers, or with another version of it.
    """
    require_transformers("poslab.pretrained.register")
    from transformers import AutoConfig

    for model_type in FAMILIES:
        AutoConfig.register(PREFIX + model_type, config_class(model_type), exist_ok=True)


@cache
def config_class(model_type: str) -> type:
    """Return the class of configurations of a family of models under an encoding."""
    import transformers

    base: Any = transformers.CONFIG_MAPPING[model_type]

    class Config(base):
        def __post_init__(self, **others: Any) -> None:
            super().__post_init__(**others)
            for auto, model in model_classes(model_type).items():
                getattr(transformers, auto).register(type(self), model, exist_ok=True)

        @classmethod
        def register_for_auto_class(cls, auto_class: Any = None) -> None:
            """Leave the configuration unchanged: this module is not the file to save with it."""

    return _named(Config, base, model_type=PREFIX + model_type)


@cache
def model_classes(model_type: str) -> dict[str, Any]:
    """Return the classes of models of a family under an encoding, by the class of transformers that chooses them."""
    import transformers

    base_config = transformers.CONFIG_MAPPING[model_type]
    mappings = {name: getattr(transformers, name)._model_mapping for name in AUTO_CLASSES}
    return {name: model_class(mappings[name][base_config]) for name in mappings if base_config in mappings[name]}


@cache
def model_class(base: Any) -> Any:
    """Return the class of a model of transformers under an encoding."""
    model_type = base.config_class.model_type

    class UnderEncoding(base):
        config_class = config_class(model_type)

        def __init__(self, config: Any, *positional: Any, **named: Any) -> None:
            super().__init__(config, *positional, **named)
            family = FAMILIES[model_type]
            with torch.device("cpu"):  # transformers makes models without memory, and encodings compute
                encodings = encodings_of(config.poslab, partial(family.shape, config))
            # In the base model, so that its weights have the same names in a model with a head.
            ExchangeInPlace(self.base_model, family, encodings.train(self.training))

        @classmethod
        def register_for_auto_class(cls, auto_class: Any = None) -> None:
            """Leave the class unchanged: this module is not the file to save with it."""

        def save_pretrained(self, save_directory: Any, *positional: Any, **named: Any) -> None:
            super().save_pretrained(save_directory, *positional, **named)
            lines = [
                f'{model.__name__} = model_classes("{model_type}")["{auto}"]'
                for auto, model in model_classes(model_type).items()
            ]
            config = config_class(model_type).__name__
            code = REMOTE_CODE.format(config=config, model_type=model_type, models="\n".join(lines))
            (Path(save_directory) / REMOTE_FILE).write_text(code)

    return _named(UnderEncoding, base)


def under_encoding(config: Any, description: dict[str, Any]) -> Any:
    """Return a configuration of transformers with a description of the encodings that models of it are under."""
    new_class = config_class(config.model_type)
    classes = {"AutoConfig": new_class, **model_classes(config.model_type)}
    module = REMOTE_FILE.removesuffix(".py")
    auto_map = {auto: f"{module}.{of_auto.__name__}" for auto, of_auto in classes.items()}
    values = {key: value for key, value in config.to_dict().items() if key not in ("model_type", "architectures")}
    return new_class(**values, poslab=description, auto_map=auto_map)


def _named(made: Any, base: Any, **attributes: Any) -> Any:
    """Give a class the name of its base with Poslab before it, and attributes; return it."""
    made.__name__ = made.__qualname__ = f"Poslab{base.__name__}"
    made.__doc__ = f"`{base.__name__}` under the encoding that its configuration describes."
    for name, value in attributes.items():
        setattr(made, name, value)
    return made
