"""Checks of whole texts: padded, packed, decoded in parts, one after another, up to the end of an encoding."""

from __future__ import annotations

import torch

from poslab.encodings import Positions
from poslab.testing.outputs import assert_near, decoded_in_parts
from poslab.testing.subject import BATCH, LEFT_PADDED, LENGTH, RIGHT_PADDED, SEGMENTS, VOCAB_SIZE, Subject, some_tokens


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
    """Compare the logits of each packed document with those that it has alone."""
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
