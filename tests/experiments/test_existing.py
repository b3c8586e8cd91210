"""Runs that exist already become cases by their task and data, and encodings by all else in which they differ."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from poslab.experiments.command import Publication, compare_runs
from poslab.experiments.criteria import Criterion
from poslab.experiments.existing import ExistingRun, results_of_runs
from poslab.experiments.results import Results
from poslab.experiments.storage import claim
from poslab.io.terminal import HarmlessConsole
from poslab.runs.directory import RunDirectory
from tests.training.runs import CONF, composed, run_of, small, words

Run = Callable[..., str]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Trains a run with these choices once, and returns its directory."""
    folder = tmp_path_factory.mktemp("runs")

    def trained(*choices: str) -> str:
        path = folder / ("_".join(choices).replace("/", "_") or "plain")
        if not path.exists():
            run_of(small(folder, "trainer.max_steps=1", "trainer.validations=1", *choices), path)
        return str(path)

    return trained


def compared(*runs: str, **given: object) -> Results:
    return results_of_runs(runs, {"output": "out", **given}, CONF, HarmlessConsole(io.StringIO()))


def encodings(results: Results) -> dict[str, list[str]]:
    """The encodings of each case."""
    return {case: results.comparison.encodings_of(case) for case in results.comparison.cases}


HOSTILE: dict[str, tuple[Callable[[str], bytes], str]] = {
    "code": (
        lambda own: re.sub(r"poslab\S+Alibi", "os.system", own).encode(),
        "os.system, which is not part of poslab",
    ),
    "another package": (lambda own: (own + "temperature: {_target_: os.system}\n").encode(), "not part of poslab"),
    "a tag": (lambda own: own.encode() + b"x: !!python/object/apply:os.system [touch ran]\n", "is not YAML"),
    "aliases": (lambda own: own.encode() + b"x: &a [1, 1]\ny: [*a, *a]\n", r"must not use aliases, got \*a"),
    "another encoding of text": (lambda own: b"\xff\xfe" + own.encode("utf-16-le"), "is not UTF-8 text"),
    "a large number": (lambda own: own.encode() + b"seed: 1" + b"0" * 2000, "more than 1,000 digits"),
    "a large size": (
        lambda own: re.sub(r"d_model: \d+", "d_model: 2000000000", own).encode(),
        "checkpoint was trained with another model",
    ),
}
"""What a stranger may have written into the configuration of a run, and the sentence about it."""


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_configuration_of_a_run_is_one_sentence_and_runs_nothing(name, run, tmp_path):
    shutil.copytree(run("encoding=alibi"), tmp_path / "run")
    file = tmp_path / "run" / "config.yaml"
    content, reason = HOSTILE[name]
    file.write_bytes(content(file.read_text()))
    with pytest.raises(ValueError, match=reason) as error:
        compared(run(), str(tmp_path / "run"), trust=["data"])
    assert str(tmp_path / "run") in str(error.value) and "\n" not in str(error.value)


def test_runs_that_differ_in_the_seed_alone_are_of_one_encoding(run):
    found = compared(run(), run("seed=2"), run("encoding=alibi"), run("encoding=alibi", "seed=2"))
    assert encodings(found) == {"text": ["rotary", "alibi"]}
    assert found.comparison.baseline == "rotary"
    assert {run.seed for run in found.finished} == {1, 2}
    assert found.scores("text", Criterion("bits_per_byte", "minimize"))["rotary"].items.shape[0] == 2


def test_loading_devices_and_lengths_of_the_test_make_no_encoding(run):
    other = run("seed=2", "dataset.num_workers=1", "dataset.length_multiples=[1]")
    found = compared(run(), other, run("encoding=alibi"))
    assert encodings(found) == {"text": ["rotary", "alibi"]}
    assert found.lengths("text") == [16, 32]


@pytest.mark.parametrize(
    ("dataset", "lengths"),
    [
        ("python_docs", "length_multiples=[1]"),
        ("reverse_string", "test_lengths=[40]"),
        ("fashion_mnist", "sides=[56]"),
        ("moving_glyphs", "test_frames=[64]"),
    ],
)
def test_lengths_of_the_test_make_no_case_of_any_kind_of_data(dataset, lengths):
    one, other = (
        ExistingRun(RunDirectory(Path()), SimpleNamespace(config=composed(f"dataset={dataset}", *more)), None).dataset
        for more in ([], [f"dataset.{lengths}"])
    )
    assert one == other


