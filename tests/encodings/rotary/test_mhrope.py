"""Multi-Head RoPE: each head is the rotary of transformers at the coordinates of one axis."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig
from transformers.models.llama import modeling_llama as llama

from poslab.encodings import MHRoPE, MRopeReset, Positions, Rotary
from tests.encodings.rotary.turned import turned

D, HEADS, KV_HEADS, GROUP, LENGTH = 8, 16, 8, 2, 35
SEQUENCE = torch.tensor([[1, 1, 1], [1, 1, 1], [1, 3, 5], [1, 1, 1], [2, 2, 4], [1, 1, 1]])
"""Two words, a picture, a word, a clip, a word."""


def queries_and_keys() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(1, heads, LENGTH, D, generator=generator) for heads in (HEADS, KV_HEADS))


@pytest.mark.parametrize(
    ("sections", "axis_of_heads"),
    [([2, 3, 3], [0, 0, 1, 1, 1, 2, 2, 2]), ([1, 1, 2], [0, 0, 1, 1, 2, 2, 2, 2]), (None, [0, 0, 0, 1, 1, 2, 2, 2])],
)
def test_each_head_is_rotary_on_its_own_axis(sections, axis_of_heads):
    positions = MRopeReset()(Positions.grids(SEQUENCE, LENGTH, (2, 3, 5)), 1)
    query, key = queries_and_keys()
    ours = turned(MHRoPE(D, HEADS, KV_HEADS, sections), positions, query, key)
    llama_rotary = llama.LlamaRotaryEmbedding(LlamaConfig(hidden_size=HEADS * D, num_attention_heads=HEADS))
    for head, axis in enumerate(axis_of_heads):
        cos, sin = llama_rotary(query, positions.places.coordinates[None, :, axis])
        of_group = slice(head * GROUP, (head + 1) * GROUP)
        theirs = llama.apply_rotary_pos_emb(query[:, of_group], key[:, head : head + 1], cos, sin)
        torch.testing.assert_close((ours[0][:, of_group], ours[1][:, head : head + 1]), theirs, rtol=0, atol=2e-6)


def test_a_text_turns_bit_for_bit_as_under_rotary():
    text = Positions.range(LENGTH, 1_000)
    on_the_diagonal = MRopeReset()(Positions.grids(torch.ones(LENGTH, 3, dtype=torch.long), LENGTH, (1, 1, 1)), 1)
    for positions, same in ((text, text), (on_the_diagonal, Positions.range(LENGTH))):
        ours = turned(MHRoPE(D, HEADS, KV_HEADS), positions, *queries_and_keys())
        assert all(map(torch.equal, ours, turned(Rotary(D), same, *queries_and_keys())))


def test_each_axis_has_the_whole_spectrum():
    encoding = MHRoPE(D, HEADS, KV_HEADS, [2, 3, 3])
    spectrum = encoding.spectrum(LENGTH)
    assert torch.equal(spectrum, Rotary(D).spectrum(LENGTH))
    on_axes = encoding.spectrum_on_axes((2, 3, 5))
    for head, axis in enumerate((0, 0, 1, 1, 1, 2, 2, 2)):
        expected = torch.zeros(3, D // 2)
        expected[axis] = spectrum
        assert torch.equal(on_axes[:, head], expected)
    assert torch.equal(encoding.spectrum_on_axes((LENGTH,)), spectrum[None, None])


def test_too_few_heads_and_other_axes_are_refused():
    with pytest.raises(ValueError, match=r"^num_kv_heads.*got 2 as \[0, 1, 1\]$"):
        MHRoPE(D, 2, 2, [2, 3, 3])
    with pytest.raises(ValueError, match=r"^num_kv_heads.*got 1 as "):
        MHRoPE(D, 2, 1)
    clip, picture = Positions.grid(2, 2, 2), Positions.grid(2, 2)
    with pytest.raises(ValueError, match=r"^num_kv_heads.*got 2 as \[1, 0, 1\]$"):
        MHRoPE(D, 2, 2).prepare(clip, clip)
    with pytest.raises(ValueError, match=r"^sections must.*positions on 2 axes$"):
        MHRoPE(D, 8, 8, [2, 3, 3]).prepare(picture, picture)
