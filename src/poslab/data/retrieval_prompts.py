"""Prompts of retrieval made by rule: pass keys, recall and variables, and forms of published benchmarks with our words.

passkey hides a number in sentences that repeat (Mohtashami and Jaggi 2023, arXiv 2305.16300). mqar states numbers and
asks for them again, all answered but the last one (Arora et al. 2023, arXiv 2312.04927). variables hides chains of
variables that are set to each other, and asks which have one value (Hsieh et al. 2024, arXiv 2404.06654, without its
solved example). json_kv asks for a value of a JSON object of UUIDs (Liu et al. 2023, arXiv 2307.03172). mrcr_2, mrcr_4
and mrcr_8 ask for one of 2, 4 or 8 answers to the same request in a conversation (Vodrahalli et al. 2024, arXiv
2409.12640, and OpenAI's MRCR). babilong_qa1, qa2 and qa3 hide one, two or three supporting facts of bAbI (Weston et
al. 2015, arXiv 1502.05698) in a text (Kuratov et al. 2024, arXiv 2406.10149).
"""

from __future__ import annotations

import random
import re
import uuid
from collections.abc import Callable, Sequence
from itertools import chain, cycle, islice, product
from typing import Any, NamedTuple

MRCR = ("mrcr_2", "mrcr_4", "mrcr_8")
BABILONG = ("babilong_qa1", "babilong_qa2", "babilong_qa3")
TASKS = ("passkey", "mqar", "variables", "json_kv", *MRCR, *BABILONG)
HAVE_DEPTH = ("passkey", "mqar", "json_kv", *MRCR)
FORMS = {
    "passkey": "pass key, own sentences",
    "mqar": "MQAR form, own sentences",
    "variables": "RULER form without its example, own sentences",
    "json_kv": "lost-in-the-middle form",
} | dict.fromkeys(MRCR, "MRCR form, own verses")

ADJECTIVES = ("brave", "clever", "distant", "gentle", "golden", "hollow", "patient", "quiet", "restless", "silver")
TOPICS = ("comets", "ferns", "foxes", "lanterns", "otters", "penguins", "rivers", "robots", "sailors", "violins")
THINGS = ("clouds", "doors", "echoes", "feathers", "letters", "pebbles", "shadows", "songs", "towers", "winds")
VERBS = ("dance", "drift", "fade", "gather", "linger", "listen", "rest", "return", "shine", "wander")
WHERE = (
    "above the sea",
    "after the rain",
    "along the wall",
    "behind the hill",
    "beneath the moon",
    "between the trees",
)
KINDS = ("letter", "poem", "riddle", "song", "speech", "story")
SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")
SENTENCES = (
    "The path goes on.",
    "The wind is cold.",
    "The hills are far away.",
    "We walk, and we rest, and we walk again.",
)
NUM_PAIRS = 8
"""Numbers that mqar states; its paper has 4 to 64, by length."""
CHAINS, HOPS = 2, 4
"""Chains of variables, and variables of each that are set to another one."""
NAMES = tuple(sorted({*map("".join, product("BDFGKLMNPRSTVZ", "AEIOU", "BDFGKLMNPRSTVZ"))} - {"VAR"}))
"""Names of variables."""
CODE_LENGTH = 10
"""Characters of the code at the beginning of an answer of MRCR."""

PEOPLE = ("Daniel", "John", "Mary", "Sandra")
PLACES = ("bathroom", "bedroom", "garden", "hallway", "kitchen", "office")
OBJECTS = ("apple", "football", "milk")
WORDS = {
    "move": ("went to", "moved to", "journeyed to", "travelled to"),
    "get": ("picked up", "got", "took", "grabbed"),
    "drop": ("put down", "dropped", "left", "discarded"),
}
NUM_FACTS = dict(zip(BABILONG, (8, 14, 24), strict=True))
MAX_WORDS = 40
"""Words in your text after which a longer sentence is cut."""


class Prompt(NamedTuple):
    """A prompt, and what its answer is read from.

    Attributes:
        text: the prompt without the beginning of its answer.
        prefix: that beginning.
        outputs: what the answer must contain, or alternatives in questions on documents.
        hay: from and to which character of the text there is hay, needles included.
        needles: the parts of the hay that determine the answer, in their order; none where all of it does.
        others: values of the prompt with the form of an output, right ones included.
    """

    text: str
    prefix: str
    outputs: list[str]
    hay: tuple[int, int] = (0, 0)
    needles: Sequence[str] = ()
    others: Sequence[str] | None = None

    @property
    def written(self) -> str:
        """The prompt up to where a model goes on."""
        return f"{self.text} {self.prefix}"


