"""Choice of a token; no torch, for fast errors. Dimension letters: B batch, V vocabulary, K candidates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from poslab.arguments import Count, Range, with_checked_arguments

if TYPE_CHECKING:
    from torch import Generator, Tensor


@with_checked_arguments
@dataclass(frozen=True)
class Sampling:
    """A choice among the most probable tokens.

        p_i = exp(logit_i / temperature) / sum_j exp(logit_j / temperature)

    over the tokens that `top_k` and then `top_p` keep; of equally probable tokens the lower id comes first.

    Args:
        temperature: below 1 sharpens the distribution, above 1 flattens it; at least 0; 0 is greedy decoding.
        top_k: keeps the k most probable tokens; at least 1. None keeps all.
        top_p: keeps the smallest set of the most probable tokens whose mass, among those that `top_k` left, reaches p;
            in (0, 1]. 1 keeps all. Of the probabilities 0.5, 0.25, 0.15, 0.1 a top_p of 0.7 keeps two (mass 0.75), 0.8
            keeps three (0.9).

    Raises:
        ValueError: for a value outside of these.

    Source: top-k: Fan, Lewis, Dauphin, "Hierarchical Neural Story Generation" (ACL 2018), section 5.3; top-p (nucleus):
    Holtzman et al., "The Curious Case of Neural Text Degeneration" (ICLR 2020), section 3.1.
    """

    temperature: Annotated[float, Range(at_least=0), Range(at_most=1e9)] = 1.0
    top_k: Count | None = None
    top_p: Annotated[float, Range(above=0, at_most=1)] = 1.0

    def next_token(self, logits_BV: Tensor, generator: Generator | None = None) -> Tensor:
        """Return the next token of each row, (B,), drawn with `generator` or torch's own."""
        if self.temperature == 0:
            return logits_BV.argmax(dim=-1)
        probabilities_BK, tokens_BK = self.candidates(logits_BV)
        return tokens_BK.gather(-1, probabilities_BK.multinomial(1, generator=generator)).squeeze(-1)

    def candidates(self, logits_BV: Tensor) -> tuple[Tensor, Tensor]:
        """Return probabilities and ids of the tokens to draw from, both (B, K), the most probable first.

        K is `top_k`, or V. A token that `top_p` leaves out has probability 0. The temperature must be above 0.
        """
        temperature = max(self.temperature, 1e-9)  # a smaller one would make large logits infinite
        logits_BK, tokens_BK = (logits_BV.float() / temperature).sort(dim=-1, descending=True, stable=True)
        logits_BK, tokens_BK = logits_BK[:, : self.top_k], tokens_BK[:, : self.top_k]
        probabilities_BK = logits_BK.softmax(dim=-1)
        if self.top_p < 1:
            reached_BK = probabilities_BK.cumsum(dim=-1) >= self.top_p
            probabilities_BK[:, 1:].masked_fill_(reached_BK[:, :-1], 0.0)
        return probabilities_BK / probabilities_BK.sum(dim=-1, keepdim=True), tokens_BK
