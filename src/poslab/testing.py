"""What every encoding keeps, as one callable for people who write their own: `check_encoding(MyEncoding)`.

As scikit-learn's `check_estimator` does, it builds the encoding, here into small attention layers and decoders, and
asks of it everything that the rest of the laboratory relies on. It knows nothing of what the encoding computes: that it
is the paper's is for a test against an independent implementation to show.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from poslab.attention import AttentionContext, MultiHeadAttention, Route, Visibility, choose_route
from poslab.attention.attend import SERVED_HOOKS
from poslab.attention.cache import LayerCache
from poslab.encodings import (
    EncodingFactory,
    PerLayer,
    PositionalEncoding,
    Positions,
    QueryRows,
    StackEncodings,
    StackShape,
    TemperatureFactory,
)
from poslab.encodings.base import HOOKS
from poslab.models import Decoder

VOCAB_SIZE = 50
BATCH, LENGTH = 2, 20
SEGMENTS = torch.tensor([[0] * 8 + [1] * 12, [0] * 3 + [1] * 1 + [2] * 16])
LEFT_PADDED = torch.arange(LENGTH) >= torch.tensor([[6], [0]])
RIGHT_PADDED = torch.arange(LENGTH) < torch.tensor([[20], [13]])


def check_encoding(encoding: EncodingFactory, *, temperature: TemperatureFactory | None = None, **sizes: int) -> None:
    """Raises AssertionError, with the name of the claim, for the first thing that an encoding does not keep.

        check_encoding(partial(MyEncoding, rate=0.5))

    The claims are the functions of this module whose names begin with `check_`, each with its own sentence.

    Args:
        encoding: the class, a partial of it with hyperparameters, or a pattern. Give hyperparameters under which 20
            tokens show what it does: a training length of 8 where something changes past the training length.
        temperature: a temperature to be checked around it; None is without.
        sizes: of the small stack that it is built into, where it needs others than d_model=32, num_layers=2,
            num_heads=4, num_kv_heads=2, head_dim=8.
    """
    for check in CHECKS:
        check(Subject(encoding, temperature, sizes))


@dataclass(frozen=True)
class Subject:
    """An encoding under test, with small models around it that always have the same weights.

    Args:
        factory: makes it.
        temperature: makes a temperature around it.
        sizes: of the stack, where they differ from the usual ones.
    """

    factory: EncodingFactory
    temperature: TemperatureFactory | None = None
    sizes: dict[str, int] = field(default_factory=dict)

    def shape(self, causal: bool = True) -> StackShape:
        """The stack that the encoding is built into."""
        pattern = len(self.factory.encodings) if isinstance(self.factory, PerLayer) else 1
        usual = {"d_model": 32, "num_layers": max(2, pattern), "num_heads": 4, "num_kv_heads": 2, "head_dim": 8}
        return StackShape(**{**usual, **self.sizes}, causal=causal)

    def stack(self, causal: bool = True) -> StackEncodings:
        """Its encodings, with whatever they learn moved away from where it starts."""
        torch.manual_seed(0)
        encodings = StackEncodings(self.factory, self.shape(causal), self.temperature)
        _stir(encodings)
        return encodings

    def attention(self) -> MultiHeadAttention:
        """A layer of attention."""
        shape = self.shape()
        torch.manual_seed(1)
        return MultiHeadAttention(shape.d_model, shape.num_heads, shape.num_kv_heads, shape.head_dim)

    def decoder(self, num_layers: int | None = None, **arguments: Any) -> Decoder:
        """A decoder in evaluation mode."""
        shape = self.shape()
        torch.manual_seed(2)
        decoder = Decoder(
            VOCAB_SIZE,
            self.factory,
            shape.d_model,
            num_layers or shape.num_layers,
            shape.num_heads,
            shape.num_kv_heads,
            shape.head_dim,
            temperature=self.temperature,
            **arguments,
        )
        _stir(decoder.encodings)
        return decoder.eval()

    @functools.cached_property
    def depends_on_length(self) -> bool:
        """Whether any of its encodings does."""
        return any(encoding.depends_on_length for encoding in self.stack())

    @functools.cached_property
    def directions(self) -> list[bool]:
        """Causal, and both ways where the encoding serves that too."""
        return [True] if any(encoding.causal_only for encoding in self.stack()) else [True, False]


@dataclass(frozen=True)
class Case:
    """Tokens that attend to each other: their positions, who sees whom, and which of them are not padding."""

    positions: Positions
    visibility: Visibility
    real: Tensor | None = None


def cases(causal: bool) -> Iterator[Case]:
    """Whole texts, windows, padding, packed documents, and positions in any order."""
    whole, packed = Positions.range(LENGTH), Positions.packed(SEGMENTS)
    yield Case(whole, Visibility(causal))
    yield Case(whole, Visibility(causal, window=4))
    yield Case(Positions.range(LENGTH, 300), Visibility(causal))
    yield Case(packed, Visibility.between(packed, packed, causal=causal))
    for real in (LEFT_PADDED, RIGHT_PADDED):
        yield Case(Positions.padded(real), Visibility(causal, real_keys=real), real)
    scattered = torch.randperm(97, generator=torch.Generator().manual_seed(3))[:LENGTH]
    yield Case(Positions(torch.stack([scattered, scattered + 7]), 104), Visibility(causal))
    yield Case(Positions(torch.arange(LENGTH) * 0.7 + 0.1, LENGTH), Visibility(causal))


def check_hooks_are_methods_and_a_route_serves_them(subject: Subject) -> None:
    """`hooks` names all that the class overrides; nothing hides a hook; routes that would leave one out are refused."""
    for encoding in subject.stack():
        hidden = [hook for hook in HOOKS if hook in {*vars(encoding), *encoding._modules}]
        assert not hidden, f"an attribute hides the hook {hidden[0]}: give the attribute another name"
        overridden = {h for h in HOOKS if getattr(type(encoding), h) is not getattr(PositionalEncoding, h)}
        assert overridden <= encoding.hooks, f"hooks leaves out {sorted(overridden - encoding.hooks)}"
        assert encoding.hooks <= SERVED_HOOKS[choose_route(encoding)]
        for route, served in SERVED_HOOKS.items():
            refused = False
            try:
                choose_route(encoding, route)
            except ValueError:
                refused = True
            assert refused == (not encoding.hooks <= served), f"the route {route} must be refused exactly if not exact"


def check_every_route_gives_what_the_dense_one_gives(subject: Subject) -> None:
    """Output and every gradient, whatever is visible and wherever the tokens are."""
    for causal in subject.directions:
        for case in cases(causal):
            exact = _output_and_gradients(subject, case, "dense")
            for route in _other_routes(subject):
                for ours, expected in zip(_output_and_gradients(subject, case, route), exact, strict=True):
                    _assert_near(ours, expected, 1e-5, f"route {route} against dense")


def check_a_block_of_query_rows_is_that_part_of_the_whole(subject: Subject) -> None:
    """Whatever attention cuts the queries into, with as many keys as queries and with more."""
    encodings, attention = subject.stack(), subject.attention()
    for case in cases(causal=True):
        for num_queries in (LENGTH, 9):
            for layer in range(len(encodings.windows)):
                outputs = _output_by_blocks(subject, encodings.layer(layer), attention, case, num_queries)
                whole = next(outputs)
                for ours in outputs:
                    _assert_near(ours, whole, 2e-5, "blocks of query rows against all of them")


def check_a_query_that_sees_nothing_gives_zero(subject: Subject) -> None:
    """And no gradient is anything but a finite number."""
    for causal in subject.directions:
        nothing = torch.zeros_like(LEFT_PADDED)
        for real in (LEFT_PADDED, nothing):
            case = Case(Positions.padded(real), Visibility(causal, real_keys=real), real)
            y, *gradients = _output_and_gradients(subject, case)
            blind = torch.cumsum(real, 1) == 0 if causal else ~real.any(1, keepdim=True).expand_as(real)
            assert (y[blind] == 0).all(), "a query that sees nothing gave something else than zero"
            assert all(g.isfinite().all() for g in gradients), "a query that sees nothing gave a gradient of NaN"


def check_a_later_token_changes_no_earlier_output(subject: Subject) -> None:
    """Causal means causal, also in a window."""
    tokens = _tokens()
    changed = tokens.clone()
    changed[:, 12] = (changed[:, 12] + 1) % VOCAB_SIZE
    for window in (None, 5):
        decoder = subject.decoder(window=window)
        with torch.no_grad():
            before, after = decoder(tokens), decoder(changed)
        _assert_near(after[:, :12], before[:, :12], 1e-6, "outputs before the change")
        assert (before[:, 12:] - after[:, 12:]).abs().amax() > 1e-6, "the change was felt nowhere"


def check_decoding_with_a_cache_is_the_full_pass(subject: Subject) -> None:
    """Token by token and in parts, from 0 and from an offset; where tables depend on the length, the last row is."""
    tokens = _tokens()
    if subject.depends_on_length:
        decoder = subject.decoder(num_layers=1)
        cache = decoder.new_cache()
        with torch.no_grad():
            for place in range(LENGTH):
                step = decoder(tokens[:, place : place + 1], cache=cache)[:, -1]
                _assert_near(step, decoder(tokens[:, : place + 1])[:, -1], 1e-5, f"the decoding step at {place}")
        return
    for window in (None, 5):
        decoder = subject.decoder(window=window)
        end = decoder.max_length
        for start in (0, 300 if end is None else max(0, end - LENGTH)):
            whole = decoder(tokens, Positions.range(LENGTH, start))
            for parts in ([1] * LENGTH, [7, 1, 9, 3]):
                actual = _decoded_in_parts(decoder, tokens, parts, start)
                _assert_near(actual, whole, 1e-4 if start else 1e-5, f"decoding in {len(parts)} parts from {start}")


def check_padding_changes_nothing(subject: Subject) -> None:
    """On either side, in a full pass and before decoding; and what stands in it is not read."""
    decoder, tokens = subject.decoder(), _tokens()
    for real in (LEFT_PADDED, RIGHT_PADDED):
        with torch.no_grad():
            logits = decoder(tokens, Positions.padded(real), real)
            other = torch.where(real, tokens, (tokens + 7) % VOCAB_SIZE)
            _assert_near(decoder(other, Positions.padded(real), real)[real], logits[real], 1e-6, "other padding")
            if subject.depends_on_length:
                continue
            for row in range(BATCH):
                alone = decoder(tokens[row, real[row]][None])[0]
                _assert_near(logits[row, real[row]], alone, 1e-5, f"row {row} with padding against alone")
    if not subject.depends_on_length:
        with torch.no_grad():
            cache, real = decoder.new_cache(), LEFT_PADDED[:, :8]
            parts = [decoder(tokens[:, :8], Positions.padded(real), real, cache)]
            parts += [decoder(tokens[:, 8:9], cache=cache), decoder(tokens[:, 9:], cache=cache)]
            alone = decoder(tokens[:1, 6:])
        _assert_near(torch.cat(parts, dim=1)[:1, 6:], alone, 1e-5, "decoding after left padding")


def check_packed_documents_do_not_see_each_other(subject: Subject) -> None:
    """Each has the logits that it has alone."""
    decoder, tokens = subject.decoder(), _tokens()
    with torch.no_grad():
        packed = decoder(tokens, Positions.packed(SEGMENTS))
        changed = torch.where(SEGMENTS == 0, (tokens + 7) % VOCAB_SIZE, tokens)
        after = decoder(changed, Positions.packed(SEGMENTS))
        _assert_near(after[SEGMENTS != 0], packed[SEGMENTS != 0], 1e-6, "other documents after a change of the first")
        if subject.depends_on_length:
            return
        for row in range(BATCH):
            for segment in SEGMENTS[row].unique():
                document = SEGMENTS[row] == segment
                alone = decoder(tokens[row, document][None])[0]
                _assert_near(packed[row, document], alone, 1e-5, f"document {segment} of row {row} against alone")


def check_a_relative_encoding_does_not_feel_a_shift(subject: Subject) -> None:
    """Of all positions by 1,000, 100,000 or 1,000,000, beyond what float32 can tell of an angle there."""
    encodings = subject.stack()
    if not any(encoding.relative for encoding in encodings):
        return
    for causal in subject.directions:
        for contiguous in (True, False):
            at_0 = _attended(subject, encodings, Positions(torch.arange(LENGTH), LENGTH, contiguous), causal)
            for shift in (1_000, 100_000, 1_000_000):
                positions = Positions(torch.arange(LENGTH) + shift, LENGTH + shift, contiguous)
                shifted = _attended(subject, encodings, positions, causal)
                for layer, (ours, expected) in enumerate(zip(shifted, at_0, strict=True)):
                    encoding = encodings.layer(layer)
                    if not encoding.relative:
                        continue
                    turns = {"rotate_query", "rotate_key"} & encoding.hooks
                    tolerance = 2e-6 + (4 * shift * 2.0**-24 if turns else 0)
                    _assert_near(ours, expected, tolerance, f"{type(encoding).__name__} after a shift by {shift:,}")


def check_low_precision_loses_no_position(subject: Subject) -> None:
    """Tables under bfloat16 autocast are those without; attention in bfloat16 at position 4,096 is near float32."""
    encodings, attention = subject.stack(), subject.attention()
    length = min(4_096, encodings.max_length or 4_096)
    positions, queries = Positions.range(length), Positions.range(8, length - 8)
    exact_tables = encodings.prepare(queries, positions)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        tables = encodings.prepare(queries, positions)
    for ours, expected in zip(_tensors(tables), _tensors(exact_tables), strict=True):
        assert ours.dtype == expected.dtype and torch.equal(ours, expected), "tables differ under bfloat16 autocast"
    x = torch.randn(1, length, subject.shape().d_model, generator=torch.Generator().manual_seed(5))
    if "embed" in encodings.layer(0).hooks:
        exact = encodings.embed(torch.zeros_like(x), positions)[0]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            embedded = encodings.embed(torch.zeros_like(x), positions)[0]
        assert len(embedded.unique(dim=0)) == len(exact.unique(dim=0)), "embeddings of two positions become the same"
    with torch.no_grad():
        exact = _last_rows(attention, encodings, x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            low = _last_rows(attention, encodings, x)
    _assert_near(low.float(), exact, 0.05, "attention in bfloat16")


def check_a_trip_to_bfloat16_rounds_parameters_alone(subject: Subject) -> None:
    """`.to(bfloat16)` and back is the same encoding with rounded parameters; no table or frequency has been rounded."""
    travelled, rounded = subject.stack(), subject.stack()
    travelled.to(torch.bfloat16).float()
    with torch.no_grad():
        for parameter in rounded.parameters():
            parameter.copy_(parameter.bfloat16().float())
    positions = Positions.range(LENGTH, 0 if travelled.max_length else 2_000)
    for ours, expected in zip(
        _attended(subject, travelled, positions), _attended(subject, rounded, positions), strict=True
    ):
        assert torch.equal(ours, expected), "a trip to bfloat16 and back changed more than parameters"


def check_a_gradient_reaches_every_parameter(subject: Subject) -> None:
    """Of the encoding and of the temperature."""
    decoder, tokens = subject.decoder().train(), _tokens()
    logits = decoder(tokens[:, :-1]).flatten(0, 1)
    nn.functional.cross_entropy(logits, tokens[:, 1:].flatten()).backward()
    for name, parameter in decoder.encodings.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, f"no gradient reaches {name}"
        assert parameter.grad.isfinite().all(), f"the gradient of {name} is not finite"


def check_a_state_dict_makes_the_same_encoding(subject: Subject) -> None:
    """And holds parameters alone: tables are made again, wherever a checkpoint is read."""
    one = subject.stack()
    assert set(one.state_dict()) == {name for name, _ in one.named_parameters()}, "state_dict holds tables"
    torch.manual_seed(9)
    other = StackEncodings(subject.factory, subject.shape(), subject.temperature)
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    positions = Positions.range(LENGTH)
    for ours, expected in zip(_attended(subject, other, positions), _attended(subject, one, positions), strict=True):
        assert torch.equal(ours, expected), "the same state_dict gives another output"


def check_no_history_matters(subject: Subject) -> None:
    """A text after longer and after shorter texts is as it was first."""
    decoder, tokens = subject.decoder(), _tokens()
    with torch.no_grad():
        first = decoder(tokens[:, :12])
        decoder(tokens), decoder(tokens[:, :3])
        decoder.new_cache()
        assert torch.equal(decoder(tokens[:, :12]), first), "an earlier text left something behind"


def check_past_its_end_it_says_so(subject: Subject) -> None:
    """In a ValueError that names `max_length`; an encoding without an end takes any length."""
    decoder = subject.decoder()
    if decoder.max_length is None:
        return
    token = torch.zeros(1, 1, dtype=torch.long)
    with torch.no_grad():
        decoder(token, Positions.range(1, decoder.max_length - 1))
        try:
            decoder(token, Positions.range(1, decoder.max_length))
        except ValueError as error:
            assert "max_length" in str(error), f"the error past the end does not name max_length: {error}"
        else:
            raise AssertionError(f"nothing was said at position {decoder.max_length}, past max_length")


def check_it_compiles_without_a_break(subject: Subject) -> None:
    """The forward pass of a decoder, on the flash and bias routes, to the same logits."""
    decoder = subject.decoder()
    if any(choose_route(encoding) == "dense" for encoding in decoder.encodings):
        return
    tokens = _tokens()
    torch._dynamo.reset()
    compiled = torch.compile(decoder, fullgraph=True, backend="eager")
    with torch.no_grad():
        try:
            logits = compiled(tokens)
        except torch._dynamo.exc.TorchDynamoException as error:
            raise AssertionError(f"it does not compile into one graph: {str(error).splitlines()[0]}") from error
        _assert_near(logits, decoder(tokens), 1e-5, "the compiled decoder")


CHECKS: list[Callable[[Subject], None]] = [
    check for name, check in list(globals().items()) if name.startswith("check_") and check is not check_encoding
]


def _stir(encodings: StackEncodings) -> None:
    """Moves all that encodings learn away from where it starts, which may be zero."""
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in encodings.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


def _tokens() -> Tensor:
    return torch.randint(VOCAB_SIZE, (BATCH, LENGTH), generator=torch.Generator().manual_seed(6))


def _inputs(subject: Subject) -> Tensor:
    return torch.randn(BATCH, LENGTH, subject.shape().d_model, generator=torch.Generator().manual_seed(7))


def _other_routes(subject: Subject) -> list[Route]:
    """The routes beside dense that serve all its encodings."""
    hooks = frozenset().union(*(encoding.hooks for encoding in subject.stack()))
    return [route for route, served in SERVED_HOOKS.items() if hooks <= served and route != "dense"]


def _context(
    encodings: StackEncodings,
    layer: int,
    queries: Positions,
    keys: Positions,
    visibility: Visibility,
    route: Any = None,
) -> AttentionContext:
    tables = encodings.prepare(queries, keys)[layer]
    return AttentionContext(encodings.layer(layer), tables, keys, visibility, encodings.temperature(layer), route)


def _output_and_gradients(subject: Subject, case: Case, route: Route | None = None) -> list[Tensor]:
    """Of all layers of a stack together: the output, and what flows back to inputs and parameters."""
    encodings, attention = subject.stack(case.visibility.causal), subject.attention()
    x = _inputs(subject).requires_grad_()
    outputs = []
    for layer in range(subject.shape().num_layers):
        visibility = Visibility.between(
            case.positions,
            case.positions,
            causal=case.visibility.causal,
            window=case.visibility.window,
            real_keys=case.visibility.real_keys,
        )
        outputs.append(attention(x, _context(encodings, layer, case.positions, case.positions, visibility, route)))
    y = torch.stack(outputs).sum(0)
    weight = torch.randn(y.shape, generator=torch.Generator().manual_seed(8))
    sources = [x, *attention.parameters(), *encodings.parameters()]
    gradients = torch.autograd.grad((y * weight).sum(), sources, allow_unused=True)
    return [y, *(torch.zeros(()) if gradient is None else gradient for gradient in gradients)]


def _output_by_blocks(
    subject: Subject, encoding: PositionalEncoding, attention: MultiHeadAttention, case: Case, num_queries: int
) -> Iterator[Tensor]:
    """The output for the last of the tokens, by its definition: in one block of rows, and then in ever smaller ones."""
    keys, x_BSM = case.positions, _inputs(subject)
    segments = None if keys.segments is None else keys.segments[:, -num_queries:]
    queries = dataclasses.replace(keys, ids=keys.ids[..., -num_queries:], segments=segments)
    window, real_keys = case.visibility.window, case.visibility.real_keys
    visible = Visibility.between(queries, keys, window=window, real_keys=real_keys).mask(
        num_queries, LENGTH, x_BSM.device
    )
    tables = encoding.prepare(queries, keys)
    with torch.no_grad():
        state = encoding.state(x_BSM, keys, None)
        q_BHTD = attention.query(x_BSM[:, -num_queries:]).unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
        k_BGSD, v_BGSD = (
            attention.key_value(x_BSM).unflatten(-1, (2, attention.num_kv_heads, -1)).permute(2, 0, 3, 1, 4)
        )
        group = attention.num_heads // attention.num_kv_heads
        scale = attention.head_dim**-0.5 * encoding.scale(tables)
        q_BHTD = encoding.rotate_query(q_BHTD, tables)
        k_BHSD = encoding.rotate_key(k_BGSD, tables).repeat_interleave(group, dim=1)
        v_BHSD = v_BGSD.repeat_interleave(group, dim=1)
        for size in (num_queries, 7, 1):
            parts = []
            for start in range(0, num_queries, size):
                rows = slice(start, min(start + size, num_queries))
                block = QueryRows(
                    tables,
                    rows,
                    num_queries,
                    scale,
                    None if visible is None else visible[:, :, rows],
                    None if state is None else state[:, :, LENGTH - num_queries :][:, :, rows],
                    state,
                )
                logits = encoding.logits(q_BHTD[:, :, rows], k_BHSD, block)
                parts.append(encoding.values(encoding.weights(logits, block.visible), v_BHSD, block))
            yield torch.cat(parts, dim=2)


def _attended(subject: Subject, encodings: StackEncodings, positions: Positions, causal: bool = True) -> list[Tensor]:
    """The output of each layer's attention over the same inputs, position mixed in where the encoding does so."""
    attention = subject.attention()
    with torch.no_grad():
        x = encodings.embed(_inputs(subject), positions)
        layers = range(len(encodings.windows))
        visibility = Visibility(causal)
        return [attention(x, _context(encodings, layer, positions, positions, visibility)) for layer in layers]


