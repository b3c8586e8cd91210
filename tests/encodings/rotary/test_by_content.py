"""Selective rotary and RePo against loops over their formulas in float64, and what follows from them."""

from __future__ import annotations

import cmath
import math
from functools import partial

import pytest
import torch
from torch import Tensor

from poslab.attention import Visibility, attend, choose_route
from poslab.attention.attend import rotate_qk, tables_of_layer
from poslab.encodings import Positions, RePo, Rotary, SelectiveRotary, StackShape, repo
from poslab.encodings.base import QueryRows
from poslab.encodings.layers import encoding_of
from poslab.encodings.rotary.by_head import RotationByContent
from tests.encoding_choices import encoding, small_decoder, some_tokens

M, H, G, D, S = 12, 4, 2, 6, 11
PAIRS = D // 2


def made(kind: type[RotationByContent], **arguments) -> RotationByContent:
    """An encoding in float64 with parameters that are nowhere zero."""
    torch.manual_seed(0)
    encoding = kind(M, H, G, D, **arguments).double()
    for parameter in encoding.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return encoding


def inputs(length: int = S) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, length, M, generator=generator, dtype=torch.float64)
    q, k = (torch.randn(2, heads, length, D, generator=generator, dtype=torch.float64) for heads in (H, G))
    return x, q, k


