"""docs/in-your-model.md is true: its blocks run, and give what other ways to the same result give."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

import poslab
from poslab.attention import Visibility, attend
from poslab.encodings import Alibi, NoPosition, Positions, Rotary
from tests.conftest import ROOT

GUIDE = (ROOT / "docs" / "in-your-model.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", GUIDE, re.M | re.S)
FIVE_LINES, ROTATION, BIAS, LLAMA, BERT, BERT_BY_HAND, PADDING, CACHE, PADDED_CACHE, FLEX = range(10)


def run(place: int) -> dict[str, Any]:
    """The names that a block makes; every test begins with the same random numbers, so that it can be repeated."""
    names: dict[str, Any] = {}
    exec(BLOCKS[place], names)
    return names


def whole(names: dict[str, Any], encoding: Any) -> torch.Tensor:
    """The queries of a block, as they are drawn first, in one causal attention."""
    torch.manual_seed(0)
    q, k, v = torch.randn(3, *names["v"].shape)
    positions = Positions.range(q.shape[2])
    return attend(q, k, v, encoding, encoding.prepare(positions, positions), Visibility())


def test_every_block_is_run_here() -> None:
    assert len(BLOCKS) == 10 and GUIDE.count("```") == 20


def test_five_lines_print_the_shape_that_they_say(capsys: pytest.CaptureFixture[str]) -> None:
    run(FIVE_LINES)
    assert BLOCKS[FIVE_LINES].strip().endswith(f"# {capsys.readouterr().out.strip()}")


@pytest.mark.parametrize("page", ["README.md", "README.zh-CN.md"])
def test_the_lines_of_the_readme_run(page: str) -> None:
    block, *_ = re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(encoding="utf-8"), re.M | re.S)
    torch.manual_seed(0)
    names: dict[str, Any] = {}
    exec(block, names)
    torch.testing.assert_close(names["y"], whole(names, Rotary(head_dim=64)))


def test_the_rotation_by_hand_is_that_of_attend() -> None:
    names = run(ROTATION)
    torch.testing.assert_close(names["y"], whole(names, Rotary(head_dim=64, base=500_000)), rtol=1e-4, atol=1e-5)


def test_the_bias_by_hand_is_that_of_attend() -> None:
    names = run(BIAS)
    torch.testing.assert_close(names["y"], whole(names, Alibi(num_heads=8)), rtol=1e-4, atol=1e-5)


def test_a_llama_is_exchanged_and_given_back() -> None:
    names = run(LLAMA)
    assert names["text"].shape == (2, 15)
    assert not hasattr(names["llama"], "poslab_encodings")


def test_bert_reads_the_order_of_tokens_by_the_new_encoding_alone() -> None:
    names = run(BERT)
    bert, ids, hidden_BTM = names["bert"], names["ids"], names["hidden_BTM"]
    assert (bert(ids.flip(1)).last_hidden_state.flip(1) - hidden_BTM).abs().max() > 1e-4
    poslab.exchange(bert, NoPosition)
    hidden_BTM = bert(ids).last_hidden_state
    torch.testing.assert_close(bert(ids.flip(1)).last_hidden_state.flip(1), hidden_BTM, rtol=1e-4, atol=1e-5)


def test_bert_by_hand_is_bert_exchanged() -> None:
    names = run(BERT_BY_HAND)
    bert, ids, real = names["bert"], names["ids"], names["real"]
    poslab.exchange(bert, Alibi)
    expected = bert(ids, attention_mask=real).last_hidden_state
    torch.testing.assert_close(names["hidden_BTM"][real], expected[real], rtol=1e-4, atol=1e-5)


def test_padding_changes_nothing_for_the_real_tokens() -> None:
    names = run(PADDING)
    q, k, v = (names[name][:1, :, 2:] for name in "qkv")
    positions = Positions.range(3)
    tables = names["encoding"].prepare(positions, positions)
    alone = attend(q, k, v, names["encoding"], tables, Visibility())
    torch.testing.assert_close(names["y"][:1, :, 2:], alone, rtol=1e-4, atol=1e-5)


def test_token_by_token_is_all_at_once() -> None:
    names = run(CACHE)
    torch.testing.assert_close(names["y"], whole(names, names["encoding"]), rtol=1e-4, atol=1e-5)


def test_decoding_of_padded_prompts_is_each_row_read_alone() -> None:
    names = run(PADDED_CACHE)
    torch.testing.assert_close(names["y"][1:], whole(names, names["encoding"])[1:], rtol=1e-4, atol=1e-5)
    q, k, v = (names[name][:1, :, 2:] for name in "qkv")
    positions = Positions.range(4)
    alone = attend(q, k, v, names["encoding"], names["encoding"].prepare(positions, positions), Visibility())
    torch.testing.assert_close(names["y"][:1, :, 2:], alone, rtol=1e-4, atol=1e-5)


def test_flex_attention_by_hand_is_attend_by_any_route() -> None:
    names = run(FLEX)
    torch.testing.assert_close(names["y"], whole(names, names["alibi"]), rtol=1e-4, atol=1e-5)
    operands = (*(names[name] for name in "qkv"), names["alibi"])
    tables = names["alibi"].prepare(names["positions"], names["positions"])
    torch.testing.assert_close(names["y"], attend(*operands, tables, Visibility(), route="flex"), rtol=1e-4, atol=1e-5)


def test_names_that_people_look_for_lead_to_a_page() -> None:
    for name in ("RoPE", "`rotary_embedding`", "NoPE", "ALiBi", "T5 bias"):
        assert name in GUIDE.partition("## Names that you may look for")[2]