Build = Callable[[int], Prompt]
"""Makes a prompt with this many sentences, pairs or turns of hay."""
Hay = Callable[[int], list[str]]
"""Returns the first pieces of endless hay."""


def largest_that_fits(fits: Callable[[int], bool], low: int, high: int) -> int:
    """Return the largest size from `low` to `high` that fits, by bisection; `low` if none does."""
    most = low
    while low <= high:
        size = (low + high) // 2
        if fits(size):
            most, low = size, size + 1
        else:
            high = size - 1
    return most


def builder(
    task: str,
    draws: random.Random,
    depth: float | None = None,
    sentences: Sequence[str] = (),
    num_pairs: int | None = None,
    num_hops: int | None = None,
) -> Build:
    """Return what makes one prompt of a task of `TASKS`, with any amount of hay.

    Args:
        depth: of the needle in tasks of `HAVE_DEPTH`, from 0 to 1; None draws it. In MRCR it decides which of the
            answers is asked for, too.
        sentences: hay of BABILong; none is sentences made by rule.
        num_pairs: numbers that mqar states; None is `NUM_PAIRS`.
        num_hops: variables of each chain that are set to another one; None is `HOPS`.
    """
    if task in MRCR:
        return _conversation(draws, int(task.removeprefix("mrcr_")), depth)
    if task in BABILONG:
        return _facts(draws, task, sentences)
    if task == "variables":
        return _variables(draws, HOPS if num_hops is None else num_hops)
    depth = draws.random() if depth is None else depth
    if task == "mqar":
        return _recall(draws, depth, num_pairs or NUM_PAIRS)
    return (_pass_key if task == "passkey" else _json_pairs)(draws, depth)


def answer_text(task: str, outputs: Sequence[str]) -> str:
    """Return an answer as it follows a prompt."""
    return f" {(' ' if task in ('vt', 'variables') else ', ').join(outputs)}"