def logits(encoding: RotationByContent, x: Tensor, q: Tensor, k: Tensor, positions: Positions | None = None) -> Tensor:
    """Of the queries that are given, the last ones, and all keys."""
    positions = positions or Positions.range(x.shape[1])
    state = encoding.state(x, positions, None)
    tables = tables_of_layer(encoding, encoding.prepare(positions, positions), state, q.shape[-2])
    q, k, scale = rotate_qk(q, k, encoding, tables, Visibility())
    return q @ k.repeat_interleave(H // G, dim=1).mT * scale


def logit_by_a_loop(q: Tensor, k: Tensor, apart: list[float]) -> float:
    """q . R k / sqrt(D) of half-split pairs, where pair m of the key is turned by `apart[m]` against the query."""
    total = 0j
    for m, angle in enumerate(apart):
        query, key = complex(q[m], q[m + PAIRS]), complex(k[m], k[m + PAIRS])
        total += query.conjugate() * cmath.exp(1j * angle) * key
    return total.real / math.sqrt(D)


def dot(weights: Tensor, x: Tensor | list[float]) -> float:
    return sum(float(w) * float(number) for w, number in zip(weights, x, strict=True))


def angles_of_selective(encoding: SelectiveRotary, x_SM: Tensor, width: int) -> list[list[list[float]]]:
    """Phi_t times the factor of each pair, by head, token and pair."""
    pieces = []
    for t in range(len(x_SM)):
        row = []
        for head in range(G):
            piece = x_SM[t, head * M // G : (head + 1) * M // G].tolist()
            length = math.sqrt(sum(number**2 for number in piece) + 1e-6)
            row += [number / length for number in piece]
        pieces.append(row)
    narrow = [[dot(line, row) for line in encoding.down] for row in pieces]
    projected = [[dot(line, row) for line in encoding.up] for row in narrow]
    angles = []
    for g in range(G):
        total, of_head = [0.0] * PAIRS, []
        for t, row in enumerate(pieces):
            gate = 1.0
            if encoding.gate_weight is not None:
                gate = 1 / (1 + math.exp(-dot(encoding.gate_weight[g], row) - float(encoding.gate_bias[g])))
            for m in range(PAIRS):
                channel = g * PAIRS + m
                lags = range(min(width, t + 1))
                phase = sum(float(encoding.kernel[channel, lag]) * projected[t - lag][channel] for lag in lags)
                phase += 0.0 if encoding.log_step is None else math.exp(encoding.log_step[g, m])
                total[m] += gate * phase
            of_head.append([total[m] * encoding.base ** (-2 * m / D) for m in range(PAIRS)])
        angles.append(of_head)
    return angles


def angles_of_repo(encoding: RePo, x_SM: Tensor) -> list[list[list[float]]]:
    angles = []
    for g in range(G):
        of_head = []
        for row in x_SM:
            gated = [dot(line, row) for line in encoding.gate]
            gated = [number / (1 + math.exp(-number)) for number in gated]
            both = [one * dot(line, row) for one, line in zip(gated, encoding.content, strict=True)]
            position = dot(encoding.position[g], both)
            of_head.append([position * encoding.base ** (-2 * m / D) for m in range(PAIRS)])
        angles.append(of_head)
    return angles


@pytest.mark.parametrize(
    ("encoding", "angles"),
    [
        (made(SelectiveRotary, rank=5), partial(angles_of_selective, width=4)),
        (made(SelectiveRotary, rank=1, conv_width=2, base=50.0, steps=True), partial(angles_of_selective, width=2)),
        (made(SelectiveRotary, steps=True, gate=True), partial(angles_of_selective, width=4)),
        (made(RePo), angles_of_repo),
        (made(RePo, base=20.0, width=5), angles_of_repo),
    ],
    ids=["selective", "with steps", "with a gate", "repo", "repo of width 5"],
)
def test_logits_are_those_of_a_loop_over_the_formula(encoding, angles):
    x, q, k = inputs()
    expected = torch.zeros(2, H, 4, S, dtype=torch.float64)
    with torch.no_grad():
        for b in range(2):
            turned = angles(encoding, x[b])
            for h in range(H):
                of_head = turned[h // (H // G)]
                for row, i in enumerate(range(S - 4, S)):
                    for j in range(S):
                        apart = [of_head[j][m] - of_head[i][m] for m in range(PAIRS)]
                        expected[b, h, row, j] = logit_by_a_loop(q[b, h, i].tolist(), k[b, h // 2, j].tolist(), apart)
        # Frequencies are made in float32.
        torch.testing.assert_close(logits(encoding, x, q[:, :, -4:], k), expected, rtol=0, atol=3e-6)


@pytest.mark.parametrize("name", ["selective_rotary", "repo", "rotary_learned"])
def test_a_rotation_by_content_keeps_the_route_of_a_rotation(name):
    assert {choose_route(layer) for layer in small_decoder(name).encodings} == {"flash"}


def test_where_content_says_nothing_steps_are_those_of_rotary():
    selective = SelectiveRotary(M, H, G, D, steps=True).double()
    torch.nn.init.zeros_(selective.up)
    (x, q, k), positions, rotary = inputs(), Positions.range(S), Rotary(D, base=500_000.0)
    tables = rotary.prepare(positions, positions)
    theirs = rotary.rotate_query(q, tables) @ rotary.rotate_key(k, tables).repeat_interleave(H // G, dim=1).mT
    torch.testing.assert_close(logits(selective, x, q, k), theirs / math.sqrt(D), rtol=0, atol=1e-6)


def test_reports_have_the_distances_between_positions_by_content():
    encoding, (x, q, k) = made(RePo), inputs()
    state = encoding.state(x, Positions.range(S), None)
    rows = QueryRows(None, slice(2, 5), 2, 1.0, None, state[:, :, 2:5], state)
    far = encoding.content_positions(q[:, :, 2:5], k.repeat_interleave(2, dim=1), rows)
    assert far.shape == (2, H, 3, S)
    assert far[1, 3, 2, 7].item() == pytest.approx(abs(state[1, 1, 4, 0] - state[1, 1, 7, 0]).item())


def test_angles_of_a_long_text_are_as_exact_as_those_of_a_short_one():
    selective, generator = made(SelectiveRotary, base=2.0).float(), torch.Generator().manual_seed(2)
    x = torch.randn(1, 4, M, generator=generator).repeat(1, 5_000, 1)
    angles = selective.angles(selective.state(x, Positions.range(20_000), None).detach()).double()
    # From the second four tokens on, the convolution reads the same: four tokens turn by the same angle each time.
    step = (angles[:, :, 8] - angles[:, :, 4]) % (2 * math.pi)
    # In float32 a sum would be off by thousands of roundings; here by those of what is added, 5,000 times the same.
    expected = (angles[:, :, 4] + 4_998 * step) % (2 * math.pi)
    apart = (angles[:, :, 4 + 4 * 4_998] - expected + math.pi) % (2 * math.pi) - math.pi
    assert apart.abs().max() < 4_998 * 2 * 2.0**-22


def test_decoding_in_single_steps_gives_the_logits_of_a_full_pass_after_hundreds_of_tokens():
    decoder, tokens = small_decoder("selective_rotary"), some_tokens(1, 200)
    cache = decoder.new_cache()
    with torch.no_grad():
        steps = [decoder(tokens[:, i : i + 1], cache=cache) for i in range(200)]
        torch.testing.assert_close(torch.cat(steps, dim=1), decoder(tokens), rtol=1e-4, atol=1e-5)


def test_the_state_must_be_given_to_attention():
    _, q, k = inputs()
    with pytest.raises(ValueError, match=r"^state must be.*got None$"):
        attend(q, k, k, made(RePo), None, Visibility())


def test_every_nth_layer_is_rotary_beginning_with_the_first():
    pattern = repo(every=4, base=100.0, width=3)
    shape = StackShape(M, 4, H, G, D)
    first, *others = (shape.fill(encoding_of(spec)) for spec in pattern.specs)
    assert type(first) is Rotary and first.base == 100.0
    assert [(type(x), x.base, len(x.gate)) for x in others] == [(RePo, 100.0, 3)] * 3


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (partial(made, RePo, width=0), "width must .*, got 0"),
        (partial(made, RePo, base=1.0), "base must .*, got 1.0"),
        (partial(made, SelectiveRotary, conv_width=1), "conv_width must .*, got 1"),
        (partial(made, SelectiveRotary, rank=0), "rank must .*, got 0"),
        (partial(SelectiveRotary, 9, 2, 2, 8), "d_model must .*, got 9"),
        (partial(RePo, 8, 2, 2, 7), "head_dim must .*, got 7"),
        (partial(repo, every=1), "every must .*, got 1"),
    ],
)
def test_an_argument_out_of_its_range_is_refused(make, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        make()


def test_the_names_of_choices_make_them():
    assert type(encoding("selective_rotary")) is SelectiveRotary
    assert [type(layer) for layer in small_decoder("repo", num_layers=4).encodings.of_layers] == [Rotary, RePo, RePo]
