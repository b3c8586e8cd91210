"""Encoder-decoder that can copy from its source.

Dimension letters: B batch, S source tokens, T target tokens, N tokens written so far, M model dim, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from poslab.models.contexts import Memory
from poslab.models.encoder_decoder import EncoderDecoder


class PointerGenerator(EncoderDecoder):
    """An encoder-decoder that can copy: it writes a token of its vocabulary, or one that it points at in the source.

        p(token) = (1 - c) p_vocabulary(token) + c * (sum of a_s over the positions s of the source where the token is)
        c = sigmoid(u . h + b)
        a = softmax over s of  (W h) . m_s / sqrt(M) + f(h, m_s) [x_(s-1) = y] + r(h) [x_s is y or an earlier token]

    with h the hidden state of the target at its token y, and m_s the source's at its token x_s; x_(-1) is the
    token that begins all targets, which does not count as an earlier one. c is the probability of copying; f (affine, 3
    at first) favours the token after the last one in the source, and r (affine, -3 at first) a repeated token.

    Args: as in `EncoderDecoder`.

    Source: See, Liu, Manning, "Get To The Point: Summarization with Pointer-Generator Networks" (2017), sections 2.2
    and 2.3, where c also depends on the context and the last token, and the attention so far limits repetition; Gu et
    al., "Incorporating Copying Mechanism in Sequence-to-Sequence Learning" (2016), section 3.3, for the position of
    the last token in the source.
    """

    def add_layers(self, d_model: int) -> None:
        self.pointer = nn.Linear(d_model, d_model, bias=False)
        self.copies, self.goes_on, self.repeats = (nn.Linear(d_model, 1) for _ in range(3))
        self.is_gone_on_to = nn.Linear(d_model, 1, bias=False)
        nn.init.normal_(self.pointer.weight, std=d_model**-0.5)
        nn.init.zeros_(self.is_gone_on_to.weight)
        for choice, bias in ((self.copies, 3.0), (self.goes_on, 3.0), (self.repeats, -3.0)):
            nn.init.zeros_(choice.weight)
            nn.init.constant_(choice.bias, bias)

    def target_logits(self, hidden_BTM: Tensor, written_BN: Tensor, memory: Memory) -> Tensor:
        """Return log probabilities of the token after each of the last T of a target, (B, T, V) float32."""
        generated_BTV = super().target_logits(hidden_BTM, written_BN, memory).float().log_softmax(-1)
        pointed_BTS = self._pointed(hidden_BTM, written_BN, memory)
        token_BTS = memory.tokens.unsqueeze(1).expand_as(pointed_BTS)
        # A share may be zero, as at padding, and the logarithm of zero has no gradient.
        tiny = torch.finfo(pointed_BTS.dtype).tiny
        copied_BTV = torch.full_like(generated_BTV, tiny).scatter_add(-1, token_BTS, pointed_BTS).log()
        copies_BT1 = self.copies(hidden_BTM).float()
        generated_BTV = generated_BTV + functional.logsigmoid(-copies_BT1)
        return torch.logaddexp(generated_BTV, copied_BTV + functional.logsigmoid(copies_BT1))

    def _pointed(self, hidden_BTM: Tensor, written_BN: Tensor, memory: Memory) -> Tensor:
        """Return the shares a, (B, T, S) float32."""
        before, last_BT = written_BN.shape[1] - hidden_BTM.shape[1], written_BN[:, -hidden_BTM.shape[1] :]
        token_before_BS = torch.cat([written_BN[:, :1], memory.tokens[:, :-1]], dim=1)
        follows_BTS = token_before_BS.unsqueeze(1) == last_BT.unsqueeze(-1)
        is_written_BNS = memory.tokens.unsqueeze(1) == written_BN.unsqueeze(-1)
        is_written_BNS[:, 0] = False
        repeats_BTS = is_written_BNS[:, :before].any(1, keepdim=True) | (is_written_BNS[:, before:].cumsum(1) > 0)
        scores_BTS = (self.pointer(hidden_BTM) @ memory.states.mT).float() * hidden_BTM.shape[-1] ** -0.5
        goes_on_BTS = self.goes_on(hidden_BTM).float() + self.is_gone_on_to(memory.states).float().mT
        scores_BTS = scores_BTS + goes_on_BTS * follows_BTS + self.repeats(hidden_BTM).float() * repeats_BTS
        if memory.real is not None:
            scores_BTS = scores_BTS.masked_fill(~memory.real.unsqueeze(1), torch.finfo(scores_BTS.dtype).min)
        return scores_BTS.softmax(-1)
