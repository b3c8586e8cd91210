"""Prompts of a telephone system, spoken in five languages."""

import os
from functools import cached_property
from pathlib import Path

from poslab.data.sounds.files import Sound, SoundFiles
from poslab.data.source import require_text
from poslab.io.files import NotInstalledError

VOICES = {
    "en": "en_US_f_Allison",
    "es": "es_MX_f_Allison",
    "fr": "fr_CA_f_June",
    "it": "it_IT_m_Carlo",
    "ru": "ru_RU_f_IvrvoiceRU",
}
"""The folder of each language."""


class Prompts(SoundFiles):
    """The prompts of Asterisk, a telephone system, at 8 kHz; the class is the language: en, es, fr, it or ru.

    They come from Debian (or Ubuntu): apt-get install asterisk-core-sounds-{en,es,fr,it,ru}-wav. A prompt has the same
    name in each language, and all languages of one are in one split. A language has one speaker; one speaks English and
    Spanish.

    Args:
        folder: of the voices (default `/usr/share/asterisk/sounds`).
        others: those of `SoundFiles`.
    """

    folder: str = "/usr/share/asterisk/sounds"

    title = "prompts"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_text("folder", self.folder)

    @cached_property
    def sounds(self) -> list[Sound]:
        folder = Path(os.path.expanduser(self.folder))
        found = []
        for language, voice in VOICES.items():
            files = sorted((folder / voice).rglob("*.wav")) if os.path.isdir(folder / voice) else []
            spoken = [(path, path.relative_to(folder / voice)) for path in files]
            own = [Sound(path, language, str(name)) for path, name in spoken if name.parts[0] != "silence"]
            if not own:
                package = f"asterisk-core-sounds-{language}-wav"
                raise NotInstalledError(
                    f"dataset=prompts needs {folder / voice}, from Debian's package {package}: apt-get install "
                    f"asterisk-core-sounds-{{{','.join(VOICES)}}}-wav"
                )
            found += own
        return found
