"""Objects from a configuration: a mistake is one sentence with the full key and the nearest word, if one is near."""

import subprocess
import sys
import typing
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from poslab.configuration.build import build, nearest, with_full_key
from poslab.encodings import EncodingFactory, PositionSampler


@dataclass
class Kettle:
    """Something to build, with an argument of each type."""

    litres: float
    cups: int = 1
    steel: bool = False
    label: str | None = None
    heat: Literal["low", "medium", "high"] = "low"
    hours: int | Literal["always"] = 1
    times: Sequence[float] = (1.0,)

    def __post_init__(self) -> None:
        if self.litres <= 0:
            raise ValueError(f"litres must be positive, got {self.litres}")
        if self.label == "width":
            raise ValueError("width must be wider than the kettle")


@dataclass
class Tray:
    """Something that holds another thing."""

    kettle: Kettle | Callable[..., Kettle]
    others: Sequence[Callable[..., Kettle]] = ()
    thing: Any = None
    things: typing.List = ()  # noqa: UP006
    named: dict[str, Any] | None = None


class Bowl(Kettle):
    """Something that takes every name."""

    def __init__(self, **words: Any) -> None:
        self.words = words


class Idea(Kettle, ABC):
    """Something that cannot be built."""

    @abstractmethod
    def boil(self) -> None: ...


def kettle() -> Kettle:
    """A function that makes one."""
    return Kettle(1)


def node(target: str = "Kettle", **values: Any) -> dict[str, Any]:
    return {"_target_": f"{__name__}.{target}", **values}


def mistake(config: dict[str, Any], key: str = "kettle") -> str:
    """The one sentence that building it ends with."""
    with pytest.raises(ValueError) as error:
        build(config, key, Tray if key == "tray" else Kettle, "tests")
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_a_configuration_describes_is_built() -> None:
    built = build(
        {"kettle": node(litres=2, heat="high", times=[1, 2.5], hours="always")}, "kettle", Kettle, "tests", cups=3
    )
    assert built == Kettle(2, cups=3, heat="high", hours="always", times=[1, 2.5])


@pytest.mark.parametrize(
    "values, expected, end",
    [
        ({"litres": "two"}, "a number", "'two'"),
        ({"litres": True}, "a number", "true"),
        ({"litres": None}, "a number", "null"),
        ({"cups": 1.0}, "an integer", "1.0"),
        ({"cups": False}, "an integer", "false"),
        ({"steel": "yes"}, "true or false", "'yes'"),
        ({"label": 3}, "text or null", "3"),
        ({"heat": "medum"}, "one of low, medium, high", "'medium'?"),
        ({"heat": 7}, "one of low, medium, high", "7"),
        ({"hours": "alway"}, "an integer or always", "'always'?"),
        ({"times": 3}, "a list, each item a number", "3"),
        ({"times": ["a"]}, "a list, each item a number", "['a']"),
        ({"litres": -1}, "positive", "-1"),  # which the class itself says
    ],
)
def test_a_value_that_does_not_fit_is_named_with_its_full_key(values: dict[str, Any], expected: str, end: str) -> None:
    message = mistake({"kettle": node(**{"litres": 1.0, **values})})
    assert message.startswith(f"kettle.{next(iter(values))} must be {expected}, got ") and message.endswith(end)


@pytest.mark.parametrize(("name", "hint"), [("litre", "'litres'?"), ("zzz", "argument")])
def test_an_unknown_argument_is_named_with_the_nearest(name: str, hint: str) -> None:
    message = mistake({"kettle": node(**{"litres": 1.0, name: 3})})
    assert message.startswith(f"kettle.{name}: {__name__}.Kettle ") and message.endswith(hint)


def test_what_belongs_to_another_group_is_named_with_that_group() -> None:
    config = {"seed": 1, "kettle": node(litres=1, label="width"), "tray": {"width": 3}}
    assert mistake(config).startswith("tray.width must ")


def test_a_message_that_begins_with_no_argument_stays_as_it_is() -> None:
    for message in ("Water is wet", ""):
        assert with_full_key(message, "kettle", {"kettle": node()}) == message
    assert with_full_key("litres=3 is much", "kettle", {"kettle": node(litres=3)}) == "kettle.litres=3 is much"


def test_an_argument_in_a_list_is_named_with_its_place_unless_several_have_it() -> None:
    config = {"kettles": {"all": [{"label": "a"}, {"litres": 3, "label": "b"}]}}
    assert with_full_key("litres=3 is much", "kettles", config) == "kettles.all[1].litres=3 is much"
    assert with_full_key("label must be longer", "kettles", config) == "label must be longer"


def test_things_within_things_are_checked_too() -> None:
    config = {"tray": node("Tray", kettle=node(litres="two"))}
    assert mistake(config, "tray").startswith("tray.kettle.litres must ")


def test_a_place_of_plain_things_takes_any_but_a_node() -> None:
    values = {"thing": 3, "things": [1, "a"], "named": {"color": "red"}}
    tray = build({"tray": node("Tray", kettle=node(litres=1), **values)}, "tray", Tray, "tests")
    assert {name: getattr(tray, name) for name in values} == values
    wrong = {"tray": node("Tray", kettle=node(litres=1), things=[node(litres=1)])}
    assert mistake(wrong, "tray").startswith("tray.things[0] must not ")


