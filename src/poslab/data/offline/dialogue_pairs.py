"""Short conversations in many languages, from the package chatterbot-corpus."""

from pathlib import Path

from poslab.data.bounds import require_choice, require_integer
from poslab.data.examples.columns import Splits, as_examples
from poslab.data.examples.dialogue import replies
from poslab.data.kinds.pairs import PAIRS
from poslab.data.offline.packaged import PackagedExamples
from poslab.data.source import require_text


class DialoguePairs(PackagedExamples):
    """Turns and their replies, in the conversations that ChatterBot is trained on.

    2,026 conversations are in English, most of two turns: 2,377 pairs, of which 1,249 are different.

    Args:
        language: a folder of the package: a language in English and small letters (default `english`).
        context_turns: turns before a reply that are its context, at least 1; None: all (default).
        others: those of `ExampleSource`.
    """

    language: str = "english"
    context_turns: int | None = None

    package = "chatterbot_corpus"
    install = "chatterbot-corpus==1.3.3"
    title = "dialogue_pairs"
    kind = PAIRS

    def __post_init__(self) -> None:
        super().__post_init__()
        require_text("language", self.language)
        if self.context_turns is not None:
            require_integer("context_turns", self.context_turns, least=1)

    def check(self) -> None:
        super().check()
        languages = sorted(path.name for path in (self.folder / "data").iterdir() if path.is_dir())
        require_choice("language", self.language, languages)

    @property
    def paths(self) -> list[Path]:
        return sorted((self.folder / "data" / self.language).glob("*.yml"))

    @property
    def settings(self) -> tuple[object, ...]:
        return (self.context_turns,)

    def examples(self) -> Splits:
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
