"""Odd values at every key of a comparison file, and keys that do not go together: one sentence that names the key."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from poslab.experiments.comparison import Comparison
from poslab.experiments.comparison_file import read_comparison
from poslab.experiments.mistakes import checked
from tests.experiments.comparisons import TUNING, comparison

WHOLE: dict[str, Any] = {
    "name": "whole",
    "output": "outputs/comparisons/whole",
    "question": "Does it work?",
    "baseline": "rotary",
    "encodings": ["none", "rotary", {"name": "slow", "encoding": "rotary", "encoding.base": 1000}],
    "variants": {"wide": {"encoding": "rotary", "model.d_model": 128}},
    "cases": {
        "text": {
            "train": {"dataset": "python_docs"},
            "lengths": ["1x", 256],
            "metrics": {"bits_per_byte@1x": {"direction": "minimize", "margin": 0.01}},
            "gate": {"metric": "bits_per_byte@1x", "at_most": 2.0},
            "tuning": {"metric": "bits_per_byte", "direction": "minimize"},
            "encodings": ["none", "rotary"],
        },
        "copying": {"train": {"dataset": "copy"}},
        "reversing": {"train": {"dataset": "reverse"}, "after": "copying", "after_encoding": "rotary"},
    },
    "seeds": [1, 2],
    "metrics": {"exact_match@beyond": {"direction": "maximize"}},
    "gate": {"metric": "exact_match@trained", "at_least": 99},
    "tuning": {
        "metric": "loss",
        "direction": "minimize",
        "space": {"optimizer.lr": [1e-3, 2e-3]},
        "of": {"rotary": {"encoding.fraction": [0.25, 0.5]}},
        "trials": 1,
        "seed": 1000,
        "seeds": [1000, 1001],
    },
    "budget": {"steps": 100},
    "costs": ["parameters"],
    "train": {"size": "tiny"},
    "paper": {"title": "A paper", "arxiv": "2305.19466", "table": "3", "code": "https://example.org"},
    "published": [{"case": "text", "encoding": "none", "value": 1.5, "seen": "pdf", "at": 256, "sd": 0.1, "n": 3}],
    "claims": [{"say": "It does", "better": "none", "than": "rotary", "case": "text", "metric": "loss"}],
    "differences": ["Ours is smaller."],
}
"""A comparison with every key of a file."""

FILE = {key: value for key, value in WHOLE.items() if key not in ("name", "output")}

ODD: tuple[Any, ...] = (None, [], {}, "", 5, True, "x", [None], {"a": None})

LIST: dict[tuple[int, ...], tuple[Any, ...]] = {(): ([None],), (0,): ODD, (1,): ODD}
"""Odd values that a list of values to try may be, and have."""

RIGHT: dict[tuple[Any, ...], tuple[Any, ...]] = {
    ("name",): ("x",),
    ("output",): ("x",),
    ("question",): ("x",),
    ("seeds",): (5,),
    ("seeds", 0): (5,),
    ("seeds", 1): (5,),
    ("gate",): (None,),
    ("budget",): (None,),
    ("budget", "steps"): (5,),
    ("costs",): ([],),
    ("train",): ({}, {"a": None}),
    ("train", "size"): ODD,
    ("published",): ([],),
    ("claims",): ([],),
    ("differences",): ([],),
    ("cases", "text", "train"): ({}, {"a": None}),
    ("cases", "text", "train", "dataset"): ODD,
    **{("cases", "text", key): (None,) for key in ("lengths", "metrics", "gate", "encodings")},
    ("cases", "text", "lengths", 0): (5,),
    ("cases", "text", "lengths", 1): (5,),
    ("cases", "text", "metrics", "bits_per_byte@1x", "margin"): (5, None),
    ("cases", "text", "gate", "metric"): ("x",),
    ("cases", "text", "gate", "at_most"): (5,),
    ("cases", "text", "tuning"): (None, {}),
    ("cases", "text", "tuning", "metric"): ("", "x"),
    ("cases", "reversing", "train"): ({}, {"a": None}),
    ("cases", "reversing", "train", "dataset"): ODD,
    ("cases", "reversing", "after_encoding"): (None,),
    ("gate", "metric"): ("x",),
    ("gate", "at_least"): (5,),
    ("encodings", 2): ("x",),
    ("encodings", 2, "name"): ("x",),
    ("encodings", 2, "encoding"): ("x",),
    ("encodings", 2, "encoding.base"): ODD,
    ("variants",): ({},),
    ("variants", "wide"): ({}, {"a": None}),
    ("variants", "wide", "encoding"): ("x",),
    ("variants", "wide", "model.d_model"): ODD,
    ("tuning", "metric"): ("", "x"),
    ("tuning", "of"): ({},),
    ("tuning", "of", "rotary"): ({},),
    **{("tuning", "of", "rotary", "encoding.fraction", *item): values for item, values in LIST.items()},
    **{("tuning", "space", "optimizer.lr", *item): values for item, values in LIST.items()},
    ("tuning", "trials"): (5,),
    ("tuning", "seed"): (5,),
    ("tuning", "seeds"): (5,),
    ("tuning", "seeds", 0): (5,),
    ("tuning", "seeds", 1): (5,),
    ("paper", "title"): ("", "x"),
    ("paper", "arxiv"): ("", "x"),
    ("paper", "table"): (None, "", "x"),
    ("paper", "code"): (None, "", "x"),
    ("published", 0, "case"): ("", "x"),
    ("published", 0, "encoding"): ("", "x"),
    ("published", 0, "value"): (5,),
    ("published", 0, "at"): (None, "", 5, "x"),
    ("published", 0, "sd"): (None, 5),
    ("published", 0, "n"): (None, 5),
    ("claims", 0, "say"): ("x",),
    ("claims", 0, "better"): ("", "x"),
    ("claims", 0, "than"): ("", "x"),
    ("claims", 0, "case"): (None, "", "x"),
    ("claims", 0, "metric"): (None, "x"),
    ("differences", 0): ("x",),
}
"""Odd values that a key may have, as far as can be told before the configurations are composed."""


def places(node: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The place of every value in a node."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [place for key, value in items for place in ((*above, key), *places(value, (*above, key)))]


def is_right(place: tuple[Any, ...], value: Any) -> bool:
    return any(type(right) is type(value) and right == value for right in RIGHT.get(place, ()))


@pytest.mark.parametrize("value", ODD, ids=repr)
@pytest.mark.parametrize(
    "place", [place for place in places(WHOLE) if "copying" not in place], ids=lambda place: ".".join(map(str, place))
)
def test_an_odd_value_is_one_sentence_that_names_its_key(place, value):
    node = copy.deepcopy(WHOLE)
    inner: Any = node
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    if is_right(place, value):
        checked(Comparison(**node))
        return
    with pytest.raises(ValueError, match=r"^\S[^\n]+$") as caught:
        checked(Comparison(**node))
    assert next(key for key in reversed(place) if isinstance(key, str)) in str(caught.value)


@pytest.mark.parametrize("value", [[], "", 5, True, "x"])
def test_choices_in_a_file_that_are_not_by_key_are_one_sentence(tmp_path, value):
    for node in ({**FILE, "train": value}, {**FILE, "presets": {"small": {"train": value}}}):
        (tmp_path / "odd.yaml").write_text(json.dumps(node))
        with pytest.raises(ValueError, match=r"^\S+: train[^\n]* must be choices by"):
            read_comparison(
                tmp_path, {"comparison": "odd", "preset": "small"} if "presets" in node else {"comparison": "odd"}, []
            )


@pytest.mark.parametrize("value", [None, [], {}, "", 5, True, "x"])
def test_a_case_of_a_preset_that_is_odd_is_one_sentence(tmp_path, value):
    """One that has no case `text` to add to, and one that adds odd choices to it."""
    for node in (
        {**FILE, "cases": {"text": value}, "presets": {"small": {"cases": {"text": {"train": None}}}}},
        {**FILE, "presets": {"small": {"cases": {"text": {"train": {"size": "tiny"}, "lengths": value or 0}}}}},
    ):
        (tmp_path / "odd.yaml").write_text(json.dumps(node))
        with pytest.raises(ValueError, match=r"^cases\.text.*must"):
            read_comparison(tmp_path, {"comparison": "odd", "preset": "small"}, [])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"encodings": ["none", {"name": "rotary", "dataset": "copy"}]}, "encodings.rotary must not"),
        ({"encodings": ["none", {"name": "rotary", "dataset.tokenizer": "bpe"}]}, "encodings.rotary must not"),
        ({"variants": {"other": {"+dataset.vocab_size": 300}}}, "variants.other must not have dataset.vocab_size"),
        ({"variants": {"other": {"logger.csv.name": "x"}}}, "variants.other must not have logger.csv.name"),
        ({"variants": {"other": {"seed": 3}}}, "variants.other must not have seed"),
        ({"variants": {"other": {"trainer.max_steps": 9}}, "budget": {"steps": 5}}, "variants.other .*trainer.max_st"),
        ({"variants": {"rotary": {"encoding": "t5"}}}, "variants.rotary must have another name"),
        ({"variants": {"other": None}}, "variants.other must be choices by key"),
        ({"variants": {"a b": {}}}, "variants: names must"),
        ({"variants": {"other": {"encoding": None}}}, "variants.other.encoding must be a"),
        ({"variants": {"slow": {}}, "encodings": [], "baseline": "slow"}, "encodings must be a list of at least two"),
        ({"encodings": ["rotary", {"name": "none", "encoding": None}]}, "encodings.none.encoding must be a"),
        ({"encodings": ["rotary", {"name": 5}]}, "encodings must be names"),
        ({"tuning": {**TUNING, "of": {"slow": {"dataset.batch_size": [4]}}}}, "tuning.of.slow .* dataset.batch_size"),
        ({"tuning": {**TUNING, "space": {}}}, "tuning.space must contain at"),
        ({"tuning": {**TUNING, "of": {"slow": {"encoding.base": [1, 2]}}, "trials": 3}}, "encodings.slow must not set"),
        (
            {"tuning": TUNING, "cases": {"a": {"train": {"optimizer.lr": 0.1}}}},
            "cases.a.train .* set optimizer.lr",
        ),
        (
            {"tuning": {**TUNING, "space": {"trainer.max_steps": [1, 2]}}, "budget": {"steps": 5}},
            "budget must.*trainer.max_steps",
        ),
        ({"cases": {"a": {"train": {"encoding": "t5"}}}}, "cases.a.train must not have"),
        ({"cases": {"a b": {"train": {}}}}, "cases: names must"),
        ({"cases": {True: {"train": {}}}}, "cases: names must .*got true"),
        ({"encodings": ["none", "rotary", {"name": "Rotary", "encoding": "rotary"}]}, "encodings: rotary and Rotary"),
        ({"cases": {"a": {"train": {}, "keeps": ["data"]}}}, "cases.a.keeps must .* got data"),
        (
            {"tuning": {**TUNING, "space": {"optimizer.lr": [1], "+optimizer.lr": [2]}}},
            "tuning.space: optimizer.lr .*twice",
        ),
        ({"predictions": [{"say": " ", "of": "none", "case": "a", "at_least": 1}]}, r"predictions\[0\]: say must"),
        ({"encodings": ["alibi", "t5"], "baseline": "rotary"}, "baseline must be one .* type baseline=alibi"),
        ({"cases": {"a+": {"train": {}}, "A": {"train": {}}}}, r"cases: a\+ and A would have files"),
        ({"cases": {"a": {"train": {}, "tuning": {"metric": "loss"}}}}, "cases.a.tuning must have a tuning"),
        (
            {"cases": {"a": {"train": {}, "encodings": ["rotary", "none", "none"]}}},
            "cases.a.encodings must .* none, none",
        ),
        ({"seeds": "5"}, "seeds must .*'5'"),
        ({"claims": [{}]}, "claims must have the paper"),
        ({"published": [{}]}, "published must have the paper"),
        ({"paper": {"title": "A paper", "arxiv": "2305.19466"}, "claims": [3]}, r"claims\[0\] must contain keys"),
        ({"differences": ["Ours is smaller."]}, "differences must have the paper"),
        ({"differences": "Ours is smaller."}, "differences must .*'Ours is smaller.'"),
        ({"output": None}, "output must .* null"),
        ({"baseline": ["rotary"]}, r"baseline must .*\['rotary'\]"),
        ({"storage": "postgresql:/me:secret@host/db"}, r"storage must .*:\*\*\*@host/db"),
    ],
)
def test_keys_that_do_not_go_together_are_one_sentence(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        comparison(**changes)


def test_an_encoding_may_have_any_key_that_leaves_its_runs_comparable():
    own = {"positions": "randomized", "positions.max_position": 64, "optimizer.lr": 0.02, "+size": "base"}
    made = comparison(encodings=["rotary", {"name": "far", "encoding": "rotary", **own}])
    assert made.choices_by_encoding["far"] == {"encoding": "rotary", **own}


@pytest.mark.parametrize(
    ("changes", "mistake"),
    [
        (
            {"copying": {"after": "reversing"}},
            "cases.reversing.after must .* reversi",
        ),
        (
            {"reversing": {"after": "reversing"}},
            "cases.reversing.after must end",
        ),
        ({"reversing": {"after": "copyin"}}, "cases.reversing.after: .*'copying'"),
        ({"copying": {"encodings": ["rotary", "slow"]}}, "cases.reversing.after: copying .* none"),
        ({"copying": {"after_encoding": "none"}}, "cases.copying.after_encoding must"),
        ({"reversing": {"train": {"init_from": "x"}}}, "cases.reversing must have"),
    ],
)
def test_a_case_follows_another_one(changes, mistake):
    cases: dict[str, Any] = {"reversing": {"train": {}, "after": "copying"}, "copying": {"train": {}}}
    for name, node in changes.items():
        cases[name] |= node
    with pytest.raises(ValueError, match=f"^{mistake}"):
        comparison(cases=cases)


def test_a_run_does_not_begin_with_two_others():
    cases = {"reversing": {"train": {}, "after": "copying"}, "copying": {"train": {}}}
    tuning = {"metric": "loss", "direction": "minimize", "space": {"init_from": ["x", "y"]}}
    variants = {"other": {"init_from": "x"}}
    for twice in ({"overrides": ["init_from=x"]}, {"tuning": tuning}, {"variants": variants}):
        with pytest.raises(ValueError, match=r"^cases\.reversing must have"):
            comparison(cases=cases, **twice)