def test_a_place_that_takes_a_factory_gets_one_whether_or_not_the_node_says_partial() -> None:
    for said in ({}, {"_partial_": True}):
        kettles = [node(litres=1, **said), node(litres=2)]
        tray = build({"tray": node("Tray", kettle=kettles[0], others=kettles)}, "tray", Tray, "tests")
        assert [make().litres for make in (tray.kettle, *tray.others)] == [1, 1, 2]


def test_a_target_that_takes_every_name_is_given_every_name() -> None:
    assert build({"it": node("Bowl", a=1, b=None)}, "it", Kettle, "tests").words == {"a": 1, "b": None}


@pytest.mark.parametrize("target", ["Kettle", "Bowl"])
def test_a_number_names_no_argument(target: str) -> None:
    message = mistake({"kettle": {**node(target, litres=1), 7: 2}})
    assert message == f"kettle.7: {__name__}.{target} has no such argument"


@pytest.mark.parametrize(("kind", "name"), [(EncodingFactory, "NoPosition"), (PositionSampler, "Contiguous")])
def test_a_module_without_arguments_has_no_such_argument(kind: Any, name: str) -> None:
    with pytest.raises(ValueError, match=rf"^it\.base: poslab\.encodings\.{name} has no such argument$"):
        build({"it": {"_target_": f"poslab.encodings.{name}", "base": 3}}, "it", kind)


def test_an_argument_that_is_needed_is_named() -> None:
    assert mistake({"kettle": node(cups=2)}) == f"kettle.litres must be given: {__name__}.Kettle needs it"


@pytest.mark.parametrize("target", [42, None, "", "Kettle", "os;system", "${oc.env:HOME}", "a..b", ".a", "a.b "])
def test_a_target_that_is_not_a_dotted_name_is_refused(target: Any) -> None:
    assert mistake({"kettle": {"_target_": target}}).startswith("kettle._target_ must name a class")


@pytest.mark.parametrize(
    "target, message",
    [
        ("tests.nope.Nope", "(No module named 'tests.nope')"),
        (f"{__name__}.Kettel", "did you mean 'Kettle'?"),
        (f"{__name__}.Tray", f" must name a Kettle, got {__name__}.Tray"),
        (f"{__name__}.kettle", f" must name a Kettle, got {__name__}.kettle"),
        (f"{__name__}.Path", f" must name a Kettle, got {__name__}.Path"),
        (f"{__name__}.Idea", f" must name a Kettle, got {__name__}.Idea"),
    ],
)
def test_a_target_that_is_not_of_the_kind_is_refused(target: str, message: str) -> None:
    assert message in mistake({"kettle": {"_target_": target}})


def test_what_another_package_defines_is_neither_imported_nor_built(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "package_of_a_user.py").write_text(
        "from tests.configuration.test_build import Kettle\nclass Own(Kettle): ..."
    )
    monkeypatch.syspath_prepend(tmp_path)
    own = {"_target_": "package_of_a_user.Own", "litres": 3}
    message = mistake({"kettle": own})
    assert message.startswith("kettle._target_ names package_of")
    assert message.endswith("trust=package_of_a_user")
    assert "package_of_a_user" not in sys.modules
    assert build({"kettle": own, "trust": ["package_of_a_user"]}, "kettle", Kettle, "tests").litres == 3
    assert "which is not part of" in mistake(
        {"kettle": {"_target_": "package.Own"}, "trust": ["pack", "package.other"]}
    )


@pytest.mark.parametrize("trust", [3, {"a": 1}, ["a", None], ["not a name"], "a;b"])
def test_trust_that_names_no_packages_is_refused(trust: Any) -> None:
    assert mistake({"kettle": node(), "trust": trust}).startswith("trust must name packages")


def test_a_place_that_takes_anything_takes_no_target() -> None:
    assert "tray.thing must not" in mistake({"tray": node("Tray", kettle=node(), thing=node())}, "tray")


def test_a_target_whose_module_fails_says_why(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_module_of_a_user.py").write_text("import absent_library")
    monkeypatch.syspath_prepend(tmp_path)
    message = mistake({"kettle": {"_target_": "broken_module_of_a_user.Kettle"}, "trust": "broken_module_of_a_user"})
    assert message.startswith("kettle._target_ must") and message.endswith("(No module named 'absent_library')")


@pytest.mark.parametrize("config", [{}, {"kettle": None}, {"kettle": {"litres": 1}}])
def test_a_group_that_is_missing_is_named(config: dict[str, Any]) -> None:
    assert mistake(config).startswith("kettle must have a _target_")


def test_the_nearest_word_is_offered_only_where_one_is_near() -> None:
    assert nearest("rotry", ["alibi", "rotary"]) == "; did you mean 'rotary'?"
    assert nearest("xyz", ["alibi", "rotary"]) == ""


@pytest.mark.parametrize(
    "module",
    ["poslab", "poslab.configuration.build", "poslab.runs.directory", "poslab.runs.errors", "poslab.training.resume"],
)
def test_importing_it_takes_neither_torch_nor_lightning(module: str) -> None:
    program = f"import sys, {module}; print({{'torch', 'lightning'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
