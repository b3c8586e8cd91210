"""The encodings that conf/encoding offers, and small models with them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from poslab.encodings import EncodingFactory, PositionalEncoding, StackEncodings, StackShape, TemperatureFactory
from poslab.models import Decoder
from tests.stacked import stacked

CONF = Path(__file__).parents[1] / "conf"
VOCAB_SIZE, DIGITS = 50, tuple(range(25))


@cache
def composed(*overrides: str) -> DictConfig:
    """The configuration of these choices under conf/, with a training length of 512."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", overrides=["dataset.sequence_length=512", *overrides])


@cache
def _choices(group: str) -> DictConfig:
    """All choices of a group by name, composed at once: several times as fast as one by one."""
    names = [path.stem for path in (CONF / group).glob("*.yaml")]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(overrides=["+dataset.sequence_length=512", *(f"+{group}@{name}={name}" for name in names)])


def choice(group: str, name: str) -> DictConfig:
    """The configuration of a choice such as rotary of encoding, for a training length of 512."""
    chosen: DictConfig = _choices(group)[name]
    return chosen


def factory(
    name: str, training_length: int = 512, grid: Sequence[int] | None = None, **hyperparameters: Any
) -> EncodingFactory:
    """The factory that `encoding=name` gives for a text or for pictures, under other hyperparameters that are named."""
    if hyperparameters:
        made: EncodingFactory = instantiate(_choice_for(name, training_length, grid), **hyperparameters)
        return made
    return _factory(name, training_length, None if grid is None else tuple(grid))


@cache
def _factory(name: str, training_length: int, grid: tuple[int, ...] | None) -> EncodingFactory:
    made: EncodingFactory = instantiate(_choice_for(name, training_length, grid))
    return made


def _choice_for(name: str, training_length: int, grid: Sequence[int] | None) -> DictConfig:
    dataset = {"sequence_length": training_length, **({} if grid is None else {"grid": list(grid)})}
    config: DictConfig = OmegaConf.create({"encoding": choice("encoding", name), "dataset": dataset}).encoding
    return config


def temperature(name: str) -> TemperatureFactory:
    """The factory that `temperature=name` gives."""
    made: TemperatureFactory = instantiate(choice("temperature", name))
    return made


def stack(name: str, causal: bool = True, **shape: int) -> StackEncodings:
    """The encodings of a stack of 2 layers with 4 heads of 8 dimensions, unless said otherwise."""
    sizes = {"d_model": 32, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2, "head_dim": 8} | shape
    return StackEncodings(factory(name), StackShape(**sizes, causal=causal, digits=DIGITS))


def encoding(name: str, causal: bool = True, **shape: int) -> PositionalEncoding:
    """The encoding of the first layer of such a stack."""
    return stack(name, causal, **shape).layer(0)


@cache
def described(name: str) -> PositionalEncoding:
    """The encoding of the first layer, made once for what only reads its description."""
    return encoding(name)


def small_model(kind: Any, name: str, grid: Sequence[int] | None = None, **arguments: Any) -> Any:
    """A model of a class with the shape of `stack`, in evaluation mode, always with the same weights."""
    torch.manual_seed(0)
    sizes = {"d_model": 32, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2} | arguments
    return stacked(kind, VOCAB_SIZE, factory(name, grid=grid), digits=DIGITS, **sizes).eval()


small_decoder = partial(small_model, Decoder)


def some_tokens(batch: int, length: int) -> Tensor:
    """Token ids (batch, length), always the same."""
    return torch.randint(VOCAB_SIZE, (batch, length), generator=torch.Generator().manual_seed(1))


@cache
def is_another(name: str) -> bool:
    """Return True for a choice whose file begins with that of another one, such as a scaling; mrope stands for axes."""
    return "defaults" in OmegaConf.load(CONF / "encoding" / f"{name}.yaml") and name != "mrope"


def quick_or_slow(names: Iterable[str]) -> list[Any]:
    """Return names for a parametrisation, slow if another choice stands for them."""
    return [pytest.param(name, marks=pytest.mark.slow) if is_another(name) else name for name in names]


OF_ENCODERS = ["convolutional"]
"""Encodings that a decoder cannot have."""
EVERY_ENCODING = sorted({path.stem for path in (CONF / "encoding").glob("*.yaml")} - {"pretrained", *OF_ENCODERS})
"""All others."""
ENCODINGS = ["alibi", "learned", "none", "rotary", "sinusoidal", "t5"]
"""Some of each kind; what is claimed of all is in `poslab.testing`, and tested of all in encodings/test_contract.py."""

RELATIVE = [name for name in ENCODINGS if "embed" not in described(name).hooks]
BIASED = [name for name in ENCODINGS if "bias" in described(name).hooks]
