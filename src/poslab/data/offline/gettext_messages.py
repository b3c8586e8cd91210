"""Messages of programs and their translations, from the files of gettext."""

import gettext
import os
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from poslab.data.bounds import require_choice
from poslab.data.examples.columns import Splits, as_examples
from poslab.data.examples.fingerprint import fingerprint
from poslab.data.examples.source import ExampleSource
from poslab.data.kinds.pairs import PAIRS
from poslab.data.source import require_text
from poslab.io.files import NotInstalledError

A_WORD = re.compile(r"[^\W\d_]{2}")


class GettextMessages(ExampleSource):
    """Messages of programs in English, to be translated: 16,500 short ones of the GNU compilers by default.

    Placeholders stay as they are (`%qs`, `%<%E%>`). A message with a plural gives its singular; messages without a
    translation are left out.

    The messages come from Debian (or Ubuntu): apt-get install gcc-14-locales. A slim container leaves out
    /usr/share/locale on installing: delete the path-exclude of it in /etc/dpkg/dpkg.cfg.d first.

    Args:
        language: of the translation, the name of its folder: `fr` (default), `de`, `es`, `ja`, ...
        domains: names of files of messages, `<domain>.mo` (default `gcc-14` and `cpplib-14`).
        folder: of the languages' folders (default `/usr/share/locale`).
        others: those of `ExampleSource`.
    """

    language: str = "fr"
    domains: Sequence[str] = ("gcc-14", "cpplib-14")
    folder: str = "/usr/share/locale"

    title = "gettext_messages"
    kind = PAIRS

    def __post_init__(self) -> None:
        super().__post_init__()
        require_text("language", self.language)
        if isinstance(self.domains, str) or not self.domains:
            raise ValueError(f"domains must be a list of names, got {self.domains!r}")
        for domain in self.domains:
            require_text("domains", domain)
        require_text("folder", self.folder)

    def check(self) -> None:
        super().check()
        first = f"LC_MESSAGES/{self.domains[0]}.mo"
        languages = sorted(path.parts[-3] for path in self._root.glob(f"*/{first}"))
        if not languages:
            package = f"the Debian package {self.domains[0]}-locales: apt-get install {self.domains[0]}-locales"
            raise NotInstalledError(
                f"dataset=gettext_messages needs {package} (no language has {first} in {self.folder})"
            )
        require_choice("language", self.language, languages)
        for domain, path in zip(self.domains, self.paths, strict=True):
            if not path.is_file():
                raise ValueError(f"domains names {domain!r}, and {path} does not exist")

    @property
    def paths(self) -> list[Path]:
        """The files of messages, one a domain."""
        return [self._root / self.language / "LC_MESSAGES" / f"{domain}.mo" for domain in self.domains]

    @cached_property
    def identity(self) -> str:
        return fingerprint(self.paths)

    def examples(self) -> Splits:
        pairs = [pair for path in self.paths for pair in messages(path)]
        return {"train": as_examples(source=[pair[0] for pair in pairs], target=[pair[1] for pair in pairs])}

    @property
    def _root(self) -> Path:
        return Path(os.path.expanduser(self.folder))


def messages(path: Path) -> list[tuple[str, str]]:
    """Return the messages of a .mo file and their translations, those that differ and hold a word."""
    with path.open("rb") as file:
        # The library has no public way to list messages. A message with a plural has (singular, number of form) as key.
        catalog: dict[str | tuple[str, int], str] = vars(gettext.GNUTranslations(file))["_catalog"]
    singulars = {key: text for key, text in catalog.items() if isinstance(key, str) or key[1] == 0}
    pairs = [((key if isinstance(key, str) else key[0]).strip(), text.strip()) for key, text in singulars.items()]
    return [(source, target) for source, target in pairs if target and source != target and A_WORD.search(source)]
