"""Checks of hooks and routes, which all give the same result, and of whole texts: padded, packed, decoded."""

from __future__ import annotations

import torch
from torch import nn

from poslab.attention import Route, choose_route
from poslab.attention.routes import SERVED_HOOKS
from poslab.encodings import PositionalEncoding, Positions
from poslab.encodings.base import HOOKS
from poslab.encodings.offsets import BiasOfPositions
from poslab.testing.subject import (
    BATCH,
    LEFT_PADDED,
    LENGTH,
    RIGHT_PADDED,
    SEGMENTS,
    VOCAB_SIZE,
    AttentionCase,
    Subject,
    assert_all_near,
    assert_near,
    cases,
    decoded_in_parts,
    output_and_gradients,
    output_by_blocks,
    some_tokens,
)


def check_hooks_are_methods_and_a_route_serves_them(subject: Subject) -> None:
    """Require that `hooks` names every overridden method, that no attribute hides one, and that inexact routes fail."""
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
    """Compare output and gradients of each route with the dense one, under all rules of visibility and positions."""
    for causal in subject.directions:
        for case in cases(causal):
            compare_routes(subject, case)


def compare_routes(subject: Subject, case: AttentionCase) -> None:
    """Require of each route that supports the encoding the output and gradients of the dense one."""
    hooks = frozenset().union(*(encoding.hooks for encoding in subject.stack()))
    # The route flex adds the same bias; on a CPU it has no backward pass.
    routes: list[Route] = [r for r, served in SERVED_HOOKS.items() if hooks <= served and r not in ("dense", "flex")]
    biases = (
        encoding.bias(encoding.prepare(case.positions, case.positions)) for encoding in subject.stack(case.causal)
    )
    if any(isinstance(bias, BiasOfPositions) for bias in biases):  # has no shorter form: distance does not support it
        routes = [route for route in routes if route != "distance"]
    exact = output_and_gradients(subject, case, "dense")
    for route in routes:
        assert_all_near(output_and_gradients(subject, case, route), exact, 1e-5, f"route {route} against dense")


def check_a_block_of_query_rows_is_that_part_of_the_whole(subject: Subject) -> None:
    """Compare output and gradients of blocks of queries with the result of all, for T = S and for T < S."""
    for causal in subject.directions:
        for case in cases(causal):
            compare_blocks(subject, case)


def compare_blocks(subject: Subject, case: AttentionCase) -> None:
    """Require of blocks of the queries, and of the last ones, the output and gradients of all in one block."""
    for num_queries, blocks in ((LENGTH, (7,)), (3, (2, 1))):
        for encoding in subject.kinds(case.causal):
            rows = slice(LENGTH - num_queries, LENGTH)
            whole, *parts = (output_by_blocks(subject, encoding, case, rows, block) for block in (num_queries, *blocks))
            for part in parts:
                assert_all_near(part, whole, 1e-5, "blocks of query rows against all of them")


def check_contiguous_positions_are_no_others(subject: Subject) -> None:
    """Compare contiguous positions with the same ids not marked so, for the last tokens or, if bidirectional, any."""
    ids = torch.arange(300 - LENGTH, 300)
    for causal in subject.directions:
        kinds = subject.kinds(causal)
        for rows in (slice(0, LENGTH), slice(13, LENGTH), *([] if causal else [slice(0, 5), slice(4, 16)])):
            for encoding in kinds:
                shortcut, plain = (
                    output_by_blocks(subject, encoding, AttentionCase(positions, causal), rows)
                    for positions in (Positions(ids, 300, contiguous) for contiguous in (True, False))
                )
                for ours, expected in zip(shortcut, plain, strict=True):
                    assert_near(ours, expected, 1e-5, "contiguous positions against the same ids")


def check_a_query_that_sees_nothing_gives_zero(subject: Subject) -> None:
    """Require zero output and finite gradients for queries that see nothing."""
    for causal in subject.directions:
        nothing = torch.zeros_like(LEFT_PADDED)
        for real in (LEFT_PADDED, nothing):
            case = AttentionCase(Positions.padded(real), causal, real=real)
            y, *gradients = output_and_gradients(subject, case)
            blind = torch.cumsum(real, 1) == 0 if causal else ~real.any(1, keepdim=True).expand_as(real)
            assert (y[blind] == 0).all(), "a query that sees nothing gave something else than zero"
            assert all(g.isfinite().all() for g in gradients), "a query that sees nothing gave a gradient of NaN"


def check_it_compiles_without_a_break(subject: Subject) -> None:
    """Compare a compiled training step of a model with an eager one, on the flash and distance routes."""
    model, tokens = subject.model(), some_tokens()
    if any(choose_route(encoding) == "blockwise" for encoding in model.encodings):
        return
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    steps = []
    for reader in (model, compiled):
        try:
            logits = reader(tokens[:, :-1]).flatten(0, 1)
        except torch._dynamo.exc.TorchDynamoException as error:
            raise AssertionError(f"it does not compile into one graph: {str(error).splitlines()[0]}") from error
        loss = nn.functional.cross_entropy(logits, tokens[:, 1:].flatten())
        gradients = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True, materialize_grads=True)
        steps.append([loss, *gradients])
    for ours, expected in zip(steps[1], steps[0], strict=True):
        assert_near(ours, expected, 1e-5, "a training step of the compiled model")


