"""The words of every stored run compose it again, and its comparison has the same words."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from poslab.configuration.command_line import CONF
from poslab.data.tokenizers import SubwordTokenizer
from poslab.experiments.collect import read_results
from poslab.experiments.composition import Composer
from poslab.runs.recipe import Recipe
from tests.experiments.test_tables import RESULTS, STUDIES
from tests.pretrained import tiny as tiny_models
from tests.training.runs import words

GONE = {
    "dataset='film_sentiment'": ["dataset=rotten_tomatoes"],
    "dataset='gettext_messages'": ["dataset=multi30k"],
    "dataset='prompts'": ["dataset=sounds", "dataset.path=FOLDER"],
    "dataset='question_types'": ["dataset=trec"],
    "dataset='spoken_captions'": ["dataset=sounds", "dataset.path=FOLDER"],
    "dataset='stamps'": ["dataset=captions", "dataset.path=FOLDER"],
    "dataset='tweet_sentiment'": ["dataset=tweet_eval"],
}
"""For each dataset that Poslab no longer reads, one with examples of the same kind."""
MODELS = {
    "model.path='outputs/rotary_models/seed_${seed}'": "llama",
    "pretrained='minilm'": "bert",
    "pretrained='smollm2'": "llama",
}
"""For each model that may be missing here, a tiny one of its family."""
CHANGES_NO_SIZE = re.compile(r"(seed|encoding\.base|dropout|model\.window|optimizer\..*|.*=\d*\.\d+)($|=)")
"""Words whose values change no number of weights: runs that differ by them are composed once."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the tiny models."""
    folder = tmp_path_factory.mktemp("models")
    tokenizer = SubwordTokenizer.train([[words(300)]], 280)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny_models, "VOCAB_SIZE", tokenizer.vocab_size)
        for name in set(MODELS.values()):
            tiny_models.tiny(name, torch.float32).save_pretrained(folder / name)
            tokenizer.save(folder / name)
        yield folder


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_the_words_of_every_stored_run_compose_a_model_of_its_size(name, models):
    results, composer = read_results(RESULTS / name), Composer(CONF, ())
    is_marked = re.search(rf"^\| `{name}`.*not reproducible", (RESULTS / "README.md").read_text(), re.MULTILINE)
    stand_ins = {word: [f"model.path={models / model}"] for word, model in MODELS.items()}
    stand_ins |= GONE if is_marked else {}
    sizes: dict[tuple[str, ...], int] = {}
    vocabularies = defaultdict(set)
    for run in results.finished:  # a run may have failed because its words compose nothing
        of_model = tuple(word for word in run.words if not CHANGES_NO_SIZE.match(word))
        if of_model not in sizes:
            composed = composer.resolved([part for word in run.words for part in stand_ins.get(word, [word])])
            sizes[of_model] = sum(parameter.numel() for parameter in Recipe.of(composed).model.on_meta.parameters())
        if stand_ins.keys().isdisjoint(of_model) and "parameters" in run.metrics:
            vocabularies[run.case].add(run.metrics["parameters"] - sizes[of_model])
    # Models on the meta device have no vocabulary, which comes with the data and is the same for all runs of a case.
    assert all(len(of_case) == 1 for of_case in vocabularies.values()), vocabularies
    comparison = results.comparison
    for run in results.finished:
        choices = {**comparison.train, **comparison.all_cases[run.case].train}
        choices |= {**comparison.choices_by_encoding[run.encoding], **run.point, "seed": run.seed}
        assert set(composer.words(choices, comparison.overrides)) <= set(run.words)
