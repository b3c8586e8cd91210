from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import poslab
from poslab.cli.generate import _pop_argument, _with_full_key, main
from poslab.runs.directory import RunDirectory
from tests.greedy import greedy
from tests.training.runs import composed
from tests.written_run import CONF, write_run

from .running import Running, python


@pytest.fixture(scope="module")
def written_run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("written") / "run").path


def command(*arguments, directory):
    """The command as a user types it, in a directory of its own."""
    return Running(python("-m", "src.generate", *arguments), directory).wait(120)


def text_of(capsys, *overrides, prompt=None):
    """The output of the command, run in this process."""
    typed = [_with_full_key(override) for override in overrides]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = OmegaConf.to_container(compose("generate", overrides=typed))
    main(config, Path(), typed, prompt)
    return capsys.readouterr().out


ODD_PROMPT = """Hello, [world] = {a: 'b'} "c" ${x} \\${y} \\ ??? # % été 😀 """


@pytest.mark.slow
def test_a_trained_run_goes_on_from_any_prompt_and_leaves_nothing_behind(trained_run, tmp_path):
    ended = command(f"run={trained_run}", f"prompt={ODD_PROMPT}", "max_new_tokens=30", directory=tmp_path)
    assert (ended.status, ended.errors) == (0, "")
    assert ended.output.startswith(ODD_PROMPT)
    assert len(ended.output) > len(ODD_PROMPT) + 5
    assert ended.output.endswith("\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_several_seeds_in_a_row_make_several_texts(written_run, tmp_path):
    arguments = ["-m", f"run={written_run}", "seed=1,2,3", "prompt=a,b", "max_new_tokens=20"]
    ended = command(*arguments, f"hydra.sweep.dir={tmp_path}/sweep", directory=tmp_path)
    assert (ended.status, ended.errors) == (0, "")
    texts = ended.output.split("a,b")
    assert len(texts) == 4 and len(set(texts[1:])) == 3


def test_greedy_text_is_what_the_loaded_model_finds_most_probable(written_run, capsys):
    tokens = [*b"A list", *greedy(poslab.load(written_run), b"A list", 12)]
    expected = bytes(token for token in tokens if token < 256).decode(errors="replace")
    overrides = [f"run={written_run}", "temperature=0", "max_new_tokens=12"]
    assert text_of(capsys, *overrides, prompt="A list") == expected + "\n"


def test_a_checkpoint_is_taken_as_it_is_named(written_run, capsys):
    best, last, default = (
        text_of(capsys, f"run={written_run}{checkpoint}", "max_new_tokens=30", prompt="x")
        for checkpoint in ("/checkpoints/best.safetensors", "/checkpoints/last.safetensors", "")
    )
    assert default == best != last


def test_the_same_seed_gives_the_same_text(written_run, capsys):
    overrides = [f"run={written_run}", "max_new_tokens=30"]
    first, again, other = (text_of(capsys, *overrides, f"seed={seed}", prompt="The ") for seed in (5, 5, 6))
    assert first == again != other


def test_without_a_prompt_it_starts_a_document(written_run, capsys):
    (first,) = greedy(poslab.load(written_run), [256], 1)
    text = text_of(capsys, f"run={written_run}", "temperature=0", "max_new_tokens=1")
    assert text == bytes([first] if first < 256 else []).decode(errors="replace") + "\n"


def test_as_much_is_made_as_an_encoding_has_room_for(tmp_path, capsys):
    run = write_run(tmp_path / "run", "encoding=learned").path  # 64 positions
    text = text_of(capsys, f"run={run}", prompt="a" * 60)
    assert text.startswith("a" * 60)
    for prompt, overrides in (("a" * 60, ["max_new_tokens=5"]), ("a" * 64, [])):
        with pytest.raises(ValueError, match=r"^max_new_tokens=\d .* 64 "):
            text_of(capsys, f"run={run}", *overrides, prompt=prompt)


@pytest.mark.parametrize(
    "text", ["Hello, world", "???", "a=b", "null", "${run}", "'", '"quoted"', "\\", "[", "", " two\nlines"]
)
def test_a_prompt_is_taken_as_the_shell_hands_it_over(text):
    arguments = ["generate.py", "run=outputs/a", f"prompt={text}", "seed=2"]
    assert _pop_argument(arguments, "prompt") == text
    assert arguments == ["generate.py", "run=outputs/a", "seed=2"]


def test_the_last_prompt_counts_and_none_is_none():
    assert _pop_argument(["prompt=a", "prompt=b"], "prompt") == "b"
    assert _pop_argument(["run=prompt=a", "-m"], "prompt") is None


# Options that a task does not use


@pytest.fixture(scope="module")
def answering_runs(tmp_path_factory):
    """Run directories that are read as far as their configuration."""
    runs = {"language model": write_run(tmp_path_factory.mktemp("answers") / "text").path}
    for name, overrides in {
        "reversing encoder": ["dataset=reverse_string", "model=encoder"],
        "reversing decoder": ["dataset=reverse", "model=decoder"],
        "classifier": ["dataset=classification_file", "dataset.files=x.csv", "dataset.text=a", "dataset.label=b"],
        "translator": ["dataset=pairs_file", "dataset.files=x.csv", "dataset.source=a", "dataset.target=b"],
        "reader": ["dataset=answers_file", "dataset.files=x.json"],
    }.items():
        runs[name] = tmp_path_factory.mktemp("answers") / name.replace(" ", "_")
        RunDirectory(runs[name]).start(composed(*overrides), {})
    return runs


WRITING, NOTHING = "(options: max_new_tokens, beams)", "(options: none)"
SAMPLED = ["temperature=0", "top_k=5", "top_p=0.9", "seed=2"]
UNUSED = {
    "language model": (["beams=4", "beams=1"], "(options: max_new_tokens, temperature, top_k"),
    "reversing decoder": ([*SAMPLED, "sampling={top_k:5}"], WRITING),
    "translator": (SAMPLED, WRITING),
    "reversing encoder": (["beams=4", "max_new_tokens=9", *SAMPLED], NOTHING),
    "classifier": (["beams=4", "max_new_tokens=9", *SAMPLED], NOTHING),
    "reader": (["beams=4", "max_new_tokens=9", *SAMPLED], NOTHING),
}


@pytest.mark.parametrize(("name", "option"), [(name, option) for name in UNUSED for option in UNUSED[name][0]])
def test_an_option_that_a_task_does_not_use_raises(answering_runs, capsys, name, option):
    with pytest.raises(ValueError) as caught:
        text_of(capsys, f"run={answering_runs[name]}", option, prompt="x")
    key = "temperature" if option.startswith("sampling=") else option.partition("=")[0]
    assert str(caught.value).startswith(f"{key} must be left out") and UNUSED[name][1] in str(caught.value)


def test_lines_of_standard_input_are_not_continued(written_run, capsys):
    with pytest.raises(ValueError, match=r"^prompt must be a text .* got -"):
        text_of(capsys, f"run={written_run}", prompt="-")