def document(
    task: str, draws: random.Random, num_bytes: int, num_pairs: int | None = None, num_hops: int | None = None
) -> str:
    """Return a prompt of at most so many bytes with its answer; the shortest one if it is longer."""
    build = builder(task, draws, num_pairs=num_pairs, num_hops=num_hops)

    def text(size: int) -> str:
        prompt = build(size)
        return f"{prompt.written}{answer_text(task, prompt.outputs)}."

    return text(largest_that_fits(lambda size: len(text(size)) <= num_bytes, 0, num_bytes // 16))


def _endless(make: Callable[[], str]) -> Hay:
    made: list[str] = []

    def first(size: int) -> list[str]:
        made.extend(make() for _ in range(size - len(made)))
        return made[:size]

    return first


def _inserted(hay: list[str], needles: Sequence[tuple[float, str]]) -> list[str]:
    """Return hay with needles inserted after this share of it, in their order."""
    pieces, taken = [], 0
    for depth, needle in needles:
        end = round(depth * len(hay))
        pieces += [*hay[taken:end], needle]
        taken = end
    return pieces + hay[taken:]


def _prompt(head: str, hay: str, tail: str, **others: Any) -> Prompt:
    return Prompt(head + hay + tail, hay=(len(head), len(head) + len(hay)), **others)


def _sentence(draws: random.Random) -> str:
    return f"The {' '.join(map(draws.choice, (ADJECTIVES, THINGS, VERBS, WHERE)))}."


def _pass_key(draws: random.Random, depth: float) -> Build:
    key, start = str(draws.randrange(10_000, 100_000)), draws.randrange(len(SENTENCES))
    needle = f"The pass key is {key}. Remember it."

    def build(size: int) -> Prompt:
        hay = list(islice(cycle(SENTENCES), start, start + size))
        return _prompt(
            "",
            " ".join(_inserted(hay, [(depth, needle)])),
            "\nWhat is the pass key?",
            prefix="The pass key is",
            outputs=[key],
            needles=[needle],
            others=[key],
        )

    return build


def _recall(draws: random.Random, depth: float, num_pairs: int) -> Build:
    names = draws.sample([f"{adjective} {thing}" for adjective in ADJECTIVES for thing in THINGS], num_pairs)
    values = [str(number) for number in draws.sample(range(1000, 10_000), num_pairs)]
    lines = [f"The number of {name} is {value}." for name, value in zip(names, values, strict=True)]
    depths = [*(draws.random() for _ in lines[1:]), depth]
    asked = " ".join(draws.sample(lines[:-1], num_pairs - 1))
    hay = _endless(lambda: _sentence(draws))

    def build(size: int) -> Prompt:
        return _prompt(
            "",
            " ".join(_inserted(hay(size), sorted(zip(depths, lines, strict=True)))),
            f"\n{asked}",
            prefix=f"The number of {names[-1]} is",
            outputs=values[-1:],
            needles=lines[-1:],
            others=values,
        )

    return build


def _variables(draws: random.Random, hops: int) -> Build:
    names = draws.sample(NAMES, CHAINS * (hops + 1))
    chains = [names[start::CHAINS] for start in range(CHAINS)]
    values = [str(number) for number in draws.sample(range(10_000, 100_000), CHAINS)]
    lines = [
        [f"VAR {name} = {source}." for name, source in zip(names, [value, *(f"VAR {n}" for n in names)], strict=False)]
        for names, value in zip(chains, values, strict=True)
    ]
    order = draws.sample([number for number in range(CHAINS) for _ in range(hops + 1)], CHAINS * (hops + 1))
    left = [iter(of_chain) for of_chain in lines]
    needles = list(zip(sorted(draws.random() for _ in order), (next(left[number]) for number in order), strict=True))
    hay = _endless(lambda: _sentence(draws))

    def build(size: int) -> Prompt:
        return _prompt(
            "",
            " ".join(_inserted(hay(size), needles)),
            f"\nWhich variables have the value {values[0]}?",
            prefix="They are",
            outputs=chains[0],
            needles=lines[0],
            others=names,
        )

    return build


def _json_pairs(draws: random.Random, depth: float) -> Build:
    def random_uuid() -> str:
        return str(uuid.UUID(int=draws.getrandbits(128), version=4))

    def pair() -> str:
        return f'"{random_uuid()}": "{random_uuid()}"'

    needle = pair()
    key, value = needle.strip('"').split('": "')
    hay = _endless(pair)

    def build(size: int) -> Prompt:
        pairs = _inserted(hay(size), [(depth, needle)])
        is_last = pairs[-1] == needle
        return _prompt(
            "Below is a JSON object. Memorize it. I will ask for the value of one key afterwards.\n\n{",
            ",\n ".join(pairs),
            f'}}\n\nWhat is the value of the key "{key}" in the JSON object?',
            prefix=f'The value of the key "{key}" is',
            outputs=[value],
            needles=[f",\n {needle}" if is_last else f"{needle},"],
            others=[line.split('"')[3] for line in pairs],
        )

    return build


def _conversation(draws: random.Random, num_needles: int, depth: float | None) -> Build:
    def verse(topic: str) -> str:
        subjects = (topic, *draws.choices(THINGS, k=3))
        lines = [[draws.choice(ADJECTIVES), name, draws.choice(VERBS), draws.choice(WHERE)] for name in subjects]
        return "\n".join(" ".join(line).capitalize() for line in lines)

    def turn(kind: str, topic: str, verse: str) -> str:
        return f"User: Write a {kind} about {topic}.\nAssistant: {verse}"

    asked, *others = draws.sample([(kind, topic) for kind in KINDS for topic in TOPICS], len(KINDS) * len(TOPICS))

    def other_turn() -> str:
        kind, topic = draws.choice(others)
        return turn(kind, topic, verse(topic))

    kind, topic = asked
    verses = [verse(topic) for _ in range(num_needles)]
    number = draws.randrange(num_needles) if depth is None else round(depth * (num_needles - 1))
    depth = draws.random() if depth is None else depth
    earlier = sorted(depth * draws.random() for _ in range(number))
    later = sorted(depth + (1 - depth) * draws.random() for _ in range(num_needles - number - 1))
    needles = [(at, turn(kind, topic, verse)) for at, verse in zip([*earlier, depth, *later], verses, strict=True)]
    code = "".join(draws.choices("bcdfghjkmnpqrstvwxz23456789", k=CODE_LENGTH))
    answers = [code + verse for verse in verses]
    hay = _endless(other_turn)

    def build(size: int) -> Prompt:
        return _prompt(
            "Below is a conversation of a user and an assistant. Its last request is about an earlier answer.\n\n",
            "\n\n".join(_inserted(hay(size), needles)),
            f"\n\nUser: Prepend {code} to the {ORDINALS[number]} {kind} about {topic}. Write nothing else.\nAssistant:",
            prefix="Here it is:",
            outputs=[answers[number]],
            needles=[needle for _, needle in needles],
            others=answers,
        )

    return build


class Event(NamedTuple):
    """A person moves to a place, gets an object or drops it."""

    person: str
    kind: str
    name: str


def _facts(draws: random.Random, task: str, text: Sequence[str]) -> Build:
    num_supports = BABILONG.index(task) + 1
    while True:  # most stories have an answer
        story = _story(draws, NUM_FACTS[task], has_objects=num_supports > 1)
        target = draws.choice(PEOPLE if num_supports == 1 else OBJECTS)
        visits = _visits(story, target)
        answer, supports = _answer(visits, num_supports)
        rest = [event for i, event in enumerate(story) if i not in supports]
        if answer and len(supports) == num_supports and _answer(_visits(rest, target), num_supports)[0] != answer:
            break
    sentences: list[str] = []
    for person, kind, name in story:
        choices = [f"{person} {words} the {name}." for words in WORDS[kind]]
        sentences.append(draws.choice([sentence for sentence in choices if sentence not in sentences]))
    needles = list(zip(sorted(draws.random() for _ in story), sentences, strict=True))
    name = target if num_supports == 1 else f"the {target}"
    question, prefix = f"Where is {name}?", f"{name[0].upper()}{name[1:]} is in the"
    last = visits[-1][0] if num_supports == 3 else None
    if last:
        question, prefix = f"Where was {name} before it was in the {last}?", f"Before the {last}, {name} was in the"
    if text:
        pieces = islice(cycle(text), draws.randrange(len(text)), None)
        hay = _endless(lambda: next(pieces))
    else:
        hay = _endless(lambda: _sentence(draws))

    def build(size: int) -> Prompt:
        return _prompt(
            "Facts about people are hidden in the text below. Memorize them. I will ask about them afterwards. "
            "People take along what they carry.\n\n",
            " ".join(_inserted(hay(size), needles)),
            f"\n\n{question}",
            prefix=prefix,
            outputs=[answer],
            needles=[sentences[i] for i in supports],
            others=[event.name for event in story if event.kind == "move" and event.name != last],
        )

    return build


def _story(draws: random.Random, num_events: int, has_objects: bool) -> list[Event]:
    """Return events of which each is possible after those before it."""
    story: list[Event] = []
    place: dict[str, str] = {}
    """Of people, and of objects that lie somewhere."""
    carrier: dict[str, str] = {}
    while len(story) < num_events:
        person = draws.choice(PEOPLE)
        here = place.get(person)
        events = [Event(person, "move", draws.choice([name for name in PLACES if name != here]))]
        for name in OBJECTS if has_objects and here else ():
            if carrier.get(name) == person:
                events.append(Event(person, "drop", name))
            elif name not in carrier and place.get(name, here) == here:
                events.append(Event(person, "get", name))
        event = draws.choice(events)
        if story.count(event) == len(WORDS[event.kind]):  # each sentence is written once
            continue
        story.append(event)
        if event.kind == "move":
            place[person] = event.name
        elif event.kind == "get":
            carrier[event.name] = person
        else:
            place[event.name] = place[carrier.pop(event.name)]
    return story


def _visits(story: Sequence[Event], target: str) -> list[tuple[str | None, list[int]]]:
    """Return the places of a person or an object one after another, each with the numbers of the events that say so."""
    visits: list[tuple[str | None, list[int]]] = []
    place: dict[str, tuple[str, int]] = {}
    carrier, got = target, -1
    for i, (person, kind, name) in enumerate(story):
        if kind == "move":
            place[person] = name, i
            if person == carrier:
                visits.append((name, [i] if got < 0 else [got, i]))
        elif name == target and kind == "drop":
            carrier = ""
        elif name == target:
            carrier, got = person, i
            here, moved = place.get(person, (None, i))
            if not visits or visits[-1][0] != here:
                visits.append((here, sorted({moved, i})))
    return visits


def _answer(visits: Sequence[tuple[str | None, list[int]]], num_supports: int) -> tuple[str | None, list[int]]:
    """Return where something is, or where it was before (three supports); None where that is not one place."""
    places = [place for place, _ in visits]
    if num_supports < 3:
        return visits[-1] if visits else (None, [])
    if len(visits) < 2 or places[-1] in places[:-1]:
        return None, []
    return places[-2], sorted({*chain(*(supports for _, supports in visits[-2:]))})


def sentences_of(text: str) -> list[str]:
    """Return the sentences of a text, those with a person's name excepted, and long ones in parts."""
    people = re.compile(rf"\b({'|'.join(PEOPLE)})\b")
    sentences = [s.split() for s in SENTENCE_END.split(" ".join(text.split())) if not people.search(s)]
    if not sentences:
        raise ValueError(f"files must contain sentences without the names {', '.join(PEOPLE)}")
    return [" ".join(s[i : i + MAX_WORDS]) for s in sentences for i in range(0, len(s), MAX_WORDS)]
