"""A model of a user's own, with an attention layer of its own, trains, evaluates and generates."""

from collections.abc import Iterator

import pytest
import torch

import poslab
from poslab.data.tokenizers import load_tokenizer
from poslab.evaluation.evaluation import evaluate
from poslab.evaluation.opening import open_run
from poslab.evaluation.settings import Settings
from poslab.generation.decoding import generate
from poslab.generation.token_choice import Sampling
from poslab.runs.directory import RunDirectory
from poslab.training.checking import check
from poslab.training.fit import train
from poslab.training.resume import Plan
from tests.greedy import greedy
from tests.training.runs import small
from tests.training.test_encoding_curves import board

PACKAGE = '''
import torch
from torch import nn

from poslab.encodings import Positions, StackEncodings, StackShape
from poslab.models import Model


class Averaging(Model):
    """Each token is a mean of those before it, weighted by an encoding's bias of distance."""

    capabilities = frozenset({"causal"})

    def __init__(self, vocab_size: int, encoding, width: int = 16) -> None:
        super().__init__()
        self.encodings = StackEncodings(encoding, StackShape(width, 1, 2, 2, width // 2))
        self.encodings.require_hooks({"bias"})
        self.embedding = nn.Embedding(vocab_size, width)
        self.value = nn.Linear(width, width)

    def hidden_states(self, tokens_BT, positions=None, real=None, cache=None):
        x_BTM = self.embedding(tokens_BT)
        positions = positions or Positions.range(tokens_BT.shape[1], device=tokens_BT.device)
        (encoding,) = self.encodings
        bias = encoding.bias(encoding.prepare(positions, positions)).matrix().mean(-3)
        seen = torch.ones(bias.shape[-2:], dtype=torch.bool, device=bias.device).tril()
        if real is not None:
            seen = seen & real.unsqueeze(-2)
        weights = bias.masked_fill(~seen, -1e9).softmax(-1).to(x_BTM.dtype)
        return x_BTM + weights @ self.value(x_BTM)

    def logits(self, hidden_BTM):
        return hidden_BTM @ self.embedding.weight.T
'''


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunDirectory]:
    folder = tmp_path_factory.mktemp("own_model")
    (folder / "averaging_of_a_user.py").write_text(PACKAGE)
    config = small(folder, "encoding=alibi") | {"trust": ["averaging_of_a_user"]}
    config["model"] = {"_target_": "averaging_of_a_user.Averaging", "width": 24}
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield train(Plan(RunDirectory(folder / "run", ("averaging_of_a_user",)), config, None), check(config))


def test_it_trains_and_is_tested(run):
    metrics = run.metrics()
    assert metrics["steps"] == 4 and metrics["test/loss@32"] > 0


def test_it_is_loaded_and_evaluated(run):
    one = open_run(run.path, trust=run.trust)
    parts = ["extrapolation", "receptive_field", "encoding"]
    evaluation = evaluate([one], Settings(parts, [16, 32]))
    assert len(evaluation.sections) == 3 and evaluation.metrics["bits_per_byte@32"] > 0


def test_an_attention_that_cannot_be_read_is_left_out(run):
    assert not evaluate([open_run(run.path, trust=run.trust)], Settings(["attention"])).sections


def test_what_its_encoding_learns_is_recorded(run, tmp_path):
    config = {**run.config(), "encoding": small(tmp_path, "encoding=alibi_learned")["encoding"], "trust": run.trust}
    learning = train(Plan(RunDirectory(tmp_path / "learning", run.trust), config, None), check(config))
    assert any(tag.startswith("encoding/") for tag in board(learning.path).Tags()["scalars"])


def test_it_generates_the_same_as_reading_everything_again(run):
    model, tokenizer = poslab.load(run.path, trust=run.trust), load_tokenizer(run.path)
    prompt = tokenizer.encode("the sea").tolist()
    written = [int(token) for token in generate(model, torch.tensor([prompt]), 5, Sampling(temperature=0))]
    assert written == greedy(model, prompt, 5)


def test_a_model_that_declares_nothing_is_refused(run):
    config = {**run.config(), "model": {"_target_": "poslab.models.model.Model"}}
    with pytest.raises(ValueError, match=r"^model must.*Model does not$"):
        check(config)
