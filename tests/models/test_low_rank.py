"""LoRA: what learns, that a fresh update changes nothing, and that a merged one changes nothing either."""

import copy

import pytest
import torch
from torch import Tensor, nn

from poslab.models import Decoder, Encoder, EncoderDecoder, Model
from poslab.models.adaptation import LowRank, LowRankUpdate, merged, num_learning, updated
from tests.encoding_choices import EVERY_ENCODING, quick_or_slow, small_decoder, small_model, some_tokens

MODELS = {
    "decoder": (Decoder, (some_tokens(2, 12),)),
    "encoder": (Encoder, (some_tokens(2, 12),)),
    "encoder_decoder": (EncoderDecoder, (some_tokens(2, 12), some_tokens(2, 5))),
}

each_model = pytest.mark.parametrize("name", MODELS)


def adapted(model: Model, drawn: bool = False, **arguments) -> Model:
    """The model under LoRA, with updates that have learned something if they are to be drawn."""
    LowRank(**arguments).apply(model)
    if drawn:
        for update in updates(model).values():
            nn.init.normal_(update.left, std=0.1)
    return model


def updates(model: nn.Module) -> dict[str, LowRankUpdate]:
    return {
        name.removesuffix(".parametrizations.weight.0"): module
        for name, module in model.named_modules()
        if isinstance(module, LowRankUpdate)
    }


