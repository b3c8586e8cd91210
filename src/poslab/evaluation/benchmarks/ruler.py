"""The tasks of RULER (Hsieh et al. 2024, arXiv 2404.06654), generated on this machine without a download.

Words, templates and generators come from the installed lm-evaluation-harness. The amount of hay is searched for as
in NVIDIA's code (github.com/NVIDIA/RULER), so that niah_single_1, niah_multikey_2, niah_multikey_3, cwe and fwe have
its prompts for the same seed and tokenizer. vt has the harness's form, with other line breaks and another example.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import RLock
from types import SimpleNamespace
from typing import Any

import numpy as np

from poslab.configuration.command_line import pip_install
from poslab.data.retrieval_prompts import SENTENCE_END, Prompt, largest_that_fits
from poslab.evaluation.benchmarks.fitting import TooShortError, as_item
from poslab.io.files import NotInstalledError

NEEDLES: dict[str, dict[str, Any]] = {
    "niah_single_1": {"type_haystack": "repeat"},
    "niah_single_2": {"type_haystack": "essay"},
    "niah_single_3": {"type_haystack": "essay", "type_needle_v": "uuids"},
    "niah_multikey_1": {"type_haystack": "essay", "num_needle_k": 4},
    "niah_multikey_2": {"type_haystack": "needle"},
    "niah_multikey_3": {"type_haystack": "needle", "type_needle_k": "uuids", "type_needle_v": "uuids"},
    "niah_multivalue": {"type_haystack": "essay", "num_needle_v": 4},
    "niah_multiquery": {"type_haystack": "essay", "num_needle_k": 4, "num_needle_q": 4},
}
ONE_NEEDLE = {"type_needle_k": "words", "type_needle_v": "numbers", "num_needle_k": 1, "num_needle_v": 1}
NEED_TEXT = tuple(task for task, needles in NEEDLES.items() if needles["type_haystack"] == "essay")
NEED_ANSWERS = ("qa_squad", "qa_hotpot")
TASKS = (*NEEDLES, "vt", "cwe", "fwe", *NEED_ANSWERS)
HAVE_DEPTH = ("niah_single_1", "niah_single_2", "niah_single_3", "niah_multikey_2", "niah_multikey_3")
"""Tasks that insert one needle into their hay."""
SHORT = 4096
"""In shorter prompts RULER counts hay in smaller steps."""
NEEDLE_TOKENS, EXAMPLE_TOKENS = 128, 500
"""Most tokens of the answer to a needle, and of the example of vt."""
MAX_WORD = 40
"""Characters of a word of your own text; longer ones, such as a paragraph without spaces, are cut."""
ATTEMPTS = 20
"""Draws of the smallest prompt before the length is too short."""
LONGEST, STRIDE = 2**17, 128
"""End and step of the search for the least length."""
NEEDLE = re.compile(r"One of the special magic \w+ for \S+ is: (\S+)\.")
HARNESS = RLock()
"""Held while attributes of the harness's modules are replaced."""

Draw = Callable[[int, int], Prompt]
"""Makes a prompt from the amount of hay and the number of the item."""


