"""Captions of pictures, spoken in several languages."""

import os
import re
from collections import Counter
from functools import cached_property
from pathlib import Path

from poslab.data.bounds import require_integer
from poslab.data.sounds.files import Sound, SoundFiles
from poslab.data.source import require_text
from poslab.io.files import NotInstalledError

PACKAGE = "tuxpaint-stamps-default"
NAME = re.compile(r"(.+)_desc_(\w+)\.ogg")


class SpokenCaptions(SoundFiles):
    """The captions of Tux Paint's stamps, spoken; the class is the language, such as fr, ro, ru, ca, bg and es.

    They come from Debian (or Ubuntu): apt-get install tuxpaint-stamps-default. All languages of a stamp are in one
    split. A language has about one speaker and one microphone, so the class is that of the speaker as much.

    Args:
        folder: of the stamps (default `/usr/share/tuxpaint/stamps`).
        least_captions: languages of fewer captions are left out, at least 1 (default 800).
        others: those of `SoundFiles`.
    """

    folder: str = "/usr/share/tuxpaint/stamps"
    least_captions: int = 800

    title = "spoken_captions"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_text("folder", self.folder)
        require_integer("least_captions", self.least_captions, least=1)

    @cached_property
    def sounds(self) -> list[Sound]:
        folder = Path(os.path.expanduser(self.folder))
        files = sorted(folder.rglob("*_desc_*.ogg")) if os.path.isdir(folder) else []
        named = [(path, NAME.fullmatch(path.name)) for path in files]
        found = [Sound(path, name[2], str(path.relative_to(folder).with_name(name[1]))) for path, name in named if name]
        counts = Counter(sound.label for sound in found)
        kept = [sound for sound in found if counts[sound.label] >= self.least_captions]
        if not kept:
            raise NotInstalledError(
                f"dataset=spoken_captions needs {folder} with {self.least_captions:,} captions of a language, from "
                f"Debian's package {PACKAGE}: apt-get install {PACKAGE}"
            )
        return kept
