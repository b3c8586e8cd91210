"""Item scores give the metrics of the test, and each is that of its item alone, whatever the task."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

import poslab
from poslab.evaluation.extrapolation import extrapolate
from poslab.evaluation.scores.intervals import ratio_interval
from poslab.evaluation.scores.items import shared_items
from poslab.evaluation.scores.measure import measure
from poslab.evaluation.scores.tokens import CONTEXT_GAIN
from poslab.experiments.metrics import metrics_of
from poslab.io.files import read_json
from poslab.runs.checkpoint import load_checkpoint, save_atomically
from poslab.runs.directory import RunDirectory
from poslab.runs.recipe import recipe_of
from tests.tasks import test_runs as kinds
from tests.tasks.test_token_tagging import sentences, tiny
from tests.training.runs import composed, opened, run_of, small, words

ADDITION = (
    *("dataset=addition", "dataset.train_lengths=[1,3]", "dataset.test_lengths=[2,4]", "dataset.test_examples=24"),
    *("dataset.batch_size=8", "trainer.max_steps=3", *kinds.TINY),
)
files = kinds.files


@pytest.fixture(scope="module")
def run_on(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., RunDirectory]:
    """Trains each run once."""
    runs: dict[tuple[str, ...], RunDirectory] = {}

    def trained(kind: str, *overrides: str) -> RunDirectory:
        if (kind, *overrides) not in runs:
            folder = tmp_path_factory.mktemp("run")
            if kind == "addition":
                config = composed(*ADDITION, *overrides)
            elif kind == "tags":
                config = tiny(folder, sentences(folder / "names.jsonl", 100), *overrides)
            else:
                config = kinds.config_of(files, kind, *overrides)
            runs[kind, *overrides] = run_of(config, folder / "run")
        return runs[kind, *overrides]

    return trained


SLOW = pytest.mark.slow
QUICK = [("text", "decoder"), ("addition", "decoder"), ("classes", "encoder"), ("pairs", "encoder_decoder")]
OTHERS = [*(case for case in kinds.CASES if case not in QUICK), ("tags", "encoder")]


def tag(metric: str, length: int | None) -> str:
    return f"test/{metric}" + ("" if length is None else f"@{length}")


@pytest.mark.parametrize(("kind", "model"), [*QUICK, *(pytest.param(*case, marks=SLOW) for case in OTHERS)])
def test_the_values_are_the_metrics_of_the_test(run_on, kind, model):
    run = run_on(kind, f"model={model}")
    measured, expected = measure(run.path), run.metrics()
    result = {key: scored.value for key, scored in measured.scores.items()} | measured.values
    values = {
        tag(*key): value for key, value in result.items() if key[0] not in ("sliding_bits_per_byte", "context_gain")
    }
    assert {metric for metric, length in result if length is not None} >= set(metrics_of(recipe_of(run).task))
    assert values == pytest.approx({name: expected[name] for name in values}, rel=1e-5, abs=1e-6)
    tested = {name for name in expected if name.startswith("test/") and "examples" not in name}
    if (kind, model) == ("text", "decoder"):
        tested = {name for name in tested if name.startswith("test/bits_per_byte@")}
    elif kind == "text":
        tested = {name for name in tested if "@" in name}  # each length is the whole
    assert values.keys() == tested
    for scored in measured.scores.values():
        assert scored.linearised.mean() == pytest.approx(scored.value)


@pytest.mark.parametrize(
    ("kind", "model", "more"),
    [
        ("addition", "model=decoder", ()),
        ("addition", "model=encoder", ("positions=randomized",)),
        ("classes", "model=encoder", ("encoding=rope_dynamic_ntk", "dataset.sequence_length=32")),
        pytest.param("pairs", "model=encoder_decoder", (), marks=SLOW),
        pytest.param("pairs", "model=decoder", ("encoding=rope_dynamic_ntk", "dataset.sequence_length=80"), marks=SLOW),
        pytest.param("classes", "model=encoder", ("temperature=ssmax", "encoding=t5"), marks=SLOW),
        pytest.param("classes", "model=decoder", (), marks=SLOW),
        pytest.param("several classes", "model=encoder", ("encoding=transformer_xl",), marks=SLOW),
        pytest.param("answers", "model=encoder", ("encoding=alibi",), marks=SLOW),
        pytest.param("reversing", "model=encoder", ("encoding=deberta",), marks=SLOW),
        pytest.param("pairs", "model=pointer_generator", ("encoding=sinusoidal",), marks=SLOW),
    ],
)
def test_an_item_has_the_score_that_it_has_alone(run_on, kind, model, more):
    """Also where padding moves its positions or changes its frequencies."""
    run = run_on(kind, model, *more)
    (data, task), module = opened(run.config()), poslab.load(run.path)
    scores = measure(run.path).scores
    compared = 0
    for length in data.lengths_of("test"):
        for number, example in enumerate(kinds.every_example(data, length)):
            measurement = task.metrics("test")
            with torch.no_grad():
                measurement.update(task.observe(module, example, "test"))
            alone = measurement.compute()
            for metric in {metric for metric, at in scores if at == length}:
                scored = scores[metric, length]
                assert scored.sums[number] / scored.counts[number] == pytest.approx(alone[metric], rel=1e-5, abs=1e-5)
                compared += 1
            assert scores["loss", length].counts[number] == task.loss(module, example).counted
    assert compared > 20


@pytest.mark.parametrize("model", ["encoder", "encoder_decoder"])
def test_a_window_has_the_loss_that_it_has_alone(run_on, model):
    run = run_on("text", f"model={model}")
    (data, task), module = opened(run.config()), poslab.load(run.path)
    scores = measure(run.path, [48]).scores  # not a length of the run's own
    windows = data.held_out("test", 48)
    for number in range(len(windows)):
        with torch.no_grad():
            loss, correct, counted = task.loss(module, windows.__getitems__([number]))
        result = {metric: (scored.sums[number], scored.counts[number]) for (metric, _), scored in scores.items()}
        assert result["loss"] == pytest.approx((loss.item(), counted.item()), rel=1e-5)
        assert result["accuracy"] == pytest.approx((100 * correct.item(), counted.item()))


@pytest.mark.parametrize("stride", [12, 6])
@pytest.mark.parametrize("apart", [False, True])
def test_a_document_has_the_bits_of_its_tokens(tmp_path, monkeypatch, stride, apart):
    monkeypatch.setattr("poslab.evaluation.scores.tokens.PIECE", 50)
    run = run_of(small(tmp_path, f"dataset.document_boundaries={apart}"), tmp_path / "run")
    (data, _), module = opened(run.config()), poslab.load(run.path)
    tokens, end = np.asarray(data.splits.tokens("test")).astype(np.int64), data.tokenizer.end_id
    result = measure(run.path, [12]).scores["bits_per_byte" if stride == 12 else "sliding_bits_per_byte", 12]
    bits, counts, document = {}, {}, 0
    for position in range(1, len(tokens)):
        document += tokens[position - 1] == end
        item = (document, (position - 1) // 50)
        first = 0 if position <= 12 else stride * -(-(position - 12) // stride)
        begin = max([first, *(t + 1 for t in range(first, position) if apart and tokens[t] == end)])
        bits.setdefault(item, 0.0), counts.setdefault(item, 0)
        if begin == position:
            continue  # the first token of a document that is read alone
        with torch.no_grad():
            logits = module(torch.from_numpy(tokens[begin:position])[None])[0, -1]
        loss = functional.cross_entropy(logits, torch.tensor(tokens[position])).item()
        bits[item] += loss / math.log(2) / data.splits.bytes_per_token["test"]
        counts[item] += 1
    assert len(bits) > 3 and document > 0
    assert result.counts.tolist() == [counts[item] for item in sorted(counts)]
    np.testing.assert_allclose(result.sums, [bits[item] for item in sorted(bits)], rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module")
def long_documents(tmp_path_factory) -> Callable[..., RunDirectory]:
    """Trains a run on documents of 20 to 160 bytes, in windows of 16."""

    def trained(*overrides: str) -> RunDirectory:
        folder = tmp_path_factory.mktemp("documents")
        for number in range(60):
            (folder / f"{number}.txt").write_text(words(4 + 4 * (number % 8), seed=number))
        data = (f"dataset.files={folder}/*.txt", "dataset.test_fraction=0.3")
        return run_of(small(folder, *data, *overrides), folder / "run")

    return trained


APART = ("dataset.document_boundaries=true", "dataset.tokenizer=bpe", "dataset.vocab_size=300")


@pytest.mark.parametrize("overrides", [(), APART])
def test_the_gain_of_context_is_that_of_a_loop_over_targets(long_documents, overrides):
    """Of targets with 32 tokens of their document before them: nats after 8 to 16 tokens minus nats after 32 to 64."""
    run, windows = long_documents(*overrides), (16, 64)
    (data, _), module = opened(run.config()), poslab.load(run.path)
    tokens, end = np.asarray(data.splits.tokens("test")).astype(np.int64), data.tokenizer.end_id
    result = measure(run.path, [16, 64]).scores[CONTEXT_GAIN, 64]
    bits, counts, document, begins = {}, {}, 0, 0
    for position in range(1, len(tokens)):
        if tokens[position - 1] == end:
            document, begins = document + 1, position
        bits.setdefault(document, 0.0), counts.setdefault(document, 0)
        if position - begins < 32:
            continue
        losses = []
        for length in windows:
            start = 0 if position <= length else length // 2 * -(-(position - length) // (length // 2))
            start = max(start, begins) if overrides else start
            assert position - start >= length // 2
            with torch.no_grad():
                logits = module(torch.from_numpy(tokens[start:position])[None])[0, -1]
            losses.append(functional.cross_entropy(logits, torch.tensor(tokens[position])).item())
        bits[document] += (losses[0] - losses[1]) / math.log(2)
        counts[document] += 0 if tokens[position] == end else len(data.tokenizer.decode([tokens[position]]))
    assert 0 < sum(count == 0 for count in counts.values()) < len(counts) - 3
    assert result.counts.tolist() == [counts[number] for number in sorted(counts)]
    np.testing.assert_allclose(result.sums, [bits[n] if counts[n] else 0.0 for n in sorted(bits)], rtol=1e-4, atol=1e-4)


def test_a_gain_does_not_depend_on_the_lengths_that_are_measured_with_it(long_documents):
    """After an interruption only the longer length may be left."""
    run = long_documents()
    whole, alone = measure(run.path, [16, 32, 64]), measure(run.path, [64])
    assert {key for key in whole.scores if key[0] == CONTEXT_GAIN} == {(CONTEXT_GAIN, 32), (CONTEXT_GAIN, 64)}
    np.testing.assert_array_equal(whole.scores[CONTEXT_GAIN, 64].sums, alone.scores[CONTEXT_GAIN, 64].sums)


def test_documents_shorter_than_half_a_window_have_no_gain(long_documents):
    assert {metric for metric, length in measure(long_documents().path, [512]).scores} == {
        "bits_per_byte",
        "sliding_bits_per_byte",
    }


def test_a_window_of_attention_gains_nothing_from_a_longer_context(long_documents):
    """Through two layers of four tokens a token reads seven, fewer than half a window of training."""
    run = long_documents("model.num_layers=2", "model.window=4", "encoding=rotary")
    result = measure(run.path, [16, 64]).scores[CONTEXT_GAIN, 64]
    assert result.counts.sum() > 500
    assert np.abs(result.sums).max() < 1e-3 and abs(result.value) < 1e-6


@pytest.mark.slow
def test_a_model_that_is_trained_on_long_windows_of_copies_gains_from_context(tmp_path):
    """Each document repeats 24 random letters: who sees 24 back can copy them, and a window of 16 cannot."""
    generator = np.random.default_rng(0)
    for number in range(200):
        letters = "".join(generator.choice(list("abcdefgh"), 24))
        (tmp_path / f"{number}.txt").write_text(4 * f"{letters} ")
    data = (f"dataset.files={tmp_path}/*.txt", "dataset.tokenizer=bytes", "dataset.batch_size=32")
    model = ("model.d_model=48", "model.num_layers=2", "model.num_heads=4", "model.canon=AC", "encoding=rotary")
    config = small(tmp_path, *data, *model, "dataset.sequence_length=64", "trainer.max_steps=200", "optimizer.lr=4e-3")
    run = run_of(config, tmp_path / "run")
    tokens = np.asarray(opened(run.config())[0].splits.tokens("test"))
    gain = extrapolate(poslab.load(run.path), tokens, [16, 64], 16, 256, 1.0).items[CONTEXT_GAIN, 64]
    assert ratio_interval(gain.sums, gain.counts)[0] > 0.5


def test_a_run_is_measured_in_the_precision_of_its_training(run_on):
    run = run_on("text", "model=decoder", "trainer.precision=bf16-mixed")
    tag, mixed = "test/bits_per_byte@64", measure(run.path).scores["bits_per_byte", 64].value
    assert mixed == pytest.approx(run.metrics()[tag], rel=1e-6)
    environment = read_json(run.environment_file)
    run.environment_file.write_text(json.dumps({"signature": environment["signature"]}))
    assert measure(run.path).scores["bits_per_byte", 64].value != pytest.approx(run.metrics()[tag], rel=1e-6)


def test_lengths_beyond_those_of_the_test_are_measured(run_on):
    run = run_on("addition", "model=decoder")
    measured = measure(run.path, [6, None])
    assert {length for _, length in measured.scores} == {6, None}
    default = measure(run.path)
    for metric in ("loss", "accuracy", "exact_match"):
        assert len(measured.scores[metric, 6].sums) == 24
        np.testing.assert_array_equal(measured.scores[metric, None].sums, default.scores[metric, None].sums)
    assert measure(run.path, [4], split="validation").split == "validation"


def test_what_an_encoding_has_no_positions_for_is_missing(run_on):
    ends = run_on("addition", "encoding=learned", "dataset.test_lengths=[2,4,9]", "encoding.max_length=13")
    whole = run_on("addition", "encoding=rotary", "dataset.test_lengths=[2,4,9]")
    short, full = measure(ends.path), measure(whole.path)
    assert {length for _, length in full.scores} == {2, 4, 9, None}
    assert {length for _, length in short.scores} == {2, 4, None}
    scored, other = short.scores["exact_match", 4], full.scores["exact_match", 4]
    assert 0 < np.count_nonzero(scored.counts) < len(scored.counts) == np.count_nonzero(other.counts)
    for metric in ("loss", "accuracy", "exact_match"):
        assert short.scores[metric, 4].value == pytest.approx(ends.metrics()[f"test/{metric}@4"])
        assert short.scores[metric, None].value == pytest.approx(ends.metrics()[f"test/{metric}"])
    pair = shared_items([scored, other])
    assert [len(scores.sums) for scores in pair] == [np.count_nonzero(scored.counts)] * 2


def test_a_text_beyond_the_end_of_an_encoding_is_missing(run_on):
    run = run_on("text", "model=decoder", "encoding=learned")
    assert {length for _, length in measure(run.path).scores} == {64}


def test_the_items_are_the_same_under_every_encoding_and_seed(run_on):
    scored, other = (
        measure(run_on("addition", *words).path).scores
        for words in (["model=decoder"], ["model=decoder", "seed=7", "encoding=alibi"])
    )
    fewer = measure(run_on("addition", "dataset.test_examples=23").path).scores
    for key in scored:
        assert scored[key].identity == other[key].identity != fewer[key].identity
        shared_items([scored[key], other[key]])
        with pytest.raises(ValueError, match=r"^scores must"):
            shared_items([scored[key], fewer[key]])


@pytest.mark.parametrize("kind", ["text", "addition"])
def test_a_model_that_has_diverged_has_a_loss_that_is_not_a_number(tmp_path, run_on, kind):
    run = RunDirectory(shutil.copytree(run_on(kind, "model=decoder").path, tmp_path / "run"))
    checkpoint = load_checkpoint(run.best_checkpoint)
    checkpoint["state_dict"]["model.norm.weight"].fill_(torch.nan)
    save_atomically(checkpoint, run.best_checkpoint)
    losses = [
        scored for (metric, _), scored in measure(run.path).scores.items() if "bits" in metric or metric == "loss"
    ]
    assert len(losses) > 2
    for scored in losses:
        assert (
            math.isnan(scored.value)
            and np.isnan(scored.linearised).all()
            and np.isnan(scored.sums[scored.counts > 0]).all()
        )


@pytest.mark.parametrize(
    ("kind", "lengths", "split", "message"),
    [
        ("text", [100_000], "test", r"lengths must .*got 100,000: .*"),
        ("text", [None], "test", r"lengths must .*got None"),
        ("classes", [33], "test", r"lengths must .*got 33"),
        ("addition", [0], "test", r"lengths must .*got 0"),
        ("addition", [4], "train", r"split must .*got train"),
    ],
)
def test_lengths_and_splits_that_there_are_not_are_refused(run_on, kind, lengths, split, message):
    model = "model=encoder" if kind == "classes" else "model=decoder"
    with pytest.raises(ValueError, match=f"^{message}$"):
        measure(run_on(kind, model).path, lengths, split)


@pytest.mark.slow
def test_windows_of_more_spans_than_there_are_sentinels_are_refused(run_on):
    with pytest.raises(ValueError, match=r"^lengths must .*got 200 with 10$"):
        measure(run_on("text", "model=encoder_decoder").path, [200])