def test_another_length_of_training_is_another_case(run):
    short = "dataset.sequence_length=8"
    found = compared(run(), run("encoding=alibi"), run(short), run("encoding=alibi", short), lengths=["1x", "2x"])
    assert encodings(found) == {"text_16": ["rotary", "alibi"], "text_8": ["rotary", "alibi"]}
    assert (found.lengths("text_16"), found.lengths("text_8")) == ([16, 32], [8, 16])
    assert [one.metric for one in found.comparison.criteria("text_8")] == ["bits_per_byte@1x", "bits_per_byte@2x"]


def test_another_task_is_another_case(run):
    masked = "model=encoder"
    found = compared(run(), run("encoding=alibi"), run(masked), run("encoding=alibi", masked))
    assert encodings(found) == {
        "text_LanguageModelling": ["rotary", "alibi"],
        "text_MaskedLanguageModelling": ["rotary", "alibi"],
    }
    assert {run.task for run in found.finished} == {"LanguageModelling", "MaskedLanguageModelling"}


def test_another_number_of_steps_or_size_of_batches_is_named_with_the_encoding(run):
    found = compared(run(), run("trainer.max_steps=2"), run("dataset.batch_size=8"))
    assert encodings(found) == {
        "text": [f"rotary_max_steps={steps}_batch_size={size}" for steps, size in ((1, 4), (2, 4), (1, 8))]
    }


def test_what_is_the_same_within_each_case_is_in_no_name(run):
    short = ("dataset.sequence_length=8", "trainer.max_steps=2")
    found = compared(run(), run("encoding=alibi"), run(*short), run("encoding=alibi", *short))
    assert encodings(found) == {"text_16": ["rotary", "alibi"], "text_8": ["rotary", "alibi"]}


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["rotary", "rotary"], ["rotary", "rotary_2"]),
        (["rotary base=1e+05", "Rotary base=1e-05"], ["rotary_base=1e+05", "Rotary_base=1e-05_2"]),
        (["Rotary (yarn, SSMax)", "rotary betas=[0.9,0.95]"], ["Rotary_yarn_SSMax", "rotary_betas=_0.9_0.95"]),
        (["rotary init_from=/runs/a b", "(x)"], ["rotary_init_from=_runs_a_b", "x"]),
        (["x" * 300, "x" * 300 + "y"], ["x" * 60, "x" * 60 + "_2"]),
    ],
)
def test_different_configurations_have_different_names_that_are_valid(run, monkeypatch, labels, names):
    monkeypatch.setattr("poslab.experiments.existing.labels", lambda configs, conf: labels)
    assert encodings(compared(run(), run("encoding=alibi"))) == {"text": names}


def test_seeds_that_no_two_encodings_share_are_compared_without_pairs(run):
    runs = [run(*choices) for choices in ((), ("seed=2",), ("encoding=alibi", "seed=3"), ("encoding=alibi", "seed=4"))]
    found = compared(*runs)
    verdict = found.verdicts("text", Criterion("bits_per_byte", "minimize"), "rotary")["alibi"]
    assert (verdict.difference.pairs, verdict.difference.paired) == (2, False)
    assert verdict.p_value < 1


@pytest.fixture
def own(run: Run, tmp_path: Path) -> RunDirectory:
    """A run on a text in a folder of the test."""
    return run_of(small(tmp_path, "trainer.max_steps=1", "trainer.validations=1", "seed=5"), tmp_path / "own")


def test_a_run_whose_text_is_gone_is_named(run, own, tmp_path):
    (tmp_path / "text.txt").unlink()
    with pytest.raises(ValueError, match=rf"^{own.path}: .*text\.txt"):
        compared(run(), str(own.path))


def test_a_run_whose_text_has_changed_is_named(run, own, tmp_path):
    (tmp_path / "text.txt").write_text(words(1200, seed=1))
    with pytest.raises(ValueError, match=rf"^{own.path} .* another text"):
        compared(run(), str(own.path))


