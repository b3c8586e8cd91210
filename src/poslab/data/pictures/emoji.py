"""Emoji from a package of npm."""

import json
import os
from functools import cached_property
from pathlib import Path
from typing import Any

from poslab.arguments import nearest
from poslab.data.paths import neighbours, require_plain_name
from poslab.data.pictures.captions import Captioned, CaptionSource, in_words
from poslab.data.source import require_text
from poslab.io.files import MAX_JSON, read_text

INSTALL = "npm install emoji-datasource-google"


class Emoji(CaptionSource):
    """About 1,900 emoji in the drawing of one vendor, 64 pixels wide and high, whose captions are their names.

    They come from npm: npm install emoji-datasource-google, or -apple, -facebook or -twitter. Other colours of skin are
    left out, since their names are the same.

    Args:
        path: of the folder of the package, such as `node_modules/emoji-datasource-google`.
        others: those of `CaptionSource`.

    Source: Henderson, https://github.com/iamcal/emoji-data; the pictures are the vendors'.
    """

    path: str | None = None

    title = "emoji"
    argument = "path"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_text("path", self.path)

    @cached_property
    def captioned(self) -> list[Captioned]:
        assert self.path is not None
        folder = Path(os.path.expanduser(self.path))
        if not os.path.isfile(folder / "emoji.json"):
            what = f"of a package with emoji.json, such as that of {INSTALL}"
            raise ValueError(
                f"path must be the folder {what}, got {self.path!r}{nearest(self.path, neighbours(self.path))}"
            )
        drawn = sorted(folder.glob("img/*/64"))
        if len(drawn) != 1:
            raise ValueError(
                f"path must hold the pictures of one vendor in img/VENDOR/64, but {self.path!r} has "
                f"{len(drawn)} such folders"
            )
        captioned = []
        for emoji in _listed(folder / "emoji.json"):
            name, image = emoji.get("name"), emoji.get("image")
            if not (isinstance(name, str) and name.strip() and isinstance(image, str) and image == Path(image).name):
                raise ValueError(f"path must hold emoji with a name and an image, but emoji.json has {emoji!r:.80}")
            for text in (name, image):
                require_plain_name("path", text)
            if os.path.isfile(path := drawn[0] / image):
                captioned.append(Captioned(path, in_words(name).lower()))
        if not captioned:
            raise ValueError(f"path must hold the pictures that emoji.json names, but {str(drawn[0])!r} has none")
        return sorted(captioned)


def _listed(path: Path) -> list[dict[str, Any]]:
    """Return the emoji of a file; ValueError, beginning with `path`, if it does not hold a list of objects."""
    try:
        listed = json.loads(read_text(path, MAX_JSON))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"path must hold emoji.json: {path} is not JSON") from error
    if not isinstance(listed, list) or not all(isinstance(emoji, dict) for emoji in listed):
        raise ValueError(f"path must hold emoji.json with a list of emoji, and {path} is another file")
    return listed
