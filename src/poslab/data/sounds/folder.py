"""A user's own sounds, in one folder for each class or named by a table."""

from functools import cached_property

from poslab.data.examples.columns import Splits
from poslab.data.examples.table_files import labelled_files
from poslab.data.paths import require_content, require_one_class
from poslab.data.sounds.files import Sound, SoundFiles
from poslab.data.sounds.reading import SUFFIXES
from poslab.data.source import require_text


class SoundFolder(SoundFiles):
    """WAV, FLAC and Ogg files in one folder for each class, which has its name, or in a table.

    Equal files of a class are one.

    Files of different rates or microphones tell classes apart as well as what is heard. Links are followed.

    Args:
        path: folder that holds the folders of the classes, or a CSV file with the columns `file` and `label`, whose
            paths start at its own folder.
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
            files = [(sound.path, sound.label) for sound in self.sounds]
            require_one_class("path", files, splits["train"]["content"][:], "sounds")
        return splits

    @cached_property
    def sounds(self) -> list[Sound]:
        assert self.path is not None
        return [Sound(*labelled) for labelled in labelled_files("path", self.path, SUFFIXES, "sounds")]
