"""The commands that a run prints as the next ones."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from poslab.data.tokenizers import ByteTokenizer
from poslab.runs.directory import RunDirectory
from poslab.runs.recipe import Recipe
from poslab.tasks.classification import Classification
from poslab.tasks.language_modelling import LanguageModelling
from poslab.tasks.question_answering import QuestionAnswering
from poslab.tasks.task import Task
from poslab.training.console import next_commands
from tests.training.runs import composed, opened, small

TRAIN = ["python", "-m", "src.train"]


def next_of(
    folder: Path, choices: list[str] | None, config: dict[str, Any] | None = None, task: Task | None = None
) -> dict[str, list[str]]:
    """The commands that a run of these choices prints, as a shell reads them."""
    folder.mkdir(exist_ok=True)
    (folder / "environment.json").write_text(json.dumps({"choices": choices}))
    heading, *lines = next_commands(
        RunDirectory(folder), Recipe.of(config or composed()), task or LanguageModelling({})
    )
    assert heading == "Next steps:"
    return {line[2:12].strip(): shlex.split(line[12:]) for line in lines}


def test_the_choices_of_a_run_are_kept(tmp_path):
    shared = ["dataset=text", "dataset.files=[a b.txt,'c(1).txt']", "encoding@model.cross_encoding=t5", "~debug"]
    own = ["encoding=per_layer", "+encoding@encoding.embedding=abacus", "encoding.base=5"]
    before = ["--config-dir", "mine", "hydra.searchpath=[file://mine/conf]"]
    commands = next_of(tmp_path, [*before, *shared, *own, "init_from=outputs/A"])
    assert commands["compare"] == [*TRAIN, *before, *shared, "init_from=outputs/A", "encoding=alibi"]
    assert commands["continue"] == [*TRAIN, *before, *shared, *own, f"init_from={tmp_path}"]


def test_jobs_of_several_encodings_are_compared(tmp_path):
    for varied in ("seed=1,2", "encoding=[a,b]"):
        (tmp_path / "multirun.yaml").write_text(f"hydra: {{overrides: {{task: ['{varied}']}}}}")
        assert "all runs" not in next_of(tmp_path / "0_rotary", ["seed=1"])
    (tmp_path / "multirun.yaml").write_text("hydra: {overrides: {task: ['encoding.base=1e4,1e5']}}")
    assert next_of(tmp_path / "0_rotary", ["seed=1"])["all runs"][-2:] == ["src.compare", f"runs={tmp_path}/*"]


def test_an_encoding_that_is_trained_goes_on_as_it_is(tmp_path):
    commands = next_of(tmp_path, ["encoding=t5", "start=fitted", "start.batches=2", "init_from=outputs/A"])
    assert commands["continue"] == [*TRAIN, "encoding=t5", f"init_from={tmp_path}"]


def test_a_whole_configuration_has_no_group_to_choose_another_encoding_from(tmp_path):
    words = ["--config-dir", "outputs/sweeps/q", "--config-name", "best"]
    commands = next_of(tmp_path, words)
    assert "compare" not in commands
    assert commands["continue"] == [*TRAIN, *words, f"init_from={tmp_path}"]


@pytest.mark.parametrize(
    "choices",
    [
        None,
        3,
        "seed=1",
        [3],
        ["trust=evil"],
        ["+trust=[evil]"],
        ["hydra/launcher=evil"],
        ["++hydra.launcher._target_=os.system"],
    ],
    ids=str,
)
def test_without_known_choices_only_the_run_itself_is_named(tmp_path, choices):
    """As those of a stranger's run that goes on, which no command of ours has kept: nobody is to copy them."""
    assert list(next_of(tmp_path, choices)) == ["curves", "report", "sample"]