def test_a_length_that_the_text_does_not_have_is_refused(run):
    with pytest.raises(ValueError, match="100,000"):
        compared(run(), run("encoding=alibi"), lengths=[16, 100_000])


def test_a_mistake_in_the_choice_of_runs_is_one_sentence(run, tmp_path):
    plain, alibi = run(), run("encoding=alibi")
    short = [run("dataset.sequence_length=8", f"encoding={name}") for name in ("alibi", "t5")]
    again = shutil.copytree(plain, tmp_path / "again")
    unfinished = shutil.copytree(plain, tmp_path / "unfinished")
    (unfinished / "metrics.json").unlink()
    for runs, sentence in (
        ([plain], "encodings must be a list"),
        ([plain, run("seed=2")], "encodings must be a list"),
        ([plain, alibi, *short], "cases.text_8.encodings must contain"),
        ([plain, str(again), alibi], "runs must differ .* text: rotary, seed 1$"),
        ([plain, str(unfinished)], "unfinished is not finished: it has no metrics.json"),
        (
            [f"{plain}/checkpoints/last.safetensors", alibi],
            "runs must be directories",
        ),
        ([plain, str(tmp_path / "nowhere")], "nowhere is not a run directory"),
    ):
        with pytest.raises(ValueError, match=sentence):
            compared(*runs)


def test_odd_files_in_a_run_are_one_sentence_that_names_them(run, tmp_path):
    """Somebody else may have written a run: none of its files ends a comparison without saying which one it was."""
    plain, places = run(), 0

    def with_file(name: str, content: str) -> str:
        nonlocal places
        places += 1
        copy = Path(shutil.copytree(run("encoding=alibi"), tmp_path / str(places)))
        (copy / name).write_text(content)
        return str(copy)

    for content in ('{"batch": [1]}', '{"weights": {"a": 1}}', '{"batch": 3}'):
        with pytest.raises(ValueError, match=r"start\.json.*which are texts"):
            compared(plain, with_file("start.json", content), trust=["data"])
    for name, content in (("start.json", "[]"), ("start.json", "x"), ("metrics.json", '{"steps": "x"}')):
        with pytest.raises(ValueError, match=rf"{name}"):
            compared(plain, with_file(name, content), trust=["data"])
    for content in ('{"gpus": 3}', '{"gpus": "abc"}', '{"processor": [1], "precision": {}}'):
        assert len(compared(plain, with_file("environment.json", content), trust=["data"]).finished) == 2
    copy = Path(with_file("start.json", "{}"))
    (copy / "scores.parquet").unlink(missing_ok=True)
    (copy / "scores.parquet").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=r"no symbolic links.*scores\.parquet"):
        compared(plain, str(copy))


def test_a_link_in_the_directory_of_the_results_is_refused_and_what_it_points_to_is_kept(run, tmp_path):
    elsewhere, output = tmp_path / "elsewhere", tmp_path / "out"
    elsewhere.write_text("kept")
    output.mkdir()
    (output / ".lock").symlink_to(elsewhere)
    with pytest.raises(ValueError, match=r"out .* symbolic links"):
        compare_runs(
            [run(), run("encoding=alibi")], {"output": str(output)}, CONF, Publication("python -m src.compare")
        )
    assert elsewhere.read_text() == "kept"


def test_the_results_of_a_comparison_that_trains_its_runs_are_not_overwritten(tmp_path):
    claim(tmp_path, "a study", "runs")
    with pytest.raises(ValueError, match=r"^output=.* of another study"):
        compare_runs(["not read"], {"output": str(tmp_path)}, CONF, Publication("compare"))


@pytest.mark.slow
def test_the_results_of_existing_runs_are_made_again_and_belong_to_no_comparison_that_trains_its_runs(run, tmp_path):
    for _ in range(2):
        compare_runs(
            [run(), run("encoding=alibi")], {"output": str(tmp_path)}, CONF, Publication("python -m src.compare")
        )
    with pytest.raises(ValueError, match=r"^output=.* of another study"):
        claim(tmp_path, "a study", "runs")
