"""Captions are written behind the patches of an image, wherever a sampler puts both."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

import poslab
from poslab.data.batch import IGNORE
from poslab.data.tokenizers import ByteTokenizer
from poslab.encodings import V2PE, Diagonal, InterpolatedPositions, MRope, MRopeReset, PositionSampler
from poslab.encodings.tokens import PADDING, PATCH
from poslab.generation.decoding import Continuation
from poslab.models import Decoder, Model
from poslab.tasks.captioning import CaptionBatch, Captioning
from poslab.training.checking import check
from tests.data.images.small import write_captioned
from tests.encoding_choices import DIGITS, EVERY_ENCODING, VOCAB_SIZE, factory, quick_or_slow
from tests.encodings.sampling.test_on_axes import TEXT, Qwen2VLModel, rope_index
from tests.evaluation.evaluated import evaluated, figures_of
from tests.stacked import stacked
from tests.training.runs import composed, opened

from .same_metrics import assert_measured_as_tested, assert_two_processes_come_to_the_metrics_of

SIZES = [(3, 4), (2, 5), (1, 1), (4, 3), (5, 2)]
"""Rows and columns of images in patches; some have equally many."""

END = VOCAB_SIZE - 1
TEXTS = [[3, 4, 5, END], [END], [9, 8, 7, 6, 5, 4, 3, 2, END], [1, END], [30, 31, 2, 30, END]]

ON_THREE_AXES: dict[str, dict[str, Any]] = {
    "fourier_features": {"grid": (2, 3, 4)},
    "rotary_mixed": {"axes": 3},
    "t5_axes": {"num_axes": 3},
}
"""Hyperparameters of encodings that are not of time, height and width by default."""


class Tokens(ByteTokenizer):
    """A vocabulary of a few numbers."""

    end_id = END


class Source:
    """The part of a source of captions that their task reads."""

    patch_sizes = (2, 2)
    caption_length = 9


TASK: Any = Captioning(Tokens(), Source(), [120.0, 100.0, 80.0], [60.0, 50.0, 40.0])  # type: ignore[arg-type]


def batch_of(*rows: int, counts: bool = True) -> CaptionBatch:
    """Images in colour of these sizes, with their texts."""
    shapes = [(2 * high, 2 * wide, 3) for high, wide in (SIZES[row] for row in rows)]
    images = [np.random.default_rng(shape).integers(0, 256, shape).astype(np.uint8) for shape in shapes]
    captions = [np.array(TEXTS[row]) for row in rows]
    batch: CaptionBatch = TASK.collate({"array": images, "label": captions}, np.full(len(rows), counts))
    return batch


def decoder(name: str, positions: PositionSampler | None = None, registers: int = 0, **hyperparameters: Any) -> Any:
    torch.manual_seed(0)
    encoding = factory(name, **{"grid": (1, 3, 4)} | ON_THREE_AXES.get(name, {}) | hyperparameters)
    sizes = {"d_model": 48, "num_layers": 2, "num_heads": 6, "num_kv_heads": 3, "head_dim": 24}
    options = {"positions": positions, "registers": registers, "digits": DIGITS, "patch_width": 12}
    return stacked(Decoder, VOCAB_SIZE, encoding, **sizes, **options).eval()


def number_of_patches(row: int) -> int:
    return SIZES[row][0] * SIZES[row][1]


def test_a_row_has_patches_then_text_and_predicts_the_text_and_its_end():
    batch = batch_of(2, 3, 1)
    assert batch.tokens[0].tolist() == [PATCH, *TEXTS[2][:-1], *[PADDING] * 4]
    assert batch.targets[0].tolist() == [*TEXTS[2], *[IGNORE] * 4]
    assert batch.tokens[1].tolist() == [*[PATCH] * 12, 1]
    assert batch.targets[1].tolist() == [*[IGNORE] * 11, 1, END]
    assert batch.targets[2].tolist() == [*[IGNORE] * 9, END, *[IGNORE] * 3]  # of an empty text its end alone
    assert TASK.num_tokens(batch) == 1 + 8 + 12 + 1 + 10
    assert (batch.patches[0, 1:] == 0).all() and batch.patches.dtype == torch.float32
    assert (batch_of(2, 3, counts=False).targets == IGNORE).all()


def test_tokens_stand_where_qwen2_vl_has_them():
    batch = batch_of(*range(5))
    drawn = batch.positions.places.coordinates
    for row, ((high, wide), text) in enumerate(zip(SIZES, TEXTS, strict=True)):
        if (high, wide) == (1, 1):  # which the helper takes for text, and is at the same place
            expected, text_at = torch.arange(len(text)).unsqueeze(-1).expand(-1, 3), len(text)
        else:
            expected, text_at = rope_index(Qwen2VLModel, [(1, high, wide), *[TEXT] * (len(text) - 1)])
        assert drawn[row, : len(expected)].equal(expected)
        prompt = batch.images(torch.tensor([row]), high * wide).positions
        text_at -= len(text) - 1
        assert prompt.continuation(1).places.coordinates.tolist() == [[[text_at] * 3]]
    assert batch.positions.ids.tolist() == list(range(15))  # which encodings of one axis read


def test_images_of_one_size_share_their_places():
    alike, mixed = batch_of(0, 0).positions.places, batch_of(0, 1).positions.places
    assert alike.coordinates.dim() == 2 and alike.coordinates.equal(mixed.coordinates[0])


def assert_alone_and_step_by_step(model: Model, rows: tuple[int, ...]) -> None:
    """Each row has the logits that it has alone, and those of decoding with the cache."""
    with torch.no_grad():
        together = TASK.logits(model, batch_of(*rows))
        for position, row in enumerate(rows):
            item, patches = batch_of(row), number_of_patches(row)
            alone: Tensor = TASK.logits(model, item)
            torch.testing.assert_close(together[position, : alone.shape[1]], alone[0], rtol=0, atol=2e-5)
            image = item.images(torch.tensor([0]), patches)
            decoding = Continuation(model, first={"positions": image.positions, "patches": image.patches})
            written = [decoding.next_logits(item.tokens[:, :patches])]
            written += [decoding.next_logits(item.tokens[:, n : n + 1]) for n in range(patches, item.tokens.shape[1])]
            torch.testing.assert_close(torch.cat(written), alone[0, patches - 1 :], rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", quick_or_slow(EVERY_ENCODING))
def test_a_caption_is_as_alone_and_as_step_by_step_under_every_encoding(name):
    assert_alone_and_step_by_step(decoder(name), (4, 2))


@pytest.mark.parametrize("sampler", [MRope(), MRopeReset(), Diagonal(), V2PE(), InterpolatedPositions([1, 2, 3])])
@pytest.mark.parametrize("name", ["mrope", "videorope", "rotary", "alibi_grid"])
def test_that_holds_wherever_a_sampler_puts_the_tokens(sampler, name):
    assert_alone_and_step_by_step(decoder(name, sampler), (0, 1, 2))


def test_that_holds_behind_registers():
    assert_alone_and_step_by_step(decoder("mrope", MRope(), registers=2), (0, 1, 2))


def test_samplers_put_text_behind_the_image():
    batch = batch_of(4)  # five rows of two, then four tokens
    text = {
        type(sampler).__name__: sampler(batch.positions, 1).places.coordinates[..., 10:, :].flatten(0, -2).tolist()
        for sampler in (MRope(), MRopeReset(), Diagonal(), V2PE(0.5), InterpolatedPositions([1, 9, 2]))
    }
    assert text == {
        "MRope": [[5 + n] * 3 for n in range(4)],
        "MRopeReset": [[5 + n] * 3 for n in range(4)],  # the same, as nothing stands before the image
        "Diagonal": [[1 + n] * 3 for n in range(4)],
        "V2PE": [[5.5 + n] * 3 for n in range(4)],
        "InterpolatedPositions": [[pytest.approx(8.2 + n)] * 3 for n in range(4)],
    }


def test_greedy_captions_are_those_of_reading_everything_again():
    """An oracle without a cache, places of its own or batches: the text so far, with its end, is read anew."""
    model, rows = decoder("mrope", MRope()), (0, 1, 2, 3, 4)
    for row, text in zip(rows, TASK.written(model, batch_of(*rows)), strict=True):
        item, expected = batch_of(row), list[int]()
        image = item.images(torch.tensor([0]), number_of_patches(row))
        for _ in range(Source.caption_length):
            written = torch.tensor([expected], dtype=torch.int64)
            patches = functional.pad(image.patches, (0, 0, 0, len(expected)))
            so_far = image._replace(tokens=torch.cat([image.tokens, written], dim=1), patches=patches)
            with torch.no_grad():
                expected.append(int(TASK.logits(model, so_far)[0, -1].argmax()))
            if expected[-1] == END:
                break
        assert text.tolist() == [token for token in expected if token != END]


def test_a_caption_ends_where_the_positions_do():
    model = decoder("learned", max_length=14)
    first, second = TASK.written(model, batch_of(0, 1))  # of 12 and 10 patches
    assert 0 < len(first) <= 2 < len(second) <= 4


TINY = (
    *("model.d_model=32", "model.num_layers=1", "model.num_heads=2", "dataset.batch_size=12"),
    *("trainer=cpu", "trainer.precision=32-true", "trainer.validations=1", "trainer.log_every=1"),
)
DATA = (
    *("dataset=captions", "dataset.side=8", "dataset.sides=[16]", "dataset.patch=4", "dataset.tokenizer=bytes"),
    *("dataset.caption_length=16", "dataset.validation_fraction=0.2", "dataset.test_fraction=0.2"),
)


@pytest.fixture(scope="module")
def words_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[str]]:
    """Words of a run on a few images."""
    folder = tmp_path_factory.mktemp("captions")
    files = write_captioned(folder / "files")
    data = [*DATA, f"dataset.path={files}", f"dataset.cache_dir={folder}/cache"]
    return lambda *more: [*data, *TINY, "trainer.max_steps=3", "encoding=mrope", "positions=mrope", *more]


LEARNS = ("trainer.max_steps=150", "optimizer.lr=1e-2")


@pytest.mark.slow
def test_captions_of_training_are_learned_by_heart_from_the_images(trained):
    run = trained(*LEARNS)
    (data, task), model = opened(run.config()), poslab.load(run.path / "checkpoints" / "last.safetensors")
    stored = data.splits.stored("train", 8)
    batch = data.splits._batches("train", 8, task).__getitems__(list(range(len(stored))))
    written = [data.tokenizer.decode(text.tolist()) for text in task.written(model, batch)]
    right = [data.splits.facts.classes[number] for number in stored.labels]
    assert sum(map(str.__eq__, written, right)) >= 11  # of 12, which differ in their images alone


def test_a_run_is_tested_at_every_side(trained):
    run = trained()
    metrics = run.metrics()
    for name in ("loss", "accuracy", "perplexity", "bleu", "chrf", "exact_match"):
        assert metrics[f"test/{name}"] == metrics[f"test/{name}@8"]
        assert f"test/{name}@16" in metrics
    log = run.log_file.read_text()
    assert "20 different captions (bytes, 257 tokens)" in log and " at side (pixels)" in log
    assert re.search(r"^ +16 +2x +\d", log, re.M)


def test_the_loss_of_a_test_is_that_of_all_captions_one_by_one(trained):
    run = trained()
    (data, task), model = opened(run.config()), poslab.load(run.path)
    for side in (8, 16):
        items, loss, counted = data.held_out("test", side), 0.0, 0
        for number in range(4):
            batch = items.__getitems__([number])
            caption = data.splits.captions[items.stored.labels[number]]
            with torch.no_grad():
                logits = task.logits(model, batch)[0, -len(caption) :]
            loss += functional.cross_entropy(logits, torch.from_numpy(caption), reduction="sum").item()
            counted += len(caption)
        assert run.metrics()[f"test/loss@{side}"] == pytest.approx(loss / counted, rel=1e-5)


def test_items_have_the_metrics_of_the_test(trained):
    measured = assert_measured_as_tested(trained())
    assert {metric for metric, _ in measured.scores} >= {"loss", "accuracy", "exact_match", "rouge_l"}


def test_an_evaluation_shows_what_needs_no_text(trained):
    made = evaluated(trained())
    assert figures_of(made).keys() >= {"per_length", "attention_overview", "attention_by_offset", "attention_by_head"}
    assert made.left_out.keys() == {"retrieval", "encoding"}
    assert {"chrf@8", "chrf@16"} <= made.metrics.keys()


def test_a_image_is_served_by_its_path(trained, tmp_path):
    write = poslab.serve(trained(*LEARNS).path, max_new_tokens=5)
    Image.new("RGBA", (30, 10), (9, 200, 9, 9)).save(tmp_path / "one.png")
    text = write(str(tmp_path / "one.png")).text
    assert text and len(text) <= 5
    assert poslab.serve(trained(*LEARNS).path, beams=3)(str(tmp_path / "one.png")).text
    with pytest.raises(ValueError, match=r"^prompt must .*nowhere.png"):
        write(str(tmp_path / "nowhere.png"))
    with pytest.raises(ValueError, match=r"^prompt must .*there/x.png"):
        write("~nobody/there/x.png")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model=encoder"], r"^model must .*got encoder$"),
        (["positions=centred"], r"^positions must not be centred"),
        (["dataset.caption_length=1"], r"^dataset.caption_length must .*got 1$"),
        (
            ["encoding=learned", "encoding.max_length=19"],
            r"^encoding.max_length=19 ends before",
        ),
    ],
)
def test_mistakes_are_one_sentence(words_of, words, message):
    with pytest.raises(ValueError, match=message):
        check(composed(*words_of(*words)))


def test_a_teacher_that_reads_fewer_tokens_predicts_those(trained):
    batch = batch_of(0, 1)
    assert TASK.first_tokens(batch, 15) is batch
    cut = TASK.first_tokens(batch, 11)
    assert cut.tokens.shape == (2, 11) and cut.targets[1].tolist() == batch.targets[1, :11].tolist()
    model = decoder("mrope", MRope())
    with torch.no_grad():
        torch.testing.assert_close(TASK.logits(model, cut), TASK.logits(model, batch)[:, :11], rtol=0, atol=2e-5)


def test_the_training_length_is_that_of_a_image_and_its_caption():
    config = composed(
        "dataset=captions", "dataset.path=x", "dataset.side=56", "dataset.caption_length=20", "encoding=learned"
    )
    assert config["dataset"]["sequence_length"] == config["encoding"]["max_length"] == 69
    assert config["dataset"]["grid"] == [1, 7, 7]


def test_an_experiment_has_a_small_form():
    assert composed("dataset=captions", "dataset.path=x", "experiment=small")["model"]["d_model"] == 64


@pytest.mark.slow
def test_two_processes_of_the_command_come_to_the_metrics_of_one(words_of, trained, tmp_path):
    assert_two_processes_come_to_the_metrics_of(trained(), words_of(), tmp_path)
