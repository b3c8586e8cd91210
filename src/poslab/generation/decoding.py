"""Decoding of texts: beam search, of which one beam is greedy decoding, and streaming token by token.

Dimension letters: B texts, K beams, N tokens written so far, T tokens, V vocabulary, R rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from poslab.data.tokenizers import Tokenizer
from poslab.encodings import Positions
from poslab.generation.token_choice import Sampling
from poslab.models import Decoding, Model


class Continuation:
    """Texts that a causal model continues.

    A model with the capability `cache` reads each token once; any other reads the whole text again for each new token.

    Args:
        model: causal model in evaluation mode.
        real: (B, T) bool, False at left padding of the first tokens; None if there is none.
        first: further arguments for reading the first tokens, such as patches, of a model with `cache`.
    """

    def __init__(self, model: Model, real: Tensor | None = None, first: dict[str, Any] | None = None) -> None:
        self.model = model
        self._real = real
        self._first = first or {}
        self._cache = model.new_cache() if "cache" in model.capabilities else None
        self._tokens_BT: Tensor | None = None

    def next_logits(self, tokens_BT: Tensor) -> Tensor:
        """Return logits of the token that follows these new ones, (B, V)."""
        is_first, model = self._tokens_BT is None, self.model
        self._tokens_BT = tokens_BT if self._tokens_BT is None else torch.cat([self._tokens_BT, tokens_BT], dim=1)
        real, positions = self._real, None
        if self._cache is not None:
            read_BT, real = tokens_BT, real if is_first else None
        else:
            read_BT = self._tokens_BT
            if real is not None:
                new = read_BT.shape[1] - real.shape[1]
                real = torch.cat([real, real.new_ones(len(real), new)], dim=1)
        if real is not None:
            positions = Positions.padded(real)
        named = {"positions": positions, **(self._first if is_first else {})}
        # `forward` may be compiled, and would be compiled again for each length.
        return model.logits(model.hidden_states(read_BT, real=real, cache=self._cache, **named)[:, -1])

    def select(self, rows_R: Tensor) -> None:
        """Keep these rows, each any number of times."""
        assert self._tokens_BT is not None
        self._tokens_BT = self._tokens_BT[rows_R]
        if self._cache is not None:
            self._cache.select(rows_R)
        if self._real is not None:
            self._real = self._real[rows_R]


@torch.no_grad()
def beam_search(
    decoding: Decoding,
    first_BT: Tensor,
    *,
    max_new_tokens: int,
    end_id: int,
    beams: int = 1,
    length_penalty: float = 1.0,
) -> list[Tensor]:
    """Return the most probable continuation of each row that a beam search finds, without its end.

    K texts of each row are kept, the ones with the highest score

        log p(text) / length ** length_penalty

    where the end counts as a token. A text that has ended is unchanged, and may be overtaken. The search ends when
    all have ended, or after `max_new_tokens`.

    Args:
        decoding: decoding of texts of which nothing has been written yet.
        first_BT: tokens that it reads first.
        max_new_tokens: most tokens to write, at least 1.
        end_id: token that ends a text.
        beams: K, at least 1 (greedy decoding).
        length_penalty: 0 prefers short texts, 1 compares log probabilities per token.

    Returns:
        Token ids of each row, (0 to max_new_tokens,) each.

    Source: Wu et al., "Google's Neural Machine Translation System" (2016), section 7, with the plain power of length.
    """
    if beams < 1 or max_new_tokens < 1:
        raise ValueError(f"beams and max_new_tokens must be positive integers, got {beams} and {max_new_tokens}")
    device = first_BT.device
    log_p_BV = decoding.next_logits(first_BT).float().log_softmax(-1)
    vocab_size = log_p_BV.shape[-1]
    if beams > 1:
        decoding.select(torch.arange(len(first_BT), device=device).repeat_interleave(beams))
    log_p_BKV = log_p_BV.unsqueeze(1).expand(-1, beams, -1)
    # At first all K texts are equal, so all but one are excluded.
    sums_BK = torch.full((len(first_BT), beams), -torch.inf, device=device)
    sums_BK[:, 0] = 0.0
    lengths_BK = torch.zeros(len(first_BT), beams, dtype=torch.int64, device=device)
    ended_BK = torch.zeros(len(first_BT), beams, dtype=torch.bool, device=device)
    written_BKN = torch.empty(len(first_BT), beams, 0, dtype=torch.int64, device=device)
    only_end_V = torch.full((vocab_size,), -torch.inf, device=device)
    only_end_V[end_id] = 0.0
    texts = [written_BKN.new_empty(0)] * len(first_BT)
    # Batch index of each unfinished row; B shrinks as sequences finish.
    text_B = torch.arange(len(first_BT), device=device)
    for step in range(max_new_tokens):
        if step:
            logits = decoding.next_logits(written_BKN[..., -1].reshape(-1, 1)).float()
            log_p_BKV = logits.log_softmax(-1).unflatten(0, (-1, beams))
        log_p_BKV = torch.where(ended_BK.unsqueeze(-1), only_end_V, log_p_BKV)
        new_sums_BKV = sums_BK.unsqueeze(-1) + log_p_BKV
        new_lengths_BK = lengths_BK + ~ended_BK
        scores_BKV = new_sums_BKV / new_lengths_BK.unsqueeze(-1) ** length_penalty
        places_BK = scores_BKV.flatten(1).topk(beams, dim=-1).indices
        from_BK, next_BK = places_BK // vocab_size, places_BK % vocab_size
        sums_BK = new_sums_BKV.flatten(1).gather(1, places_BK)
        lengths_BK = new_lengths_BK.gather(1, from_BK)
        row_B1 = torch.arange(len(text_B), device=device).unsqueeze(-1)
        written_BKN = torch.cat([written_BKN[row_B1, from_BK], next_BK.unsqueeze(-1)], dim=-1)
        ended_BK = next_BK == end_id
        unfinished_B = ~ended_BK.all(-1)
        left = int(unfinished_B.sum())
        last = step == max_new_tokens - 1 or not left
        # Finished rows are dropped once they are half of all, since copying the rows that remain has a cost too.
        drop = last or 2 * left <= len(text_B)
        if drop:
            best_B = (sums_BK / lengths_BK**length_penalty).argmax(dim=-1)
            best_BN = written_BKN[row_B1[:, 0], best_B]
            for text, best_N in zip(text_B.tolist(), best_BN, strict=True):  # an unfinished row's best for now
                ends = (best_N == end_id).nonzero()
                texts[text] = best_N[: int(ends[0])] if len(ends) else best_N
        if last:
            break
        if drop:
            text_B, sums_BK, lengths_BK = text_B[unfinished_B], sums_BK[unfinished_B], lengths_BK[unfinished_B]
            written_BKN, ended_BK = written_BKN[unfinished_B], ended_BK[unfinished_B]
        if drop or beams > 1:
            rows_BK = row_B1 * beams + from_BK
            decoding.select((rows_BK[unfinished_B] if drop else rows_BK).flatten())
    return texts


def generate(
    model: Model,
    prompt_BT: Tensor,
    max_new_tokens: int,
    sampling: Sampling | None = None,
    *,
    generator: torch.Generator | None = None,
    end_id: int | None = None,
) -> Iterator[Tensor]:
    """Continue texts by one token at a time, reading each token once: a cache keeps keys and values.

        generator = torch.Generator().manual_seed(1)
        for tokens_B in generate(model, prompt_BT, 100, Sampling(temperature=0.8, top_p=0.9), generator=generator):
            ...

    Args:
        model: causal model in evaluation mode.
        prompt_BT: token ids to continue, at least one per row, on the device of the model.
        max_new_tokens: most tokens to generate, at least 1.
        sampling: choice of a token; None samples from the model's own distribution.
        generator: random generator of the tokens, on the device of the model.
        end_id: token that ends a document. A row that has ended only repeats it, and the iteration ends when all rows
            have, the end included. None continues past ends of documents.

    Returns:
        An iterator over the new tokens of all rows, (B,) each.

    Raises:
        ValueError: at once, for a value outside of these, or a model whose encoding ends before the last new token.
    """
    if prompt_BT.dim() != 2 or prompt_BT.numel() == 0:
        raise ValueError(f"prompt must be rows of at least one token each, got the shape {tuple(prompt_BT.shape)}")
    if type(max_new_tokens) is not int or max_new_tokens < 1:
        raise ValueError(f"max_new_tokens must be a positive integer, got {max_new_tokens}")
    length = prompt_BT.shape[1]
    if model.max_length is not None and length + max_new_tokens > model.max_length:
        room = f"leave room for {model.max_length - length}" if length < model.max_length else "leave no room"
        raise ValueError(
            f"max_new_tokens={max_new_tokens} passes the {model.max_length} positions at which the model's encoding "
            f"ends: {length} tokens of prompt {room}"
        )

    def new_tokens() -> Iterator[Tensor]:
        continuation, choice, tokens_BT = Continuation(model), sampling or Sampling(), prompt_BT
        ended_B = torch.zeros(len(tokens_BT), dtype=torch.bool, device=tokens_BT.device)
        for _ in range(max_new_tokens):
            # Around each step and not around a yield, where it would apply to the caller too. Not inference mode, since
            # tensors that an encoding keeps of it could not be trained with afterwards.
            with torch.no_grad():
                next_B = choice.next_token(continuation.next_logits(tokens_BT), generator)
            if end_id is not None:
                next_B = next_B.masked_fill(ended_B, end_id)
                ended_B = next_B == end_id
            yield next_B
            if end_id is not None and ended_B.all():
                return
            tokens_BT = next_B.unsqueeze(1)

    return new_tokens()


def stream_text(tokenizer: Tokenizer, prompt: Sequence[int], continuation: Iterable[int]) -> Iterator[str]:
    """Yield the text of a continuation in pieces, each as soon as it is certain, after the token ids of a prompt.

    The text of a token may depend on the one before it. Bytes that do not yet form a character wait for those that
    complete it, or for the end.
    """
    # Each token decodes only the text after `start` again; the text before `shown` has been yielded.
    tokens = list(prompt)
    start, shown = 0, len(tokens)

    def unseen() -> str:
        return tokenizer.decode(tokens[start:])[len(tokenizer.decode(tokens[start:shown])) :]

    for token in continuation:
        tokens.append(token)
        text = unseen()
        if text and not text.endswith("\N{REPLACEMENT CHARACTER}"):
            yield text
            start, shown = shown, len(tokens)
    if text := unseen():
        yield text
