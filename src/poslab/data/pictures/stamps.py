"""The stamps of Tux Paint from a package of Debian."""

import os
from functools import cached_property

from poslab.arguments import nearest
from poslab.data.pictures.captions import Captioned, CaptionSource, in_words, lines_of, pictures_below
from poslab.data.source import require_text
from poslab.io.files import NotInstalledError

PACKAGE = "tuxpaint-stamps-default"


class Stamps(CaptionSource):
    """951 photographs and drawings of things, with a caption of about four words each, in 60 languages.

    They come from Debian (or Ubuntu): apt-get install --no-install-recommends tuxpaint-stamps-default. Stamps without a
    caption in the language are left out. Transparent places become white.

    Args:
        folder: of the stamps (default `/usr/share/tuxpaint/stamps`).
        language: of the captions, as in `fr` (default `en`).
        others: those of `CaptionSource`.

    Source: the authors of Tux Paint, https://tuxpaint.org/stamps (GPL-2).
    """

    folder: str = "/usr/share/tuxpaint/stamps"
    language: str = "en"

    title = "stamps"
    argument = "folder"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_text("folder", self.folder)
        require_text("language", self.language)

    def check(self) -> None:
        if not os.path.isdir(os.path.expanduser(self.folder)):
            raise NotInstalledError(
                f"dataset=stamps needs {self.folder}, from Debian's package {PACKAGE}: "
                f"apt-get install --no-install-recommends {PACKAGE}"
            )
        super().check()

    @cached_property
    def captioned(self) -> list[Captioned]:
        with_text = [path for path in pictures_below("folder", self.folder) if path.with_suffix(".txt").is_file()]
        every = [(path, _captions(lines_of("folder", path.with_suffix(".txt")))) for path in with_text]
        captioned = [Captioned(path, own[self.language]) for path, own in every if own.get(self.language)]
        if not captioned:
            known = sorted(set().union(*(own for _, own in every)))
            raise ValueError(
                f"language must be one of {', '.join(known)}, got {self.language!r}{nearest(self.language, known)}"
            )
        return captioned


def _captions(lines: list[str]) -> dict[str, str]:
    """Return the captions of a stamp by language: the first line is in English, the others are `fr.utf8=...`."""
    others = (line.partition(".utf8=") for line in lines[1:])
    return {"en": in_words(lines[0])} | {name.strip(): in_words(text) for name, found, text in others if found}