def learning(model: nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("encoding", quick_or_slow(EVERY_ENCODING))
def test_a_fresh_update_changes_no_logit_under_any_encoding(encoding):
    model, tokens = small_decoder(encoding), some_tokens(2, 12)
    with torch.no_grad():
        before = model(tokens)
        assert torch.equal(adapted(model)(tokens), before)


@each_model
def test_a_fresh_update_changes_no_logit_of_any_model(name):
    kind, inputs = MODELS[name]
    model = small_model(kind, "t5")
    with torch.no_grad():
        before = model(*inputs)
        assert torch.equal(adapted(model)(*inputs), before)


@each_model
def test_a_merged_model_is_the_one_that_was_trained(name):
    kind, inputs = MODELS[name]
    plain, model = small_model(kind, "t5"), adapted(small_model(kind, "t5"), drawn=True, rank=3)
    untrained = plain.state_dict()
    with torch.no_grad():
        before = plain(*inputs)
        plain.load_state_dict(merged(model.state_dict()))
        assert (model(*inputs) - before).abs().max() > 1e-3
        torch.testing.assert_close(plain(*inputs), model(*inputs), rtol=0, atol=1e-6)
    assert list(merged(model.state_dict())) == list(untrained), "in the order of the model"


def test_a_matrix_is_the_sum_of_the_frozen_one_and_the_product_of_its_factors():
    model = adapted(small_decoder("rotary"), drawn=True, rank=2, alpha=6.0)
    model.requires_grad_(False)
    query, update = model.blocks[0].mixer.query, updates(model)["blocks.0.mixer.query"]
    frozen = query.parametrizations.weight.original
    for out in range(0, 32, 7):
        for into in range(0, 32, 5):
            product = sum(float(update.left[out, r]) * float(update.right[r, into]) for r in range(2))
            expected = float(frozen[out, into]) + 6.0 / 2 * product
            assert float(query.weight[out, into]) == pytest.approx(expected, abs=1e-6)


def test_the_factor_on_the_inputs_begins_at_random_and_the_other_at_zero():
    update = LowRankUpdate(nn.Linear(400, 3), rank=50, alpha=1.0)
    assert update.left.shape == (3, 50) and not update.left.any()
    assert update.right.shape == (50, 400) and update.right.abs().max() <= 400**-0.5
    assert update.right.std().item() == pytest.approx(400**-0.5 / 3**0.5, rel=0.02)


def test_attention_encodings_embeddings_and_norms_learn_and_nothing_else():
    names = learning(adapted(small_decoder("t5", qk_norm=True)))
    attention = {"query", "key_value", "output"}
    factors = {
        f"blocks.{layer}.mixer.{part}.parametrizations.weight.0.{factor}"
        for layer in range(2)
        for part in attention
        for factor in ("left", "right")
    }
    norms = {
        f"blocks.{layer}.{norm}.weight"
        for layer in range(2)
        for norm in ("mixer_norm", "mlp_norm", "mixer.query_norm", "mixer.key_norm")
    }
    encodings = {name for name, _ in small_decoder("t5").named_parameters() if name.startswith("encodings.")}
    assert encodings and names == factors | norms | encodings | {"embedding.weight", "norm.weight"}


def test_embeddings_and_norms_can_be_left_out():
    everything = learning(adapted(small_decoder("rotary")))
    without = learning(adapted(small_decoder("rotary"), embeddings=False))
    alone = learning(adapted(small_decoder("rotary"), embeddings=False, norms=False))
    assert everything - without == {"embedding.weight"}
    assert alone and all(".parametrizations." in name for name in alone)
    model = adapted(small_decoder("rotary"), rank=3, embeddings=False, norms=False)
    sizes = [layer.in_features + layer.out_features for layer in attention_linears(small_decoder("rotary"))]
    assert num_learning(model) == 3 * sum(sizes)


def attention_linears(model: nn.Module) -> list[nn.Linear]:
    return [m for name, m in model.named_modules() if isinstance(m, nn.Linear) and ".mixer." in name]


@each_model
def test_a_step_reaches_all_that_learns_and_leaves_the_rest(name):
    kind, inputs = MODELS[name]
    model = adapted(small_model(kind, "t5"), drawn=True).train()
    before = copy.deepcopy(model.state_dict())
    model(*inputs).square().mean().backward()
    for parameter, value in model.named_parameters():
        assert (value.grad is not None and value.grad.any()) == value.requires_grad, parameter
    torch.optim.SGD((p for p in model.parameters() if p.requires_grad), lr=1.0).step()
    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert learning(model) <= changed, "a tied matrix has several names"
    assert not any(key.endswith(("original", "scale")) or "mlp." in key for key in changed)


class Hosted(Model):
    """A model with one attention layer of a library's own linear layers."""

    capabilities = frozenset({"causal"})

    def __init__(self, linear: nn.Module) -> None:
        super().__init__()
        self.attention = nn.ModuleDict({"inner": nn.Sequential(linear)})
        self.mlp = nn.Linear(6, 6)

    @property
    def attention_layers(self):
        return [self.attention]

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(self.attention["inner"](x))


def test_a_transposed_layer_of_transformers_learns_as_the_linear_one_does():
    from transformers.pytorch_utils import Conv1D

    torch.manual_seed(0)
    rows, transposed = nn.Linear(6, 6), Conv1D(6, 6)  # square, so that no shape tells them apart
    with torch.no_grad():
        transposed.weight.copy_(rows.weight.T)
        transposed.bias.copy_(rows.bias)
    one, other = Hosted(rows), Hosted(transposed)
    other.mlp.load_state_dict(one.mlp.state_dict())
    for model in (one, other):
        adapted(model, rank=2)
        assert len(updates(model)) == 1 and not model.mlp.weight.requires_grad
    ours, theirs = (next(iter(updates(model).values())) for model in (one, other))
    assert theirs.left.any() and not theirs.right.any()
    with torch.no_grad():
        theirs.left.copy_(ours.right.T)
    x = torch.randn(5, 6)
    for _ in range(3):
        for model in (one, other):
            optimizer = torch.optim.SGD((p for p in model.parameters() if p.requires_grad), lr=0.1)
            model(x).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
    torch.testing.assert_close(theirs.right.T, ours.left)
    assert ours.left.any()
    torch.testing.assert_close(other(x), one(x))
    torch.testing.assert_close(merged(other.state_dict())["attention.inner.0.weight"].T, rows.weight)


def test_an_attention_that_no_model_names_is_refused():
    class Silent(Hosted):
        attention_layers = Model.attention_layers

    with pytest.raises(ValueError, match=r"^adapt=lora .* Silent .* attention_layers$"):
        adapted(Silent(nn.Linear(6, 6)))


def test_an_attention_with_a_parametrization_of_its_own_is_refused():
    model = Hosted(torch.nn.utils.parametrizations.weight_norm(nn.Linear(6, 6)))
    with pytest.raises(ValueError, match=r"^adapt=lora does not support"):
        adapted(model)
    assert merged(model.state_dict()).keys() == model.state_dict().keys()


def test_the_precision_of_an_update_is_that_of_its_matrix_under_autocast_too():
    weight, left, right = torch.randn(8, 8), torch.randn(8, 2), torch.randn(2, 8)
    exact = updated(weight, left, right, torch.tensor(0.5))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(updated(weight, left, right, torch.tensor(0.5)), exact)


@pytest.mark.parametrize("part", ["left", "right", "scale"])
def test_an_update_that_does_not_fit_its_matrix_is_refused(part):
    weights = adapted(small_decoder("rotary")).state_dict()
    weights[f"blocks.0.mixer.query.parametrizations.weight.0.{part}"] = torch.ones(3, 3)
    with pytest.raises(ValueError, match=r"blocks\.0\.mixer\.query\.weight does not fit"):
        merged(weights)


def test_a_model_that_reads_piece_by_piece_predicts_the_same():
    model, tokens = adapted(small_decoder("rotary"), drawn=True), some_tokens(2, 10)
    with torch.no_grad():
        cache = model.new_cache()
        pieces = [model(tokens[:, :6], cache=cache), model(tokens[:, 6:], cache=cache)]
        torch.testing.assert_close(torch.cat(pieces, 1), model(tokens), rtol=0, atol=1e-5)


@pytest.mark.slow
def test_a_compiled_model_learns_as_an_eager_one():
    model, tokens = adapted(small_decoder("rotary"), drawn=True), some_tokens(2, 10)
    torch._dynamo.reset()
    model(tokens).square().mean().backward()
    eager = {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}
    model.zero_grad()
    torch.compile(model, backend="eager")(tokens).square().mean().backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(parameter.grad, eager[name], msg=name)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"rank": 0}, "rank must .*, got 0"),
        ({"alpha": 0.0}, "alpha must .*, got 0.0"),
        ({"norms": 1}, "norms must .*, got 1"),
    ],
)
def test_arguments_out_of_their_range_are_refused(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        LowRank(**arguments)
