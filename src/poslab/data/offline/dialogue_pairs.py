"""Short conversations in many languages, from the package chatterbot-corpus."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from poslab.configuration.build import nearest
from poslab.data.bounds import require_integer
from poslab.data.examples.columns import as_examples
from poslab.data.examples.dialogue import replies
from poslab.data.kinds.pairs import PAIRS
from poslab.data.offline.packaged import PackagedExamples
from poslab.data.source import require_text

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(kw_only=True)
class DialoguePairs(PackagedExamples):
    """What was said and the reply, in the conversations that ChatterBot is trained on.

    2,026 conversations are in English, most of two turns: 2,377 pairs, of which 1,249 are different.

    Args:
        language: name of a language in English and small letters, as the package's folders have it (default
            `english`).
        context_turns: how many turns before a reply are its context, at least 1; None: all (default).
        others: those of `ExampleSource`.
    """

    language: str = "english"
    context_turns: int | None = None

    package: ClassVar[str] = "chatterbot_corpus"
    install: ClassVar[str] = "chatterbot-corpus==1.3.3"
    title: ClassVar[str] = "dialogue_pairs"
    kind = PAIRS

    def __post_init__(self) -> None:
        super().__post_init__()
        require_text("language", self.language)
        if self.context_turns is not None:
            require_integer("context_turns", self.context_turns, least=1)

    def check(self) -> None:
        super().check()
        languages = sorted(path.name for path in (self.folder / "data").iterdir() if path.is_dir())
        if self.language not in languages:
            hint = nearest(self.language, languages)
            raise ValueError(f"language must be one of {', '.join(languages)}, got {self.language!r}{hint}")

    @property
    def paths(self) -> list[Path]:
        return sorted((self.folder / "data" / self.language).glob("*.yml"))

    @property
    def settings(self) -> tuple[object, ...]:
        return (self.context_turns,)

    def examples(self) -> "dict[str, Dataset]":
        import yaml

        pairs, documents = [], []
        for path in self.paths:
            conversations = yaml.safe_load(path.read_text(encoding="utf-8"))["conversations"]
            for number, turns in enumerate(conversations):
                of_conversation = replies([str(turn) for turn in turns], self.context_turns)
                pairs += of_conversation
                documents += [f"{path.stem}/{number}"] * len(of_conversation)
        sources, targets = [source for source, _ in pairs], [target for _, target in pairs]
        return {"train": as_examples(source=sources, target=targets, document=documents)}
