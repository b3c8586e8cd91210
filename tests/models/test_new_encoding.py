"""A new encoding is one Python file and one YAML file."""

import sys

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch.nn import functional

from tests.encoding_choices import CONF

CLASS = '''
import torch

from poslab.encodings import DistanceBias


class Plateau(DistanceBias):
    """A bias of a learned height per head for the nearest keys."""

    def __init__(self, num_heads: int, reach: int = 4) -> None:
        super().__init__()
        self.reach = reach
        self.height = torch.nn.Parameter(torch.ones(num_heads))

    def bias_at(self, distance):
        return self.height.view(-1, *[1] * distance.dim()) * (distance < self.reach)
'''
CHOICE = """
_target_: newly_written_plateau.Plateau
_partial_: true
# How many keys are near. Range: 1 and above.
reach: 4
"""


@pytest.fixture
def new_files(tmp_path, monkeypatch):
    (tmp_path / "newly_written_plateau.py").write_text(CLASS)
    (tmp_path / "conf" / "encoding").mkdir(parents=True)
    (tmp_path / "conf" / "encoding" / "plateau.yaml").write_text(CHOICE)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("newly_written_plateau", None)


def test_one_python_file_and_one_yaml_file_add_an_encoding_that_trains(new_files):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(
            overrides=[
                f"hydra.searchpath=[file://{new_files}/conf]",
                "+model=decoder",
                "+size=tiny",
                "+encoding=plateau",
                "encoding.reach=3",
                "model.d_model=32",
                "model.num_layers=2",
                "model.num_heads=4",
            ]
        )
    torch.manual_seed(0)
    decoder = instantiate(config.model, vocab_size=11, encoding=instantiate(config.encoding))
    (encoding,) = decoder.encodings
    assert encoding.reach == 3
    before = encoding.height.detach().clone()

    tokens = torch.arange(4 * 24).view(4, 24) % 11
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=1e-2)
    losses = []
    for _ in range(15):
        logits = decoder(tokens[:, :-1])
        loss = functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    assert not torch.equal(encoding.height, before)

    decoder.eval()
    cache = decoder.new_cache()
    with torch.no_grad():
        steps = [decoder(tokens[:, place : place + 1], cache=cache) for place in range(24)]
        torch.testing.assert_close(torch.cat(steps, dim=1), decoder(tokens), rtol=0, atol=1e-5)
