"""FlexAttention under our biases and visibilities: its eager form, which a processor can run, against the definition.

On a processor PyTorch refuses its backward pass, though the eager form has one; the tests lift that refusal.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import torch
from torch._dynamo.testing import CompileCounter
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import flex_attention as pytorch

from poslab.attention import Visibility, attend, flex
from poslab.attention.flex import MIN_HEAD_DIM
from poslab.attention.routes import route_under_bias
from poslab.encodings import BiasTable, Positions
from tests.attention.scenarios import BATCH, HEAD_DIM, HEADS, SCENARIOS, Scenario, assert_as_dense, attended, inputs
from tests.encoding_choices import described, encoding, small_decoder, some_tokens
from tests.encodings.examples import TurningAndDiscounting

SERVED = ["none", "rotary", "alibi", "alibi_learned", "t5", "tisa", "tupe", "fire"]
"""Choices of each kind that the route serves: nothing, a rotation, a bias of distance, a bias of both positions."""

pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")


@pytest.fixture
def eager_gradients(monkeypatch):
    monkeypatch.setattr(pytorch, "_validate_device", lambda *_: None)


def cases() -> Iterator[tuple[str, str]]:
    """An encoding of each kind wherever it is defined, and the others in two scenarios."""
    for name, (scenario, case) in itertools.product(SERVED, SCENARIOS.items()):
        instance = described(name)
        ends = instance.max_length is not None and instance.max_length < case.queries.stop
        is_like_another = name not in ("rotary", "t5", "tupe") and scenario not in ("packed", "scattered positions")
        if not ends and not is_like_another and (case.visibility.causal or not instance.causal_only):
            yield name, scenario


@pytest.mark.slow
@pytest.mark.parametrize(("name", "scenario"), list(cases()))
def test_it_gives_the_output_and_gradients_of_the_definition(name, scenario, eager_gradients):
    case = SCENARIOS[scenario]
    instance = encoding(name, case.visibility.causal)
    assert_as_dense(instance, case, "flex")


def last_of(num_queries: int, num_keys: int, causal: bool, padded: bool) -> Scenario:
    """The last of some tokens as queries; where there is padding, it is the first tokens of the second sequence."""
    keys = Positions.range(num_keys)
    real = torch.arange(num_keys) >= torch.tensor([[0], [9]])
    visibility = Visibility(causal=causal, real_keys=real if padded else None)
    queries = Positions.range(num_queries, num_keys - num_queries)
    return Scenario(queries, keys, visibility, lambda b, i, j: True)  # the rule is not read


@pytest.mark.slow
@pytest.mark.parametrize(("num_queries", "num_keys", "padded"), [(129, 129, True), (129, 129, False), (3, 130, True)])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("name", ["t5", "tupe"])
def test_lengths_that_are_no_whole_blocks_give_the_same(name, causal, padded, num_queries, num_keys, eager_gradients):
    case, instance = last_of(num_queries, num_keys, causal, padded), encoding(name, causal)
    assert_as_dense(instance, case, "flex")


@pytest.fixture
def graphs(monkeypatch):
    """A count of the graphs of mask and attention, whose compiler need not run for that."""
    counter = CompileCounter()
    monkeypatch.setattr(flex, "_fast", lambda function, device: flex._compiled(function, counter))
    torch.compiler.reset()
    yield counter
    torch.compiler.reset()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "causal"), [("alibi", True), ("tupe", False)])
def test_lengths_of_as_many_blocks_are_compiled_once(name, causal, graphs):
    instance, counts = encoding(name, causal), []
    for length in (129, 255):
        for padded in (False, True):
            with torch.no_grad():
                attended(instance, last_of(length, length, causal, padded), *inputs(length, length), "flex")
        counts.append(graphs.frame_count)
    assert counts == [counts[0]] * 2


@pytest.mark.slow
def test_more_forms_than_pytorch_compiles_by_default_are_compiled(graphs):
    counts = []
    for blocks in range(1, 6):
        for causal in (True, False):
            length = flex.BLOCK * blocks - 1
            case = last_of(length, length, causal, padded=False)
            with torch.no_grad():
                attended(encoding("alibi", causal), case, *inputs(length, length), "flex")
            counts.append(graphs.frame_count)
    assert all(after > before for before, after in itertools.pairwise(counts))


def test_a_bias_may_join_a_rotation(eager_gradients):
    instance = TurningAndDiscounting(HEAD_DIM, HEADS)
    for case in (SCENARIOS["packed"], SCENARIOS["scattered positions"]):
        assert_as_dense(instance, case, "flex")


def test_a_decoder_under_it_reads_and_decodes_as_under_the_definition():
    tokens = some_tokens(2, 12)
    with torch.no_grad():
        exact = small_decoder("t5", attention="dense")(tokens)
        decoder = small_decoder("t5", attention="flex")
        cache = decoder.new_cache()
        parts = torch.cat([decoder(tokens[:, :9], cache=cache), decoder(tokens[:, 9:], cache=cache)], dim=1)
        torch.testing.assert_close(decoder(tokens), exact, rtol=0, atol=1e-5)
        torch.testing.assert_close(parts, exact, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_layers_that_see_the_same_share_a_block_mask(monkeypatch):
    made = []

    def spy(*arguments, **named):
        made.append(1)
        return pytorch.create_block_mask(*arguments, **named)

    monkeypatch.setattr(flex, "create_block_mask", spy)
    with torch.no_grad():
        small_decoder("alibi", attention="flex", num_layers=3)(some_tokens(1, 12))
    assert len(made) == 1


def test_training_on_a_processor_is_refused():
    with pytest.raises(ValueError, match=r"^attention must.*backward on CPU"):
        small_decoder("alibi", attention="flex")(some_tokens(1, 12))


@pytest.mark.parametrize(
    ("device", "num_queries", "width", "learns", "deterministic", "route"),
    [
        ("cpu", 12, 32, True, False, "distance"),
        ("cuda", 12, 32, True, False, "flex"),
        ("cuda", 12, 32, True, True, "blockwise"),
        ("cuda", 12, 32, False, True, "flex"),
        ("cuda", 1, 32, True, False, "distance"),
        ("cuda", 12, 8, True, False, "distance"),
    ],
)
def test_a_bias_of_distance_takes_the_cheapest_exact_route(device, num_queries, width, learns, deterministic, route):
    with FakeTensorMode():
        bias = BiasTable(torch.zeros(HEADS, 12 + num_queries - 1, device=device, requires_grad=learns), num_queries)
        q_BHTD = torch.zeros(BATCH, HEADS, num_queries, width, device=device)
        torch.use_deterministic_algorithms(deterministic)
        try:
            assert route_under_bias(bias, q_BHTD, num_keys=12) == route
        finally:
            torch.use_deterministic_algorithms(False)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="the compiled kernel is that of a GPU, and there is none")
@pytest.mark.parametrize("name", ["alibi", "t5"])
@pytest.mark.parametrize("length", [128, 300])
def test_compiled_on_a_gpu_it_gives_the_output_and_gradients_of_the_definition(name, length):
    instance = encoding(name).cuda()
    positions = Positions.range(length, device="cuda")
    results = []
    for route in ("auto", "dense"):
        q, k, v = (x.detach().cuda().requires_grad_() for x in inputs(length, length, width=MIN_HEAD_DIM))
        y = attend(q, k, v, instance, instance.prepare(positions, positions), Visibility(), route)
        sources = [q, k, v, *instance.parameters()]
        results.append([y, *torch.autograd.grad(y.square().sum(), sources)])
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)
