"""Sources of captions read what is there, divide it by caption, and refuse what is damaged in one sentence."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from poslab.data.overlap import normal_form
from poslab.data.patched.captions import CaptionFolder
from poslab.data.run_data import RunData
from poslab.data.source import SPLITS
from poslab.tasks.captioning import Captioning

from ..conftest import seal
from .small import CAPTIONS, write_captioned

COMMON: dict[str, Any] = {
    **{"side": 8, "sides": [16], "patch": 4, "sequence_length": 36, "batch_size": 4, "tokenizer": "bytes"},
    **{"validation_fraction": 0.2, "test_fraction": 0.2},
}


def folder_of(tmp_path: Path, **arguments: Any) -> CaptionFolder:
    path = tmp_path / "images"
    if not path.exists():
        write_captioned(path)
    return CaptionFolder(**COMMON | {"path": str(path), "cache_dir": str(tmp_path / "cache")} | arguments)


def opened(source: CaptionFolder) -> RunData:
    data = RunData(source)
    data.prepare_data()
    data.setup()
    data.connect(Captioning.of(data), None)
    return data


def captions_in(data: RunData, split: str, side: int = 8) -> list[str]:
    return [data.splits.facts.classes[number] for number in data.held_out(split, side).stored.labels]


def test_a_caption_is_the_first_line_beside_its_image(tmp_path):
    source = folder_of(tmp_path)
    (tmp_path / "images" / ".hidden").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "images" / ".hidden" / "x.png")
    assert sorted(source.captions.values()) == sorted(CAPTIONS)
    path = next(path for path, caption in source.captions.items() if caption == "two red.")
    assert path.name == "4.png" and source.channels == 3
    (tmp_path / "images" / "4.txt").write_bytes("\ufeff  ein \t Schiff \r\nmore".encode())
    assert "ein Schiff" in folder_of(tmp_path).captions.values()


def test_no_two_splits_share_a_caption_or_a_image(tmp_path):
    path = write_captioned(tmp_path / "images")
    for number, copy in enumerate([1, 1, 2, 3]):  # of other pixels, under captions that read the same
        Image.new("RGB", (8, 8), (50 * number, 0, 0)).save(path / f"copy{number}.png")
        (path / f"copy{number}.txt").write_text(CAPTIONS[copy].upper().rstrip("."))
    data = opened(folder_of(tmp_path))
    of = {split: {normal_form(caption) for caption in captions_in(data, split)} for split in SPLITS}
    assert set.union(*of.values()) == set(map(normal_form, CAPTIONS))
    assert sum(map(len, of.values())) == len(CAPTIONS)
    assert sum(data.splits.facts.num_examples.values()) == 24


def test_tokens_of_an_item_are_its_patches_and_those_of_its_caption(tmp_path):
    data = opened(folder_of(tmp_path))
    items = data.held_out("test", 16)
    for number, caption in enumerate(captions_in(data, "test", 16)):
        batch = items.__getitems__([number])
        patches = np.prod(items.stored[number].shape[:2]) // 16
        assert items.num_tokens[number] == patches + len(caption) == batch.tokens.shape[1]
        assert data.tokenizer.decode(batch.tokens[0, patches:].tolist()) == caption
    assert data.lengths_of("test") == [8, 16]
    data.max_length = 36  # 4 patches and 32 tokens
    assert data.lengths_of("test") == [8]


def test_a_long_caption_is_cut_and_counted(tmp_path):
    data = opened(folder_of(tmp_path, caption_length=9))
    assert data.splits.num_cut == sum(len(caption) > 8 for caption in CAPTIONS) > 0
    assert max(map(len, data.splits.captions)) == 9 and all(tokens[-1] == 256 for tokens in data.splits.captions)
    assert (
        f"20 different captions (bytes, 257 tokens), {data.splits.num_cut} of them cut after 9 tokens"
        in data.report_lines()
    )


def test_a_vocabulary_is_learned_of_the_captions_of_training_alone(tmp_path):
    data = opened(folder_of(tmp_path, tokenizer="bpe", vocab_size=300))
    trained = " ".join(captions_in(data, "train"))
    learned = [data.tokenizer.decode([token]) for token in range(257, data.vocab_size)]
    assert learned and all(piece in trained for piece in learned)
    one, other = (folder_of(tmp_path, tokenizer="bpe", vocab_size=size).prepare_at(8) for size in (300, 301))
    assert one != other


def test_a_folder_without_its_tokenizer_is_made_again(tmp_path, capsys):
    source = folder_of(tmp_path)
    folder = source.prepare_at(8)
    (folder / "tokenizer.json").write_text('{"poslab": "symbols", "symbols": [1]}')
    seal(folder)
    assert source.prepare_at(8) == folder and "the data is prepared again" in capsys.readouterr().err


HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no text": (lambda path: (path / "0.txt").unlink(), r"the caption of each image in a text file"),
    "an empty text": (lambda path: (path / "0.txt").write_text(""), r"captions, but the first line of .*0\.txt' is"),
    "an empty line": (lambda path: (path / "0.txt").write_text("\na ship"), r"captions, but the first line of"),
    "spaces": (lambda path: (path / "0.txt").write_text(" \t \n"), r"captions, but the first line of .*0\.txt' is"),
    "bytes": (lambda path: (path / "0.txt").write_bytes(b"\xff\xfe"), r"captions in UTF-8: .*0\.txt is not UTF-8"),
    "a long text": (lambda path: (path / "0.txt").write_text("x" * 300_000), r"captions in UTF-8: .* at most 200,000"),
    "an empty image": (lambda path: (path / "0.png").write_text(""), r"images, but .*0\.png' is empty"),
}


@pytest.mark.parametrize("way", HOSTILE)
def test_a_hostile_file_is_one_sentence(tmp_path, way):
    change, message = HOSTILE[way]
    source = folder_of(tmp_path)
    change(tmp_path / "images")
    with pytest.raises(ValueError, match=rf"^path must contain {message}") as refused:
        source.check()
    assert "\n" not in str(refused.value)


def test_a_image_that_is_none_is_refused_where_it_is_read(tmp_path):
    source = folder_of(tmp_path)
    (tmp_path / "images" / "0.png").write_text("no image")
    with pytest.raises(ValueError, match=r"^path must .*0\.png"):
        source.prepare_at(8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"path": "nowhere"}, r"^path must .*got 'nowhere'"),
        ({"path": None}, r"^path must .*got None$"),
        ({"caption_length": 1}, r"^caption_length must .*got 1$"),
        ({"tokenizer": "bp"}, r"^tokenizer must be bytes, bpe"),
        ({"grid": [2, 2]}, r"^grid must .*got \[2, 2\]$"),
        (
            {"sequence_length": 35},
            r"^sequence_length must be at",
        ),
    ],
)
def test_mistakes_are_one_sentence(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        folder_of(tmp_path, **arguments).check()
