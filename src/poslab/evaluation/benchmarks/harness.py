"""A model of Poslab as lm-evaluation-harness asks it: probabilities of continuations and of texts, and answers.

Dimension letters: B batch, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import normalize_gen_kwargs, postprocess_generated_text
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from poslab.data.tokenizers import Tokenizer
from poslab.generation.decoding import generate
from poslab.generation.token_choice import Sampling
from poslab.models import Model

DEFAULT_NEW_TOKENS = 256
"""Most tokens of an answer where a task names none, as in the harness."""


class HarnessModel(TemplateLM):
    """A causal model with its tokenizer.

    Of a request that is longer than `max_length`, the last tokens are read. A text without a context is read after an
    end of a document. Answers are decoded greedily, unless a task samples.

    Args:
        model: causal model in evaluation mode.
        tokenizer: its tokenizer.
        max_length: tokens that it reads at once; at most as many as its encoding has positions for.
        seed: of answers that are sampled.

    Raises:
        ValueError: for a model that sees later tokens, or a length that its encoding does not have.
    """

    def __init__(self, model: Model, tokenizer: Tokenizer, max_length: int, seed: int = 1) -> None:
        super().__init__()
        if "causal" not in model.capabilities:
            raise ValueError("run must be of a model that continues texts, which an encoder does not")
        if model.max_length is not None and max_length > model.max_length:
            raise ValueError(f"lengths must be at most {model.max_length}, where the encoding ends, got {max_length}")
        self.model, self.tokens, self.max_length, self.seed = model, tokenizer, max_length, seed
        self._device = next(model.parameters()).device

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        scores: list[tuple[float, bool]] = super().loglikelihood(requests, disable_tqdm=True)
        return scores

    def _model_call(self, tokens_BT: torch.Tensor) -> torch.Tensor:
        logits_BTV: torch.Tensor = self.model(tokens_BT)
        return logits_BTV

    @property
    def eot_token_id(self) -> int:
        return self.tokens.end_id

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Return the tokens of a text between those that the tokenizer adds, if any, as the harness's own models."""
        ids = self.tokens.encode(string)
        framed: list[int] = (ids if add_special_tokens is False else self.tokens.framed(ids)).tolist()
        return framed

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, list[int], list[int]]], disable_tqdm: bool = False, **others: Any
    ) -> list[tuple[float, bool]]:
        """Return for each context and continuation its log probability, and whether greedy decoding would write it.

        They are read one by one: in a batch, rounding would depend on what else is in it, and so on earlier kills.
        """
        scores = []
        for key, context, written in requests:
            text = (context + written)[-self.max_length - 1 :]
            answer_T = torch.tensor(written[-self.max_length :], device=self._device)
            with torch.no_grad():
                logits_TV = self.model(torch.tensor([text[:-1]], device=self._device))[0, -len(answer_T) :].float()
            log_p_TV = logits_TV.log_softmax(-1)
            log_p = float(log_p_TV.gather(1, answer_T[:, None]).double().sum())
            scores.append((log_p, bool((log_p_TV.argmax(-1) == answer_T).all())))
            if key is not None:
                self.cache_hook.add_partial("loglikelihood", key, scores[-1])
        return scores

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        totals = []
        for request in requests:
            (text,) = request.args
            windows = get_rolling_token_windows(self.tok_encode(text, False), self.prefix_token_id, self.max_length, 1)
            scores = self._loglikelihood_tokens([(None, *make_disjoint_window(w)) for w in windows], disable_tqdm=True)
            totals.append(sum(log_p for log_p, _ in scores))
            self.cache_hook.add_partial("loglikelihood_rolling", (text,), totals[-1])
        return totals

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        answers = []
        for request in requests:
            prompt, settings = request.args
            answers.append(self._answer(prompt, settings))
            self.cache_hook.add_partial("generate_until", (prompt, settings), answers[-1])
        return answers

    def _answer(self, prompt: str, settings: Mapping[str, Any]) -> str:
        known = normalize_gen_kwargs(dict(settings), DEFAULT_NEW_TOKENS)
        stops: list[str] = [stop for stop in known["until"] if stop]
        count = known["max_gen_toks"]
        if (room := self.max_length - count) < 1:
            raise ValueError(f"lengths must leave room for the {count} tokens of an answer, got {self.max_length}")
        ids = self.tok_encode(prompt)[-room:] or [self.prefix_token_id]
        sampling = Sampling(known.get("temperature") or 0.0, known.get("top_k"), known.get("top_p") or 1.0)
        generator = torch.Generator(self._device).manual_seed(self.seed)
        prompt_BT, written = torch.tensor([ids], device=self._device), list[int]()
        for token_B in generate(self.model, prompt_BT, count, sampling, generator=generator, end_id=self.eot_token_id):
            written.append(int(token_B))
            if stops and any(stop in self.tokens.decode(written) for stop in stops):
                break
        text = self.tokens.decode(token for token in written if token != self.eot_token_id)
        answer: str = postprocess_generated_text(text, stops, None)
        return answer