@pytest.mark.parametrize("typed", ["trust=mine", "trust=[mine]", "+trust=['mine']", "trust=[mine,other]", "trust=[]"])
def test_choices_that_trust_what_their_run_is_trusted_with_are_known(tmp_path, typed):
    (tmp_path / "environment.json").write_text(json.dumps({"choices": ["encoding=rotary", typed]}))
    run = RunDirectory(tmp_path, ("mine", "other"))
    assert typed in shlex.split(next_commands(run, Recipe.of(composed()), LanguageModelling({}))[-1])


def test_a_finished_run_is_not_offered_to_be_resumed(tmp_path):
    assert "resume" not in str(next_of(tmp_path, []))


@pytest.mark.parametrize(
    ("choices", "other"),
    [
        (["encoding=rotary"], "alibi"),
        (["encoding=alibi"], "rotary"),
        (["encoding=rotary", "attention=flash"], None),
        (["encoding=none", "attention=flash"], "rotary"),
        (["experiment=models/cohere2"], None),
        (["encoding=alibi_grid"], "rotary"),
        (["model=encoder", "dataset=glyphs", "encoding=rotary_axial"], "alibi_grid"),
        (["model=encoder", "dataset=glyphs", "encoding=alibi"], "rotary_axial"),
        (["experiment=my_own"], None),
    ],
)
def test_the_encoding_to_compare_with_is_one_that_the_run_could_have(tmp_path, choices, other):
    known = [choice for choice in choices if choice != "experiment=my_own"]
    config = composed(*known) if "dataset=glyphs" in known else small(tmp_path, *known)
    command = next_of(tmp_path, choices, config).get("compare")
    assert (command is None) == (other is None)
    if command is not None:
        assert command[-1] == f"encoding={other}"
        assert composed(*command[len(TRAIN) :])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a=1,b", "with space", "it's", "5", "é[x]", "1e5", "null"])
def test_any_name_of_a_directory_is_read_again_as_it_is(tmp_path, name):
    commands = next_of(tmp_path / name, [])
    for what, key in (("report", "run"), ("sample", "run"), ("continue", "init_from")):
        word = next(word for word in commands[what] if word.startswith(f"{key}="))
        assert composed(f"resume={word.partition('=')[2]}")["resume"] == str(tmp_path / name)
    assert commands["curves"][-1] == str(tmp_path)


@pytest.mark.parametrize(("dataset", "model"), [("reverse_string", "encoder"), ("addition", "decoder")])
def test_an_algorithmic_run_is_asked_with_symbols_of_its_task(tmp_path, dataset, model):
    config = composed(f"dataset={dataset}", f"model={model}")
    data, task = opened(config)
    symbols = next_of(tmp_path, None, config, task)["answer"][-1].removeprefix("prompt=").split(" ")
    assert symbols and set(symbols) <= set(data.source.task.symbols)


def test_an_encoder_is_asked_nothing_where_the_input_does_not_say_how_long_its_answer_is(tmp_path):
    config = composed("dataset=scan", "model=encoder")
    assert "answer" not in next_of(tmp_path, None, config, opened(config)[1])


@pytest.mark.parametrize(
    ("task", "prompt"),
    [
        (Classification(["a", "b"], False, ByteTokenizer(), 9), "prompt=some text"),
        (Classification(["a", "b"], True, ByteTokenizer(), 9), r"prompt=$one text\tanother text"),
        (QuestionAnswering(ByteTokenizer()), r"prompt=$a question\tand its context"),
    ],
)
def test_a_prompt_has_the_parts_that_a_task_reads(tmp_path, task, prompt):
    commands = next_of(tmp_path, None, task=task)
    assert list(commands) == ["curves", "report", "answer"] and commands["answer"][-1] == prompt


def test_a_key_that_was_given_twice_is_printed_with_its_last_value(tmp_path):
    typed = ["--config-dir", "mine", "seed=1", "trainer.validations=2", "~debug", "trainer.validations=10"]
    commands = next_of(tmp_path, typed)
    kept = ["--config-dir", "mine", "seed=1", "~debug", "trainer.validations=10"]
    assert commands["continue"] == [*TRAIN, *kept, f"init_from={tmp_path}"]