def _last_rows(attention: MultiHeadAttention, encodings: StackEncodings, x_1SM: Tensor) -> Tensor:
    """The output of the first layer at the last 8 of many tokens, which are read from a cache."""
    length = x_1SM.shape[1]
    cache, encoding = LayerCache(), encodings.layer(0)
    before = Positions.range(length - 8)
    rest, whole = Positions.range(8, length - 8), Positions.range(length)
    k_BGSD, v_BGSD = (
        attention.key_value(x_1SM[:, :-8]).unflatten(-1, (2, attention.num_kv_heads, attention.head_dim))
    ).permute(2, 0, 3, 1, 4)
    state = encoding.state(x_1SM[:, :-8], before, None)
    cache.append(k_BGSD, v_BGSD, *([] if state is None else [state]))
    tables = encoding.prepare(rest, whole)
    context = AttentionContext(encoding, tables, whole, Visibility(), encodings.temperature(0), cache=cache)
    output: Tensor = attention(x_1SM[:, -8:], context)
    return output


def _decoded_in_parts(decoder: Decoder, tokens_BT: Tensor, parts: list[int], start: int) -> Tensor:
    """The logits of all tokens, read part by part; only the first part is told where it is."""
    cache, logits, place = decoder.new_cache(), [], 0
    with torch.no_grad():
        for count in parts:
            positions = None if place else Positions.range(count, start)
            logits.append(decoder(tokens_BT[:, place : place + count], positions, cache=cache))
            place += count
    return torch.cat(logits, dim=1)


def _tensors(tables: Any) -> Iterator[Tensor]:
    """All tensors in the tables of a stack, in order."""
    if isinstance(tables, Tensor):
        yield tables
    elif isinstance(tables, list | tuple):
        for part in tables:
            yield from _tensors(part)
    elif isinstance(tables, dict):
        yield from _tensors(list(tables.values()))
    elif hasattr(tables, "__dict__"):
        yield from _tensors(list(vars(tables).values()))


def _assert_near(actual: Tensor, expected: Tensor, tolerance: float, what: str) -> None:
    """Within an absolute tolerance, and as large a part of larger numbers."""
    allowed = tolerance * (1 + expected.abs() * 10)
    error = ((actual - expected).abs() / allowed).max().item() if actual.numel() else 0.0
    assert error <= 1, f"{what}: off by up to {error * tolerance:.2g}, allowed {tolerance:.2g}"
