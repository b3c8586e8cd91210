"""Sources of images read what is there, and refuse what is damaged or hostile in one sentence."""

import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from poslab.data.patched.audio import read_sound
from poslab.data.patched.captions import CaptionFolder
from poslab.data.patched.glyphs import CHARACTERS, EM, FONTS, Glyphs, _drawn
from poslab.data.patched.images import ImageFolder, Pixels, read_image
from poslab.data.patched.sounds import SoundFolder
from tests.training.runs import composed

from .small import png, write_images

pytestmark = pytest.mark.usefixtures("hub_cache")

COMMON: dict[str, Any] = {"side": 8, "sides": [8, 16], "sequence_length": 4}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"side": 10}, r"^side must .*got 10$"),
        ({"sides": [8, 9]}, r"^sides must .*got 9$"),
        ({"sides": [2048]}, r"^sides must .*got 2048$"),
        ({"patch": 0}, r"^patch must .*got 0$"),
        ({"patch": 300, "side": 2400}, r"^side must .*got 2400$"),
        ({"side": True}, r"^side must .*got true$"),
        ({"test_examples": 0}, r"^test_examples must .*got 0$"),
        ({"variants": 0}, r"^variants must .*got 0$"),
        ({"variants": 10**20}, r"^variants must .*got 1"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Glyphs(**COMMON | arguments)


@pytest.mark.parametrize(
    ("side", "patch", "sides"),
    [
        (28, 4, [16, 28, 56, 112]),
        (32, 8, [16, 32, 64, 128]),
        (40, 40, [40, 80, 160]),
        (1024, 16, [512, 1024, 2048]),
        (1024, 4, [512, 1024]),
    ],
)
def test_unnamed_sides_of_the_test_are_multiples_of_that_of_training(side, patch, sides):
    assert Glyphs(side=side, patch=patch, sequence_length=(side // patch) ** 2).all_lengths == sides


def test_a_patch_of_several_pixels_is_refused_where_a_pixel_is_a_token():
    with pytest.raises(ValueError, match=r"^patch must .*got 2$"):
        Pixels(path="x", **COMMON | {"patch": 2, "sides": [7]})


@pytest.mark.parametrize("dataset", ["fashion_mnist", "sounds", "moving_glyphs", "captions"])
def test_a_patch_of_nothing_is_refused_by_its_own_key(dataset):
    with pytest.raises(ValueError, match=r"^dataset\.patch must .*got null$"):
        composed(f"dataset={dataset}", "dataset.patch=null")


def test_a_sequence_length_below_the_patches_of_a_image_is_refused():
    with pytest.raises(ValueError, match=r"^sequence_length must be at"):
        Glyphs(**COMMON | {"sequence_length": 3}).check()


def extent(image: np.ndarray) -> np.ndarray:
    """Height and width of the ink."""
    return np.array([np.ptp(places) + 1 for places in np.nonzero(image > 40)])


def test_every_font_has_all_characters_and_draws_them_whole():
    """One at an edge has the extent that it has where there is room around it."""
    source = Glyphs(variants=1, side=64, sides=[], sequence_length=256)
    for font in FONTS:
        of_font = set()
        for character in CHARACTERS:
            roomy = _drawn(font, character, 128, (0.4 - EM[0]) / (EM[1] - EM[0]), 0.3, 0.6)
            for place in ((0.0, 0.0), (0.9, 0.95), (1.0, 1.0)):
                alone = _drawn(font, character, 64, 0.5, *place)
                assert (extent(alone) >= extent(roomy) - 2).all(), (font, character, place)
            of_font.add(alone.tobytes())
        assert len(of_font) == len(CHARACTERS)
    assert len(list(source.arrays(range(3), 64))) == 3


def test_a_glyph_is_drawn_at_a_side_not_resized():
    """At twice the side it is the same character at the same place, with edges as sharp."""
    source = Glyphs(variants=2, side=32, sides=[], sequence_length=64)
    numbers = list(range(0, 2604, 41))
    small, large = (np.stack(list(source.arrays(numbers, side)))[..., 0] / 255 for side in (32, 64))
    halved = large.reshape(-1, 32, 2, 32, 2).mean((2, 4))
    assert np.abs(halved - small).mean() < 0.05
    resized = np.stack([np.asarray(Image.fromarray((one * 255).astype(np.uint8)).resize((64, 64))) for one in small])
    between = (large > 0.1) & (large < 0.9)
    assert between.mean() < 0.7 * ((resized > 26) & (resized < 230)).mean()
    assert EM[1] < 1


@pytest.mark.parametrize(
    ("width", "height", "rows", "columns"),
    [
        (28, 28, 7, 7),
        (280, 280, 7, 7),
        (100, 200, 9, 4),
        (200, 100, 4, 9),
        (1000, 1, 1, 49),
        (1, 1000, 49, 1),
        (3, 3, 7, 7),
    ],
)
def test_a_image_keeps_its_shape_and_has_no_more_patches_than_a_square(width, height, rows, columns):
    source = Glyphs(side=28, sides=[], sequence_length=49)
    resized = source.at_side(np.zeros((height, width, 3), np.uint8), 28)
    assert resized.shape == (4 * rows, 4 * columns, 3) and rows * columns <= 49


@pytest.mark.parametrize(("size", "side"), [((28, 28), 56), ((28, 28), 16), ((120, 120), 28)])
def test_resizing_is_torchs_bicubic_interpolation_with_antialias(size, side):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    ours = Glyphs(side=side, sides=[], sequence_length=(side // 4) ** 2).at_side(pixels, side)
    x = torch.from_numpy(pixels).double().permute(2, 0, 1).unsqueeze(0)
    theirs = functional.interpolate(x, (side, side), mode="bicubic", antialias=True)[0].permute(1, 2, 0)
    assert np.abs(ours - theirs.clamp(0, 255).numpy()).max() < 0.501  # half a level is lost by rounding


def test_a_folder_of_images_is_read_by_class(tmp_path):
    folder = write_images(tmp_path / "p", [(8, 8), (16, 8)])
    Image.new("RGB", (8, 8), "red").save(folder / "dog" / "x.JPG", format="JPEG")
    (folder / "dog" / "Thumbs.db").write_bytes(b"not an image")
    for hidden in (".DS_Store", "._0.png"):
        (folder / "dog" / hidden).write_bytes(b"not an image")
    (folder / ".cache").mkdir()
    source = ImageFolder(path=str(folder), **COMMON)
    train = source.examples()["train"]
    assert list(train["label"]) == ["cat"] * 6 + ["dog"] * 7
    shapes = [image.shape for image in source.arrays([0, 1, 12], 16)]
    assert shapes == [(16, 16, 3), (8, 20, 3), (16, 16, 3)]


def test_a_table_in_the_folder_names_images_and_their_classes(tmp_path):
    folder = write_images(tmp_path / "p", [(8, 8), (16, 8)])
    files = sorted(folder.glob("*/*.png"))
    by_class = ImageFolder(path=str(folder), **COMMON)
    expected = by_class.examples()["train"].to_dict(), list(by_class.arrays([0, 7], 16))
    rows = [f"{file.relative_to(folder)},{file.parent.name}\n" for file in files]
    (folder / "metadata.csv").write_text("file_name,label\n" + "".join(rows))
    by_table = ImageFolder(path=str(folder), **COMMON)
    by_table.check()
    assert by_table.examples()["train"].to_dict() == expected[0]
    assert all(np.array_equal(*pair) for pair in zip(by_table.arrays([0, 7], 16), expected[1], strict=True))


def test_a_table_elsewhere_is_refused_with_the_new_name(tmp_path):
    with pytest.raises(ValueError, match=r"^path must .*metadata\.csv.*got"):
        ImageFolder(path=str(tmp_path / "labels.csv"), **COMMON).check()


def test_grey_files_are_grey_and_a_single_one_in_colour_makes_all_colour(tmp_path):
    folder = write_images(tmp_path / "p", [(8, 8)], mode="L")
    assert ImageFolder(path=str(folder), **COMMON).channels == 1
    Image.new("RGB", (8, 8)).save(folder / "dog" / "x.png")
    source = ImageFolder(path=str(folder), **COMMON)
    assert source.channels == 3 and next(source.arrays([0], 8)).shape == (8, 8, 3)


def test_transparent_places_are_white_and_images_are_upright(tmp_path):
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert (read_image("path", tmp_path / "clear.png", 3) == 255).all()
    turned = Image.new("RGB", (8, 4))
    exif = turned.getexif()
    exif[0x0112] = 6  # to be turned by a quarter
    turned.save(tmp_path / "turned.jpg", exif=exif)
    assert read_image("path", tmp_path / "turned.jpg", 3).shape == (8, 4, 3)


def encoded(image: Image.Image, format: str) -> bytes:
    file = io.BytesIO()
    image.save(file, format=format)
    return file.getvalue()


HOSTILE: dict[str, Callable[[], bytes]] = {
    "a text": lambda: b"this is not an image",
    "random bytes": lambda: np.random.default_rng(0).bytes(300),
    "an image of another format": lambda: encoded(Image.new("RGB", (8, 8)), "BMP"),
    "cut": lambda: encoded(Image.effect_noise((64, 64), 50), "JPEG")[:700],
    "without its pixels": lambda: png(8, 8, b""),
    "of 60 million pixels": lambda: png(60_000, 1_000, bytes(10**6)),
    "of 10 billion pixels": lambda: png(100_000, 100_000, bytes(10**6)),
    "of 4 billion by 4 billion": lambda: png(2**31 - 1, 2**31 - 1, bytes(100)),
    "of 16 bits": lambda: encoded(Image.fromarray(np.zeros((8, 8), np.uint16)), "PNG"),
}


@pytest.mark.parametrize("way", HOSTILE)
def test_a_hostile_file_is_one_sentence_that_names_it(tmp_path, way):
    folder = write_images(tmp_path / "p", [(8, 8)])
    (folder / "cat" / "bad.png").write_bytes(HOSTILE[way]())
    source = ImageFolder(path=str(folder), **COMMON)
    with pytest.raises(ValueError, match=r"^image must .*bad\.png") as refused:
        list(source.arrays(range(7), 8))
    assert "\n" not in str(refused.value)


def test_folders_without_classes_or_images_are_refused(tmp_path):
    def refused(message: str) -> None:
        source = ImageFolder(path=str(tmp_path / "p"), **COMMON)
        with pytest.raises(ValueError, match=message):
            source.check()
            source.examples()

    refused(r"^path must be a folder, got")
    (tmp_path / "p").touch()
    refused(r"^path must be a folder, got '[^']*'$")  # without the file itself as a suggestion
    (tmp_path / "p").unlink()
    (tmp_path / "p" / "cat").mkdir(parents=True)
    refused(r"^path must have a folder of .*for each class, at least two")
    (tmp_path / "p" / "cat" / "x.png").touch()
    refused(r"^path must have a folder of .*for each class, at least two and none within another")
    with pytest.raises(ValueError, match=r"^path must .*got None$"):
        ImageFolder(**COMMON)


@pytest.mark.parametrize("path", ["~somebody-who-is-not-there/x", 300 * "x"])
@pytest.mark.parametrize("source", [ImageFolder, CaptionFolder, SoundFolder])
def test_a_path_of_no_user_or_too_long_a_name_is_one_of_nothing(source, path):
    with pytest.raises(ValueError, match=r"^path must be "):
        source(path=path, sequence_length=1000).check()


@pytest.mark.parametrize("read", [lambda path: read_image("prompt", path, 3), lambda path: read_sound("prompt", path)])
def test_a_pipe_is_refused_where_it_is_named(tmp_path: Path, read: Callable[[Path], Any]) -> None:
    """It would wait for a writer."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match=r"^prompt must contain whole .* but"):
        read(tmp_path / "pipe")


def test_a_link_is_followed_and_a_pipe_is_not_a_image(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "p", [(8, 8)])
    Image.new("RGB", (8, 8)).save(tmp_path / "elsewhere.png")
    (folder / "cat" / "link.png").symlink_to(tmp_path / "elsewhere.png")
    os.mkfifo(folder / "cat" / "pipe.png")
    assert list(ImageFolder(path=str(folder), **COMMON).examples()["train"]["label"]).count("cat") == 7


@pytest.mark.parametrize("entry", ["cat/x.png", "pig"])
def test_a_link_that_leads_nowhere_is_refused(tmp_path: Path, entry: str) -> None:
    folder = write_images(tmp_path / "p", [(8, 8)])
    (folder / entry).symlink_to("nothing")
    with pytest.raises(ValueError, match=rf"^path must .*/{entry}' is a link that leads nowhere"):
        ImageFolder(path=str(folder), **COMMON).prepare()


@pytest.mark.parametrize("name", [b"dog\xff", b"dog\n", "dog\u2028".encode()])
def test_a_class_with_a_name_that_no_table_can_hold_is_refused(tmp_path: Path, name: bytes) -> None:
    folder = write_images(tmp_path / "p", [(8, 8)])
    os.rename(folder / "dog", os.path.join(os.fsencode(folder), name))
    with pytest.raises(ValueError, match=r"^path must .*got 'dog\\"):
        ImageFolder(path=str(folder), **COMMON).prepare()


@pytest.mark.parametrize(("name", "other"), [("dog", "dog "), ("\u00e9", "e\u0301")])
def test_two_classes_whose_names_look_alike_are_refused(tmp_path: Path, name: str, other: str) -> None:
    folder = write_images(tmp_path / "p", [(8, 8)])
    for label in (name, other):
        shutil.copytree(folder / "cat", folder / label, dirs_exist_ok=True)
    with pytest.raises(ValueError, match=r"^path must .* look alike"):
        ImageFolder(path=str(folder), **COMMON).prepare()


def test_an_image_of_two_classes_is_refused_unless_both_are_wanted(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "p", [(8, 8)])
    shutil.copy(folder / "cat" / "0.png", folder / "cat" / "again.png")
    shutil.copy(folder / "cat" / "0.png", folder / "dog" / "copy.png")
    with pytest.raises(
        ValueError, match=r"^path must .*/cat/0\.png' and .*/dog/copy\.png'.* dataset\.deduplicate=false"
    ):
        ImageFolder(path=str(folder), **COMMON).prepare()
    both = ImageFolder(path=str(folder), deduplicate=False, **COMMON).split_examples()
    assert sum(map(len, both.values())) == 14


def test_a_folder_that_is_misspelt_is_not_taken_for_a_file_beside_it(tmp_path: Path) -> None:
    write_images(tmp_path / "images", [(8, 8)])
    (tmp_path / "image.txt").touch()
    with pytest.raises(ValueError, match=r"did you mean '.*/images'\?$"):
        ImageFolder(path=str(tmp_path / "image"), **COMMON).check()
