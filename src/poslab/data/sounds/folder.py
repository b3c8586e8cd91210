"""A user's own sounds, in one folder for each class."""

from functools import cached_property

from poslab.data.examples.columns import Splits
from poslab.data.paths import files_of_classes, require_content, require_one_class
from poslab.data.sounds.files import Sound, SoundFiles
from poslab.data.sounds.reading import SUFFIXES
from poslab.data.source import require_text


class SoundFolder(SoundFiles):
    """WAV, FLAC and Ogg files in one folder for each class, which has its name; equal files of a class are one.

    Files of different rates or microphones tell classes apart as well as what is heard. Links are followed.

    Args:
        path: folder that holds the folders of the classes.
        others: those of `SoundFiles`.
    """

    path: str | None = None

    title = "sounds"
    path_argument = "path"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_text("path", self.path)

    def check(self) -> None:
        super().check()
        for sound in self.sounds:
            require_content("path", sound.path, "sounds")

    def examples(self) -> Splits:
        splits = super().examples()
        if self.deduplicate:
            require_one_class("path", [sound.path for sound in self.sounds], splits["train"]["content"][:], "sounds")
        return splits

    @cached_property
    def sounds(self) -> list[Sound]:
        assert self.path is not None
        return [Sound(file, file.parent.name) for file in files_of_classes("path", self.path, SUFFIXES, "sounds")]
