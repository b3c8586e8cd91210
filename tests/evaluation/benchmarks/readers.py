"""Language models of the harness that answer by a function of the prompt, and prompts with a needle."""

from __future__ import annotations

import re

from lm_eval.api.model import TemplateLM


class Reader(TemplateLM):
    """Writes what a function of the prompt returns; its log probability of a text counts the characters that differ."""

    tokenizer_name = "reader"
    max_length = 10**6

    def __init__(self, answer):
        super().__init__()
        self.answer, self.asked = answer, []

    @property
    def eot_token_id(self):
        return 0

    def tok_encode(self, string, add_special_tokens=None, **_):
        return list(string.encode())

    def _loglikelihood_tokens(self, requests, disable_tqdm=False, **_):
        scores = []
        for (prompt, text), _, _ in requests:
            self.asked.append(prompt)
            differing = sum(a != b for a, b in zip(text, self.answer(prompt).ljust(len(text)), strict=False))
            scores.append((-float(differing), not differing))
            self.cache_hook.add_partial("loglikelihood", (prompt, text), scores[-1])
        return scores

    def loglikelihood_rolling(self, requests, disable_tqdm=False):
        raise NotImplementedError

    def generate_until(self, requests, disable_tqdm=False):
        answers = []
        for request in requests:
            self.asked.append(request.args[0])
            answers.append(self.answer(request.args[0]))
            self.cache_hook.add_partial("generate_until", request.args, answers[-1])
        return answers


def of_needle(prompt):
    """The value of the key in question, as a reader finds it."""
    key = re.search(r"number for (\S+) mentioned", prompt)[1]
    value = re.search(rf"numbers for {key} is: (\d+)", prompt)
    return f" {value[1]}" if value else " 0000000"


def needle_items(count=4):
    """Return prompts with the form of RULER's needles, every other one with its needle far before the end."""
    items = []
    for i in range(count):
        needle, start = f"One of the special magic numbers for key{i} is: {1234561 + i}.", "Memorize.\n"
        hay = f"noise {i}. {needle} {'noise ' * (1 + 120 * (i % 2))}".strip()
        text = f"{start}{hay}\nWhat is the special magic number for key{i} mentioned in the provided text?"
        items.append(
            {
                "input": text,
                "gen_prefix": f"The special magic number for key{i} mentioned in the provided text is",
                "outputs": [str(1234561 + i)],
                "needles": [needle],
                "hay": [len(start), len(start) + len(hay)],
                "distractors": [["7654321"], ["1111111"]],
                "max_new_tokens": 8,
            }
        )
    return items
