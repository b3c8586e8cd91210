"""Streaming text from a causal model, token by token. Dimension letters: B batch, T tokens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from poslab.data.tokenizers import Tokenizer
from poslab.generation.beam_search import Continuation
from poslab.generation.token_choice import Sampling
from poslab.models import Model


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
            # Around each step and not around a yield, where it would hold for the caller too. Not inference mode, since
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
    """Yield the text of a continuation in pieces, each as soon as it is certain.

    Bytes that do not yet form a character wait for those that complete it, or for the end.

    Args:
        tokenizer: tokenizer of the model.
        prompt: token ids before the continuation, since the text of a token may depend on the one before it.
        continuation: token ids as they arrive.
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