def ruler_items(
    task: str,
    tokenizer: Callable[[str], Any],
    length: int,
    count: int,
    seed: int = 42,
    *,
    text: str | None = None,
    answers: str | Sequence[str] | None = None,
    depth: float | None = None,
) -> list[dict[str, Any]]:
    """Return items of a task of RULER, as `prompts.items` does, made again. They depend only on the arguments.

    Args:
        task: one of `TASKS`.
        tokenizer: a tokenizer of transformers.
        length: most tokens of a prompt and its answer.
        count: number of items.
        seed: of all random draws, from 0 to 2^32 - 1; 42 in RULER.
        text: hay of the tasks `NEED_TEXT`. Words end at white space, or after `MAX_WORD` characters;
            sentences end at `.`, `!` or `?` before white space.
        answers: files of questions for the tasks `NEED_ANSWERS`, as `dataset=answers_file` has them. The other
            documents of qa_squad come first from the article of the question. The questions of qa_hotpot have one
            document here instead of two.
        depth: of the needle in tasks of `HAVE_DEPTH`, from 0 to 1: the nearest position that RULER may draw. None draws
            it.

    Raises:
        ValueError: for a missing file, or a short length, with the least length in the message.
        NotInstalledError: if the extra `lm-eval` is not installed.
    """
    if task in NEED_TEXT and text is None:
        raise ValueError(f"files must name text files for task={task}, whose needles are hidden in your own text")
    words = re.findall(rf"\S{{1,{MAX_WORD}}}", text or "") if task in NEED_TEXT else []
    questions, documents = _questions(task, answers, count, seed) if task in NEED_ANSWERS else ([], [])
    form = "RULER form, own text" if words else "RULER form, own questions" if questions else "RULER"

    def generate(length: int, count: int) -> list[dict[str, Any]]:
        with _seeded_harness(seed, depth) as harness:
            config = {
                "vt": harness.vt.CONFIG["variable_tracking"],
                "cwe": harness.cwe.CONFIG,
                "fwe": harness.fwe.CONFIG,
            }
            config |= dict.fromkeys(NEED_ANSWERS, harness.qa.CONFIG)
            answer_tokens = config.get(task, {"tokens_to_generate": NEEDLE_TOKENS})["tokens_to_generate"]

            def measure(prompt: Prompt) -> int:
                return len(tokenizer(prompt.written).input_ids)

            limit = length - answer_tokens
            if task == "fwe":
                prompts = _coded_words(harness.fwe, tokenizer, limit, count)
            elif task == "cwe":
                draw = _common_words(harness.cwe, length)
                words_that_fit = int(length // (measure(draw(4096, 0)) / 4096)) * 2
                high = min(words_that_fit, len(harness.cwe.WORDS))
                prompts = _sized(draw, measure, limit, count, step=10, high=high, least=11)  # 10 are the answer
            elif task in NEED_ANSWERS:
                draw = _documents(harness.qa, questions, documents)
                prompts = _sized(draw, measure, limit, count, step=1, high=len(documents))
            elif task in NEED_TEXT:
                draw = _needles(harness, task, words, seed)
                prompts = _sized(draw, measure, limit, count, step=25, high=length)
            else:
                step = 5 if length < SHORT else 10 if task == "vt" else 25
                draw = _chains(harness.vt, measure) if task == "vt" else _needles(harness, task, words, seed)
                high = max(int(length / (measure(draw(step, 0)) / step) * 3), 2 * step)
                prompts = _sized(draw, measure, limit, count, step, high)
        return [
            as_item(index, prompt, measure(prompt) + answer_tokens, length, form, seed, answer_tokens)
            for index, prompt in enumerate(prompts)
        ]

    try:
        return generate(length, count)
    except TooShortError:
        for longer in range((length // STRIDE + 1) * STRIDE, LONGEST, STRIDE):
            try:
                generate(longer, min(count, ATTEMPTS))
            except TooShortError:
                continue
            needed = f"task={task} needs a length of at least {longer} tokens with this tokenizer"
            shorter = f", or below {SHORT}, where its example is short" if task == "cwe" and length >= SHORT else ""
            raise TooShortError(f"{needed}{shorter}, got {length}") from None
        raise ValueError(f"task={task} does not fit {LONGEST} tokens with this tokenizer") from None


class _Draws(random.Random):
    """The functions of `random` that the harness's modules use, with its own state and a fixed depth of one needle."""

    Random = random.Random

    def __init__(self, seed: int, depth: float | None) -> None:
        super().__init__(seed)
        self.first_seed, self.depth = seed, depth

    def begin_item(self, index: int) -> None:
        """Draw the same for an item at each depth where depths are compared; else go on, as NVIDIA does."""
        if self.depth is not None:
            self.seed(f"{self.first_seed} {index}")

    def sample(self, population: Sequence[Any], k: int, *, counts: Any = None) -> list[Any]:
        drawn = super().sample(population, k, counts=counts)  # at a depth too, so that the next draws are the same
        return drawn if self.depth is None or k > 1 else [population[round(self.depth * (len(population) - 1))]]


@contextmanager
def _seeded_harness(seed: int, depth: float | None) -> Iterator[SimpleNamespace]:
    """Provide the harness's modules with their own, seeded random draws.

    Where the harness has a generator of its own module, NVIDIA's code starts one with the seed for each prompt.
    """
    with HARNESS:
        harness = _harness()
        draws = _Draws(seed, depth)
        numpy_draws = SimpleNamespace(random=np.random.RandomState(seed))
        words = sorted(harness.cwe.WORDS)
        random.Random(seed).shuffle(words)
        shuffler = SimpleNamespace(shuffle=lambda values: random.Random(seed).shuffle(values))
        with (
            _replaced(harness.niah, random=draws, cached_sent_tokenize=SENTENCE_END.split),  # punkt is a download
            _replaced(harness.vt, random=draws, np=numpy_draws),
            _replaced(harness.cwe, random=draws, WORDS=words, RNG=shuffler),
            _replaced(harness.fwe, random=draws, SEED=seed),
            _replaced(harness.qa, random=draws, SEED=seed),
        ):
            yield harness


@contextmanager
def _replaced(module: Any, **attributes: Any) -> Iterator[None]:
    """Set attributes of a module for a while."""
    earlier = {name: getattr(module, name) for name in attributes}
    try:
        vars(module).update(attributes)
        yield
    finally:
        vars(module).update(earlier)


def _harness() -> SimpleNamespace:
    """Import the harness's generators; prepare_niah downloads punkt when it is imported unless it seems to be there."""
    try:
        import nltk

        with _replaced(nltk.data, find=lambda *_, **__: ""):
            from lm_eval.tasks.ruler import cwe_utils, fwe_utils, niah_utils, prepare_niah, qa_utils, vt_utils
    except ImportError as error:
        raise NotInstalledError(f"RULER needs {error.name}: {pip_install('lm-eval')}") from None
    names = {"niah": prepare_niah, "templates": niah_utils}
    return SimpleNamespace(**names, vt=vt_utils, cwe=cwe_utils, fwe=fwe_utils, qa=qa_utils)


def _sized(
    draw: Draw, measure: Callable[[Prompt], int], limit: int, count: int, step: int, high: int, least: int = 1
) -> list[Prompt]:
    """Return prompts of at most `limit` tokens, with as much hay as fits the first one.

    Where a prompt is longer it is drawn again with less hay, by `step`, down to `least`.

    Raises:
        TooShortError: if prompts with the least hay do not fit.
    """
    most = largest_that_fits(lambda size: measure(draw(size, 0)) <= limit, step, high)
    prompts = []
    for index in range(count):
        size, attempts = max(most, least), 0
        while measure(prompt := draw(size, index)) > limit:
            if size - step >= least:
                size -= step
            elif (attempts := attempts + 1) == ATTEMPTS:
                raise TooShortError
        prompts.append(prompt)
    return prompts


def _needles(harness: SimpleNamespace, task: str, words: list[str], seed: int) -> Draw:
    settings = ONE_NEEDLE | NEEDLES[task]
    hay = words or harness.niah.get_haystack(type_haystack=settings["type_haystack"])

    def draw(size: int, index: int) -> Prompt:
        harness.niah.random.begin_item(index)
        repeated = words * -(-size // len(words)) if words else hay
        text, outputs, _ = harness.niah.generate_input_output(
            size, repeated, template=harness.templates.TEMPLATE, random_seed=seed, **settings
        )
        question = re.fullmatch(r"What (is|are)(?: all)? the (.*)\?", text.rpartition("\n")[2])
        if question is None:
            raise NotInstalledError("RULER needs a version of lm-eval whose needles end in a question, such as 0.4.13")
        verb, subject = question.groups()
        matches = [*NEEDLE.finditer(text)]
        needles = [match[0] for match in matches if match[1] in outputs]
        context = text.index("\n") + 1, text.rindex("\n")
        return Prompt(text, f"The {subject} {verb}", outputs, context, needles, [match[1] for match in matches])

    return draw


def _chains(vt: Any, measure: Callable[[Prompt], int]) -> Draw:
    config = vt.CONFIG["variable_tracking"]
    start = config["answer_prefix"].partition("{")[0]

    def chain(size: int, is_example: bool) -> Prompt:
        text, outputs = vt.generate_input_output(size, num_chains=1, num_hops=4, is_icl=is_example)
        head, _, tail = text.rpartition(start)
        return Prompt(head, (start + tail).strip(), outputs)

    size = largest_that_fits(lambda size: measure(chain(size, True)) <= EXAMPLE_TOKENS, 5, EXAMPLE_TOKENS // 5)
    solved = chain(size, True)
    example = f"{solved.text} {solved.prefix}  {' '.join(solved.outputs)}\n\n"

    def draw(size: int, index: int) -> Prompt:
        prompt = chain(size, False)
        text = f"{vt.randomize_icl(example)}\n\n{prompt.text}"
        needles = re.findall(rf"VAR (?:{'|'.join(prompt.outputs)}) = (?:\d+|VAR \w+ )", text)
        hay = _hay(text, config["template"])
        return prompt._replace(text=text, hay=hay, needles=needles, others=prompt.outputs)

    return draw


def _common_words(cwe: Any, length: int) -> Draw:
    prefix = cwe.CONFIG["answer_prefix"]

    def draw(size: int, index: int) -> Prompt:
        example, text, outputs = cwe.generate_input_output(size, length)
        example = example.replace(prefix, f"{prefix} ")  # the harness forgets the space before the answer
        return Prompt(f"{example}\n{text.removesuffix(prefix)}", prefix.strip(), outputs)

    return draw


def _coded_words(fwe: Any, tokenizer: Callable[[str], Any], limit: int, count: int) -> list[Prompt]:
    """Return prompts of fwe, whose generator of the harness finds the number of words itself.

    Raises:
        TooShortError: if the template does not fit, or three words are not the most frequent ones.
    """
    prefix, (head, _, tail) = fwe.CONFIG["answer_prefix"], fwe.TEMPLATE.partition("{context}")
    if limit < 250 or len(tokenizer(head + tail).input_ids) >= limit:
        raise TooShortError
    settings = {"vocab_size": limit // 50, "incremental": limit // 32}
    _, _, num_words = fwe.generate_input_output(limit, tokenizer, **settings)
    prompts = []
    for _ in range(count):
        text, outputs, _ = fwe.generate_input_output(limit, tokenizer, num_words=num_words, **settings)
        counts = Counter(text.removeprefix(head).removesuffix(tail).split())
        others = [number for word, number in counts.items() if word not in (*outputs, "...")]
        if min(counts[word] for word in outputs) <= max(others, default=0):
            raise TooShortError
        prompts.append(Prompt(text.removesuffix(prefix), prefix.strip(), outputs))
    return prompts


def _documents(qa: Any, questions: list[dict[str, Any]], documents: list[str]) -> Draw:
    def draw(size: int, index: int) -> Prompt:
        # The harness shuffles the list that it is given.
        text, outputs = qa.generate_input_output(index, size, qas=questions, docs=[*documents])
        (number,) = questions[index]["context"]
        document = re.search(rf"Document \d+:\n{re.escape(documents[number])}", text)
        needles = [document[0]] if document else []
        return Prompt(text, qa.CONFIG["answer_prefix"], outputs, _hay(text, qa.CONFIG["template"]), needles)

    return draw


def _hay(text: str, template: str) -> tuple[int, int]:
    """Return from and to which character of a text the context of its template is, the last one if there are two."""
    head, _, tail = template.partition("{context}")
    return text.rindex(head) + len(head), text.rindex(tail.partition("{")[0])


def _questions(
    task: str, answers: str | Sequence[str] | None, count: int, seed: int
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return questions drawn from files in the form in which the harness has them, and all documents."""
    from poslab.data.examples.answers import AnswersFile

    if answers is None:
        raise ValueError(f"answers must name files of questions and their answers for task={task}")
    source = AnswersFile(files=answers)
    source.check()
    rows = source.examples()["train"].to_list()
    documents = sorted({row["context"] for row in rows})
    numbers = {document: number for number, document in enumerate(documents)}
    articles: dict[str, set[int]] = {}
    if task == "qa_squad":
        for row in rows:
            articles.setdefault(row.get("document", row["context"]), set()).add(numbers[row["context"]])
    questions = [
        {
            "query": row["question"],
            "outputs": [answer["text"] for answer in row["answers"]],
            "context": [numbers[row["context"]]],
            "more_context": sorted(
                articles.get(row.get("document", row["context"]), set()) - {numbers[row["context"]]}
            ),
        }
        for row in rows
        if row["answers"]
    ]
    if len(questions) < count:
        raise ValueError(f"answers must contain at least {count} questions with an answer, got {len(questions)}")
    return random.Random(seed).sample(questions, count), documents