def check_a_later_token_changes_no_earlier_output(subject: Subject) -> None:
    """Change a token and require the same outputs before it, also in a window, unless it is bidirectional only."""
    if not subject.is_causal:
        return
    tokens = some_tokens()
    changed = tokens.clone()
    changed[:, 12] = (changed[:, 12] + 1) % VOCAB_SIZE
    for window in (None, 5):
        model = subject.model(window=window)
        with torch.no_grad():
            before, after = model(tokens), model(changed)
        assert_near(after[:, :12], before[:, :12], 1e-6, "outputs before the change")
        assert (before[:, 12:] - after[:, 12:]).abs().amax() > 1e-6, "the change was felt nowhere"


def check_decoding_with_a_cache_is_the_full_pass(subject: Subject) -> None:
    """Compare decoding token by token and in parts, from 0 and an offset, with a full pass.

    Where tables depend on the length, only the last row is compared. One that is bidirectional only is not decoded.
    """
    if not subject.is_causal:
        return
    tokens = some_tokens()
    if subject.depends_on_length:
        model = subject.model(num_layers=1)
        cache = model.new_cache()
        with torch.no_grad():
            for position in range(LENGTH):
                step = model(tokens[:, position : position + 1], cache=cache)[:, -1]
                assert_near(step, model(tokens[:, : position + 1])[:, -1], 1e-5, f"the decoding step at {position}")
        return
    for window in (None, 5):
        model = subject.model(window=window)
        end = model.max_length
        for start in (0, 300 if end is None else max(0, end - LENGTH)):
            whole = model(tokens, Positions.range(LENGTH, start))
            for parts in ([1] * LENGTH, [7, 1, 9, 3]):
                actual = decoded_in_parts(model, tokens, parts, Positions.range(parts[0], start))
                assert_near(actual, whole, 1e-5, f"decoding in {len(parts)} parts from {start}")


def check_padding_changes_nothing(subject: Subject) -> None:
    """Require the same output with padding on either side, in a full pass and before decoding, whatever it contains."""
    model, tokens = subject.model(), some_tokens()
    for real in (LEFT_PADDED, RIGHT_PADDED):
        with torch.no_grad():
            logits = model(tokens, Positions.padded(real), real)
            other = torch.where(real, tokens, (tokens + 7) % VOCAB_SIZE)
            assert_near(model(other, Positions.padded(real), real)[real], logits[real], 1e-6, "other padding")
            if subject.depends_on_length:
                continue
            for row in range(BATCH):
                alone = model(tokens[row, real[row]][None])[0]
                assert_near(logits[row, real[row]], alone, 1e-5, f"row {row} with padding against alone")
    if subject.is_causal and not subject.depends_on_length:
        with torch.no_grad():
            cache, real = model.new_cache(), LEFT_PADDED[:, :8]
            parts = [model(tokens[:, :8], Positions.padded(real), real, cache)]
            parts += [model(tokens[:, 8:9], cache=cache), model(tokens[:, 9:], cache=cache)]
            alone = model(tokens[:1, 6:])
        assert_near(torch.cat(parts, dim=1)[:1, 6:], alone, 1e-5, "decoding after left padding")


def check_packed_documents_do_not_see_each_other(subject: Subject) -> None:
    """Compare the logits of each packed document with its logits by itself."""
    model, tokens = subject.model(), some_tokens()
    with torch.no_grad():
        packed = model(tokens, Positions.packed(SEGMENTS))
        changed = torch.where(SEGMENTS == 0, (tokens + 7) % VOCAB_SIZE, tokens)
        after = model(changed, Positions.packed(SEGMENTS))
        assert_near(after[SEGMENTS != 0], packed[SEGMENTS != 0], 1e-6, "other documents after a change of the first")
        if subject.depends_on_length:
            return
        for row in range(BATCH):
            for segment in SEGMENTS[row].unique():
                document = SEGMENTS[row] == segment
                alone = model(tokens[row, document][None])[0]
                assert_near(packed[row, document], alone, 1e-5, f"document {segment} of row {row} against alone")


def check_no_history_matters(subject: Subject) -> None:
    """Require the same output of a text after longer and shorter ones, after decoding and after a training step."""
    model, tokens = subject.model(), some_tokens()
    with torch.no_grad():
        first = model(tokens[:, :12])
        model(tokens), model(tokens[:, :3])
        if subject.is_causal:
            decoded_in_parts(model, tokens, [7, 1, 12], Positions.range(7))
        model.train()(tokens[:, :9])
        assert torch.equal(model.eval()(tokens[:, :12]), first), "an earlier text left something behind"


def check_past_its_end_it_says_so(subject: Subject) -> None:
    """Require a ValueError that names `max_length` past the end; an encoding without an end accepts any length."""
    model = subject.model()
    if model.max_length is None:
        return
    token = torch.zeros(1, 1, dtype=torch.long)
    with torch.no_grad():
        model(token, Positions.range(1, model.max_length - 1))
        try:
            model(token, Positions.range(1, model.max_length))
        except ValueError as error:
            assert "max_length" in str(error), f"the error past the end does not name max_length: {error}"
        else:
            raise AssertionError(f"no error was raised at position {model.max_length}, past max_length")
