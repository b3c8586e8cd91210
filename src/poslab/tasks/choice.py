"""Which task a model is given: what its data and its kind say together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from poslab.configuration.build import build
from poslab.data.algorithmic.batches import AnswersAtPlaces, WrittenAnswers
from poslab.data.algorithmic.datamodule import AlgorithmicDataModule
from poslab.data.corpus import Corpus
from poslab.data.datamodule import TextDataModule
from poslab.data.examples.answers import AnswerBatches
from poslab.data.examples.classes import ClassBatches
from poslab.data.examples.datamodule import ExampleDataModule
from poslab.data.examples.pairs import ContinuedBatches, PairBatches
from poslab.data.examples.source import ExampleSource
from poslab.data.objectives import CorruptedSpans, MaskedTokens
from poslab.data.run_data import RunData
from poslab.data.sources import AnySource
from poslab.models import Decoder, Encoder, EncoderDecoder
from poslab.tasks.answering import Answering
from poslab.tasks.classification import Classification, MultiLabelClassification
from poslab.tasks.language_modelling import LanguageModelling
from poslab.tasks.masked_language_modelling import MaskedLanguageModelling
from poslab.tasks.question_answering import QuestionAnswering
from poslab.tasks.sequence_to_sequence import SequenceToSequence
from poslab.tasks.span_corruption import SpanCorruption
from poslab.tasks.task import Task
from poslab.tasks.task_kinds import check_task, model_kind


def data_of(config: Mapping[str, Any]) -> RunData:
    """The data of a configuration, of which nothing has been prepared yet."""
    source: AnySource = build(config, "dataset", AnySource)
    check_task(config, source)
    if isinstance(source, Corpus):
        return TextDataModule(source)
    if isinstance(source, ExampleSource):
        return ExampleDataModule(source, joined=model_kind(config) is Decoder)
    return AlgorithmicDataModule(source)


def task_of(config: Mapping[str, Any], data: RunData) -> Task:
    """The task of a model on data that is set up, which it tells what a batch is."""
    model = model_kind(config)
    if isinstance(data, TextDataModule):
        return _of_text(data, model)
    if isinstance(data, AlgorithmicDataModule):
        data.make_batch = (AnswersAtPlaces if model is Encoder else WrittenAnswers)(data.tokenizer)
        stop = data.source.task.stop
        stop_id = None if stop is None else data.tokenizer.number(stop)
        return Answering(data.source.lengths_trained, data.tokenizer.end_id, stop_id)
    assert isinstance(data, ExampleDataModule)
    if data.source.kind == "classification":
        facts = data.facts
        data.make_batch = ClassBatches(facts.classes, facts.several_classes, data.source.longest)
        return (MultiLabelClassification if facts.several_classes else Classification)(facts.classes, facts.two_texts)
    if data.source.kind == "answers":
        data.make_batch = AnswerBatches()
        return QuestionAnswering()
    data.make_batch = ContinuedBatches() if model is Decoder else PairBatches(data.tokenizer.end_id)
    return SequenceToSequence(data.tokenizer, longest=2 * max(map(len, data.examples("train")["target_tokens"])))


def _of_text(data: TextDataModule, model: type) -> Task:
    first_extra = data.vocab_size
    if model is Encoder:
        data.objective = MaskedTokens(first_extra, data.vocab_size, data.boundary)
        return MaskedLanguageModelling()
    if model is EncoderDecoder:
        objective = CorruptedSpans(first_extra, data.tokenizer.end_id)
        data.objective = objective
        return SpanCorruption(objective.num_spans(data.corpus.longest))
    return LanguageModelling(data.bytes_per_token)
