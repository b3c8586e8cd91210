import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2Model

from poslab.encodings import Learned, Positions


def test_learned_adds_the_row_of_each_position():
    learned = Learned(d_model=8, max_length=16)
    theirs = nn.Embedding(16, 8)
    theirs.weight = learned.table.weight
    x = torch.randn(2, 5, 8)
    torch.testing.assert_close(learned.embed(x, Positions.range(5, start=3)), x + theirs(torch.arange(3, 8)))
    ids = torch.tensor([[0, 1, 2, 0, 1], [4, 3, 2, 1, 15]])
    torch.testing.assert_close(learned.embed(x, Positions(ids, stop=16)), x + theirs(ids))


def test_learned_is_what_enters_the_first_block_of_gpt2():
    gpt2 = GPT2Model(GPT2Config(vocab_size=11, n_positions=16, n_embd=8, n_layer=0, n_head=2)).eval()
    gpt2.ln_f = nn.Identity()
    learned = Learned(d_model=8, max_length=16)
    learned.table.weight.data.copy_(gpt2.wpe.weight)
    tokens = torch.randint(11, (2, 16))
    ours = learned.embed(gpt2.wte(tokens), Positions.range(16))
    torch.testing.assert_close(ours, gpt2(tokens).last_hidden_state, rtol=0, atol=1e-5)


def test_learned_refuses_real_positions_in_one_sentence():
    with pytest.raises(ValueError, match=r"^positions must.*got real numbers: [^\n]+$"):
        Learned(d_model=8, max_length=16).embed(torch.zeros(1, 2, 8), Positions(torch.tensor([0.0, 1.0]), stop=2))
