"""The files of conf/encoding, conf/model and conf/size say all that can be chosen, and say it right."""

import inspect
import re

import pytest
import torch
from hydra.utils import get_object
from omegaconf import OmegaConf
from torch import nn

from poslab.cli.help import keys
from poslab.configuration.build import keys_of
from poslab.configuration.labels import usual
from poslab.encodings import NoPosition, PositionalEncoding, StackShape
from poslab.models import Decoder
from tests.encoding_choices import CONF, choice, composed
from tests.stacked import stacked

SIZES = sorted(path.stem for path in (CONF / "size").glob("*.yaml"))
FILES = [path for group in ("encoding", "positions", "temperature") for path in sorted(CONF.glob(f"{group}/*.yaml"))]
OF_FREQUENCIES = {"inverse_frequencies", "base", "length", "pairs", "axes"}
FILLED_IN = {*StackShape.__dataclass_fields__, "shape", "factor_on", *OF_FREQUENCIES}
"""Arguments that the program gives to an encoding, `factor_on` for a pretrained model alone, or to a scaling or an
allocation of frequencies."""
OF_GRIDS = {"rotary_axial": {"base": 100.0}}
"""Defaults of files that are made for pictures, where those of the class are for texts."""


def hyperparameters(config) -> dict:
    return {key: value for key, value in OmegaConf.to_container(config, resolve=False).items() if key[0] != "_"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}={path.stem}")
def test_a_file_has_every_hyperparameter_with_the_default_of_its_class(path):
    config = choice(path.parent.name, path.stem)
    assert_says_all(OmegaConf.to_container(config, resolve=False), OF_GRIDS.get(path.stem, {}))


def assert_says_all(node: dict, defaults: dict) -> None:
    """The keys are the hyperparameters of the target, each with its default unless it follows another key."""
    target = get_object(node["_target_"])
    takes_nothing = inspect.isclass(target) and target.__init__ in (PositionalEncoding.__init__, nn.Module.__init__)
    arguments = {} if takes_nothing else inspect.signature(target).parameters
    own = {name for name in arguments if name in node or name not in FILLED_IN}
    assert {key for key in node if key[0] != "_"} == own
    for name in own:
        value, default = node[name], defaults.get(name, arguments[name].default)
        if isinstance(value, dict):
            assert_says_all(value, {})
        value, is_of_pretrained = usual(value), usual(value) is not value
        if not isinstance(value, dict | list) and not str(value).startswith("${"):
            assert value == default or (is_of_pretrained and default is None), name  # None: that of another class


def test_the_decoder_file_has_every_argument_of_the_decoder_with_its_default():
    config = composed("model=decoder", "size=tiny").model
    of_data = {"vocab_size", "outputs", "digits", "patch_width"}
    said_elsewhere = of_data | {"attention", "encoding", "positions", "temperature"}
    defaults = {name: argument.default for name, argument in keys_of(Decoder).items() if name not in said_elsewhere}
    assert hyperparameters(config) == defaults | {"d_model": 192, "num_layers": 4, "num_heads": 6}


@pytest.mark.parametrize("path", [*FILES, *sorted(CONF.glob("model/*.yaml"))], ids=str)
def test_a_choice_and_every_key_of_it_have_a_comment(path):
    assert all(comment for key, comment in keys(path.parent.name, path.stem).items() if ".over." not in key)
    assert path.read_text().startswith("# ")


@pytest.mark.parametrize("size", SIZES)
def test_a_size_fills_width_layers_and_heads_and_states_its_parameters(size):
    config = composed("model=decoder", f"size={size}").model
    with torch.device("meta"):
        decoder = stacked(Decoder, 257, NoPosition, config.d_model, config.num_layers, config.num_heads)
    parameters = sum(parameter.numel() for parameter in decoder.parameters())
    stated = re.findall(r"[\d,]{7,}", (CONF / "size" / f"{size}.yaml").read_text())
    assert stated == [f"{parameters:,}", f"{parameters - 257 * config.d_model:,}"]


def test_a_width_on_the_command_line_overrides_the_size():
    config = composed("model=decoder", "size=tiny", "model.d_model=256", "model.num_heads=4").model
    assert (config.d_model, config.num_layers, config.num_heads) == (256, 4, 4)
