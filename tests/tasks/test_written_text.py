"""BLEU and chrF of what is written are sacrebleu's, ROUGE is Google's, and all are from 0 to 100."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import sacrebleu
import torch
from torch import distributed, multiprocessing

from poslab.data.tokenizers import ByteTokenizer
from poslab.tasks.measurement import Observation, Sums
from poslab.tasks.sequence_to_sequence import SequenceToSequence, WritingMeasurement, compare, corpus_scores

WORDS = ["the", "a", "ship", "Ship", "sails,", "sea.", "über", "été", "船", "на", "1,000", "re-do", "  ", "<|end|>"]
CORPORA, CORPORA_OF_TWO = 300, 100


def corpus(seed: int) -> list[tuple[str, str]]:
    """Texts beside the right ones, of several lengths: some the same, some empty, some of a letter or two."""
    rng = random.Random(seed)
    pairs = []
    for _ in range(rng.randint(1, 12)):
        right = rng.choices(WORDS, k=rng.choice([1, 3, 10, 25]))
        told = [word if rng.random() < 0.7 else rng.choice(WORDS) for word in right[: rng.randint(0, len(right))]]
        text = rng.choices([" ".join(told), " ".join(right), "", "x", " "], weights=[6, 1, 1 + seed % 9, 1, 1])[0]
        pairs.append((text, " ".join(right)))
    return pairs


def measurement() -> WritingMeasurement:
    return WritingMeasurement(SequenceToSequence(ByteTokenizer(), longest=9), "test")


def observed(pairs: list[tuple[str, str]]) -> Observation:
    return Observation(Sums(*map(torch.tensor, (1.0, 1.0, 1.0))), [compare(*pair) for pair in pairs])


def sacrebleus(pairs: list[tuple[str, str]]) -> dict[str, float]:
    texts, references = map(list, zip(*pairs, strict=True))
    return {
        "bleu": sacrebleu.corpus_bleu(texts, [references], force=True).score,
        "chrf": sacrebleu.corpus_chrf(texts, [references]).score,
    }


@pytest.mark.slow
def test_bleu_and_chrf_of_batches_are_sacrebleus_of_the_whole_corpus():
    for seed in range(CORPORA):
        pairs, measured = corpus(seed), measurement()
        measured.begin(torch.device("cpu"))
        for start in range(0, len(pairs), 7):
            measured.update(observed(pairs[start : start + 7]))
        metrics = measured.compute()
        assert {name: metrics[name] for name in ("bleu", "chrf")} == pytest.approx(sacrebleus(pairs), abs=1e-9), seed


def _measure_a_share(rank: int, folder: Path) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    result = []
    for seed in range(CORPORA_OF_TWO):
        measured = measurement()
        measured.update(observed(corpus(seed)[rank::2]))  # the second may have no text
        result.append(measured.compute())
    distributed.destroy_process_group()
    (folder / f"{rank}.json").write_text(json.dumps(result))


@pytest.mark.slow
def test_two_processes_have_the_metrics_of_the_whole_corpus_both(tmp_path):
    multiprocessing.start_processes(_measure_a_share, (tmp_path,), 2, start_method="forkserver")
    for rank in range(2):
        result = json.loads((tmp_path / f"{rank}.json").read_text())
        assert len(result) == CORPORA_OF_TWO
        for seed, metrics in enumerate(result):
            pairs = corpus(seed)
            expected = sacrebleus(pairs) | {
                "exact_match": 100 * sum(text.strip() == right.strip() for text, right in pairs) / len(pairs)
            }
            assert {name: metrics[name] for name in expected} == pytest.approx(expected, abs=1e-9), seed


def test_a_measurement_that_begins_anew_has_forgotten_its_texts():
    measured = measurement()
    measured.update(observed([("one", "one")]))
    measured.begin(torch.device("cpu"))
    measured.update(observed([("two", "one")]))
    assert measured.compute()["exact_match"] == 0


def test_a_perfect_short_answer_has_all_that_there_is_but_bleu_which_wants_four_words():
    metrics = corpus_scores([compare("yes", "yes")])
    assert metrics == {"bleu": 0, "chrf": 100, "rouge_1": 100, "rouge_2": 0, "rouge_l": 100, "exact_match": 100}


class Characters:
    """A tokenizer for Google's ROUGE, of texts that are nothing but words of one character."""

    def tokenize(self, text: str) -> list[str]:
        return list(text)


@pytest.mark.parametrize(("alphabet", "tokenizer"), [("ab_c, D.7-\n'", None), ("我你他好不是学生", Characters())])
def test_rouge_is_googles(alphabet, tokenizer):
    from rouge_score.rouge_scorer import RougeScorer  # takes seconds, which other processes here need not wait

    kinds = {"rouge_1": "rouge1", "rouge_2": "rouge2", "rouge_l": "rougeL"}
    scorer, rng = RougeScorer([*kinds.values()], tokenizer=tokenizer), random.Random(0)
    every_text, every_score = [], []
    for _ in range(200):
        text, right = ("".join(rng.choices(alphabet, k=rng.randint(0, 30))) for _ in range(2))
        computed, result = compare(text, right), scorer.score(right, text)
        by_metric = {name: 100 * result[key].fmeasure for name, key in kinds.items()}
        assert {name: getattr(computed, name) for name in kinds} == pytest.approx(by_metric, abs=1e-4), (
            text,
            right,
        )
        every_text.append(computed)
        every_score.append(by_metric)
    means = {name: sum(by_metric[name] for by_metric in every_score) / 200 for name in kinds}
    assert {name: corpus_scores(every_text)[name] for name in kinds} == pytest.approx(means, abs=1e-4)


@pytest.mark.parametrize(
    ("text", "reference", "shared", "words"),
    [
        ("Корабль в море", "корабль, море!", 2, (3, 2)),
        ("été", "ÉTÉ.", 1, (1, 1)),
        ("हिन्दी में", "हिन्दी", 1, (2, 1)),
        ("我是学生", "他是学生。", 3, (4, 4)),
        ("ทะเล", "ทะเล", 3, (3, 3)),
        ("GPT模型", "gpt 模", 2, (3, 2)),
        ("배가 간다", "배가", 1, (2, 1)),
    ],
)
def test_rouge_counts_the_words_of_every_script(text, reference, shared, words):
    assert compare(text, reference).rouge_1 == pytest.approx(200 * shared / sum(words), abs=1e-4)
