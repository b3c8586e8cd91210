"""From a run to what it has learned to do, as a function of a text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from poslab.configuration.build import build
from poslab.data.algorithmic.batches import AnswersAtPlaces
from poslab.data.algorithmic.examples import AlgorithmicExamples
from poslab.data.algorithmic.task import AlgorithmicTask, Example
from poslab.data.examples.answers import AnswerBatches, tokenised_answers
from poslab.data.examples.classes import ClassBatches, tokenised_classes
from poslab.data.examples.source import ExampleSource
from poslab.data.sources import AnySource
from poslab.data.tokenizers import SymbolTokenizer, load_tokenizer
from poslab.generation.beam_search import Continuation, beam_search
from poslab.models import Decoder, Encoder, EncoderDecoder
from poslab.runs.directory import RunDirectory
from poslab.runs.loading import device_named, load
from poslab.runs.task_record import TaskRecord
from poslab.tasks.question_answering import best_spans
from poslab.tasks.task_kinds import check_task, kind_of


class Answer(NamedTuple):
    """What a model answers.

    Args:
        text: the answer: a class, a translation, the result of an algorithm; classes of several, separated by commas.
            One that is written has no white space around it.
        probabilities: of each class, the most probable first; empty where there are no classes.
    """

    text: str
    probabilities: dict[str, float]


Server = Callable[[str], Answer]


def serve(
    run: str | Path,
    device: torch.device | str = "cpu",
    *,
    beams: int = 1,
    length_penalty: float = 1.0,
    max_new_tokens: int = 400,
    trust: str | Sequence[str] = (),
) -> Server:
    """What a run has learned to do, as a function of a text.

        classify = poslab.serve("outputs/2026-01-31_12-00-00_question_types_rotary")
        classify("Who wrote Hamlet?").text

    A text is that of an example: to be classified (two of them separated by a tab), a source, a question and its
    context separated by a tab, or symbols of an algorithmic task separated by spaces.

    Args:
        run: a run directory, whose best checkpoint by validation is taken, or one of its checkpoints.
        device: where the model is put; `auto` is a GPU where there is one.
        beams, length_penalty, max_new_tokens: how an answer of many tokens is found, as of `beam_search`.
        trust: as of `load`.

    Raises:
        ValueError: as of `load`; for a device that is not there, or no beams; for beams where nothing is written token
            by token, as by a classifier; for a run that has learned to go on with a text, which has no answer
            (`poslab.generation.streaming.generate`); and by the function, for a text that is no input of the task.
    """
    directory = RunDirectory.of(run, trust)
    if type(beams) is not int or beams < 1:
        raise ValueError(f"beams must be a positive integer, got {beams}")
    model = load(run, device_named(str(device)), trust=trust)
    tokenizer = load_tokenizer(directory.path)
    source = build(directory.config(), "dataset", AnySource)
    kind, task = kind_of(source), directory.task()
    check_task(directory.config(), source)
    outputs_fit = {"classification": bool(task.classes), "answers": task.outputs == (2, False)}
    is_symbolic = isinstance(tokenizer, SymbolTokenizer)
    if not outputs_fit.get(kind, task.outputs is None) or (kind == "algorithmic" and not is_symbolic):
        raise ValueError(f"{directory.config_file} names {kind} data, and the model has learned something else")
    writes = {"beams": beams, "length_penalty": length_penalty, "max_new_tokens": max_new_tokens}
    if beams > 1 and isinstance(model, Encoder):
        raise ValueError(f"beams must be 1 for an encoder, which writes nothing token by token, got {beams}")
    if isinstance(source, AlgorithmicExamples):
        assert isinstance(tokenizer, SymbolTokenizer)
        if isinstance(model, Encoder):
            return _at_places(model, tokenizer, source)
        return _written(model, tokenizer, tokenizer.answer_id, writes)
    if isinstance(source, ExampleSource) and source.kind == "classification":
        return _classes(model, tokenizer, task, source.longest)
    if isinstance(source, ExampleSource) and source.kind == "answers":
        return _span(model, tokenizer)
    if isinstance(source, ExampleSource):
        return _written(model, tokenizer, tokenizer.end_id, writes, source.source_length)
    raise ValueError(f"run={run} has learned to predict text, and answers nothing")


def _classes(model: Any, tokenizer: Any, task: TaskRecord, max_length: int) -> Server:
    batches = ClassBatches(list(task.classes), several=task.several, max_length=max_length)

    @torch.no_grad()
    def answer(text: str) -> Answer:
        names = ("text", "text_pair") if task.two_texts else ("text",)
        if task.two_texts and "\t" not in text:
            raise ValueError("prompt must be two texts that are separated by a tab, as the model has learned")
        rows = tokenised_classes(
            dict(zip(names, ([part] for part in text.split("\t", len(names) - 1)), strict=True)), tokenizer
        )
        label: Any = [] if task.several else task.classes[0]
        batch = batches({**rows, "label": [label]}, np.array([True]))
        logits_C = model(batch.tokens.to(_device(model)), real=batch.real.to(_device(model)))[0].float()
        p_C = logits_C.sigmoid() if task.several else logits_C.softmax(-1)
        ranked = sorted(zip(task.classes, p_C.tolist(), strict=True), key=lambda pair: -pair[1])
        told = [name for name, p in ranked if p >= 0.5] if task.several else [ranked[0][0]]
        return Answer(", ".join(told), dict(ranked))

    return answer


def _written(
    model: Any, tokenizer: Any, separator: int, how: dict[str, Any], source_length: int | None = None
) -> Server:
    @torch.no_grad()
    def answer(text: str) -> Answer:
        tokens = _encoded(tokenizer, text)
        read = tokens if source_length is None else tokens[: source_length - 1]
        source = torch.tensor([[*read, separator]], device=_device(model))
        search = {**how, "end_id": tokenizer.end_id}
        if model.max_length is not None:
            room = model.max_length - (0 if isinstance(model, EncoderDecoder) else source.shape[1])
            if room < 1 or source.shape[1] > model.max_length:
                raise ValueError(
                    f"prompt must leave room in the {model.max_length} positions at which the model's encoding ends, "
                    f"got {source.shape[1]} tokens"
                )
            search["max_new_tokens"] = min(how["max_new_tokens"], room)
        if isinstance(model, EncoderDecoder):
            begin = torch.full((1, 1), tokenizer.end_id, device=source.device)
            (written,) = beam_search(model.begin(source), begin, **search)
        else:
            assert isinstance(model, Decoder)
            (written,) = beam_search(Continuation(model), source, **search)
        return Answer(tokenizer.decode(written.tolist()).strip(), {})

    return answer


def _span(model: Any, tokenizer: Any) -> Server:
    batches = AnswerBatches()

    @torch.no_grad()
    def answer(text: str) -> Answer:
        question, tab, context = text.partition("\t")
        if not tab:
            raise ValueError("prompt must be a question and a context that are separated by a tab")
        asked: dict[str, Any] = {"question": [question], "context": [context], "answers": [[]]}
        batch = batches({**asked, **tokenised_answers(asked, tokenizer)}, np.array([True]))
        logits_BT2 = model(batch.tokens.to(_device(model)), real=batch.real.to(_device(model))).float().cpu()
        log_p_BT2 = logits_BT2.masked_fill(~batch.answerable.unsqueeze(-1), -torch.inf).log_softmax(1)
        return Answer(batch.contexts[0].between(*best_spans(log_p_BT2)[0]), {})

    return answer


def _encoded(tokenizer: Any, text: str) -> list[int]:
    try:
        tokens: list[int] = tokenizer.encode(text).tolist()
    except ValueError as error:  # symbols that the task does not have
        raise ValueError(f"prompt: {error}") from error
    return tokens


def _at_places(model: Encoder, tokenizer: SymbolTokenizer, source: AlgorithmicExamples) -> Server:
    batches = AnswersAtPlaces(tokenizer)

    @torch.no_grad()
    def answer(text: str) -> Answer:
        symbols = tuple(tokenizer.symbols[number] for number in _encoded(tokenizer, text))
        length = len(symbols)
        if not source.task.has_length(length):
            raise ValueError(f"prompt must have a length that the task has, got {length} symbols")
        answer_length = _answer_length(source.task, length)
        if answer_length is None:
            raise ValueError(
                "run must be of a decoder: an encoder needs to know how long the answer is, which the input of this "
                "task does not tell"
            )
        example = Example(symbols, (tokenizer.symbols[0],) * answer_length)
        tokens = batches([example], np.array([True])).tokens.to(_device(model))
        return Answer(tokenizer.decode(model(tokens)[0, length:].argmax(-1).tolist()), {})

    return answer


def example_prompt(source: AlgorithmicExamples, model: type) -> str | None:
    """Return an input of an algorithmic task; None if a model of that kind cannot answer it without its answer."""
    length = source.lengths_trained[0]
    if model is Encoder and _answer_length(source.task, length) is None:
        return None
    return " ".join(source.task.example(length, np.random.default_rng(0)).input)


def _answer_length(task: AlgorithmicTask, length: int) -> int | None:
    """Return how many symbols answer an input of that length; None if the length of the input does not say it."""
    generator = np.random.default_rng(0)
    drawn = [task.example(length, generator) for _ in range(8)]
    if {len(example.input) for example in drawn} != {length} or len({len(e.output) for e in drawn}) > 1:
        return None
    return len(drawn[0].output)


def _device(model: torch.nn.Module) -> torch.device:
    return next(model.parameters()).device
