"""Mistakes of typing, and of files in conf/, are one helpful sentence of every command."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from poslab.cli.choices import choices
from poslab.cli.mistakes import known_keys
from poslab.cli.words import as_sweep, expand_aliases, options_first
from poslab.configuration.build import NAMES_IN_PAPERS
from tests.training.runs import CONF, composed, words
from tests.written_run import write_run

from .running import ROOT, Ended

BROKEN_YAML = {
    "tab": ("_partial_: true\n\tbase: 1\n", "line 2, column 1: a tab, where YAML takes only spaces"),
    "colon": ("_partial_: true\nbase 1\nlayout: x\n", "line 2, column 1: could not find expected ':'"),
    "indent": ("_target_: a\n  _partial_: true\n", "line 2, column 12: mapping values are not allowed here"),
    "quote": ('_partial_: true\n_target_: "a.b\n', "line 2, column 11: found unexpected end of stream"),
    "brace": ("_partial_: true\nscaling: {a: 1\n", "line 2, column 10: expected ',' or '}'"),
    "twice": ("base: 1\nlayout: x\nbase: 2\n", "line 3, column 1: found duplicate key base"),
}

TYPED = {
    # Words of the shell
    "train encoding = rotary": "there must be no spaces around an equals sign: write encoding=rotary\n",
    "train encoding =rotary": "there must be no spaces around an equals sign: write encoding=rotary\n",
    "train encoding= rotary": "there must be no spaces around an equals sign: write encoding=rotary\n",
    "train encoding == rotary": "there must be no spaces around an equals sign: write encoding=rotary\n",
    "generate prompt = x": "there must be no spaces around an equals sign: write prompt=x\n",
    "sweep sweep = rotary_base": "there must be no spaces around an equals sign: write sweep=rotary_base\n",
    "train encoding.base": "'encoding.base' is not key=value; did you mean 'encoding.base=...'?\n",
    "train encoding.base 5": "'encoding.base' is not key=value; did you mean 'encoding.base=5'?\n",
    "train 'encoding=rotary encoding.base=5'": "'encoding=rotary encoding.base=5' is 2 words in one pair of quotes: "
    "write encoding=rotary encoding.base=5\n",
    "train encoding=rotary =alibi": "'=...' must begin with a key, as in encoding=rotary\n",
    "train ëncoding=rotary": "'ëncoding' cannot be a key: keys have English letters, digits, dots and underscores; "
    "did you mean 'encoding'?\n",
    "train encoding rotary": "'encoding' is not key=value; did you mean 'encoding=rotary'?\n",
    "train encoding:rotary": "'encoding:rotary' is not key=value; did you mean 'encoding=rotary'?\n",
    "train conf/encoding/alibi.yaml": "'conf/encoding/alibi.yaml' is not key=value; did you mean 'encoding=alibi'?\n",
    "train rotary_base": "'rotary_base' is not key=value; did you mean 'python -m src.sweep sweep=rotary_base'?\n",
    "train run": "'run' is not key=value; did you mean 'resume=run' or 'init_from=run'?\n",
    "train dataset.txt": "'dataset.txt' is not key=value; did you mean 'dataset=text dataset.files=dataset.txt'?\n",
    "train notes.txt": "'notes.txt' is not key=value; did you mean 'dataset=text dataset.files=notes.txt'?\n",
    "train help": "'help' is not key=value; did you mean '--help'?\n",
    "train *": "'*' is not key=value\n",
    "train /nothing/a": "'/nothing/a' is not key=value\n",
    "train ../": "'../' is not key=value\n",
    "train =rotary": "'=...' must begin with a key, as in encoding=rotary\n",
    "train dataset=text 'dataset.files=[notes.txt,' 'b.txt]'": "dataset.files=[notes.txt, ends at a space of the "
    "shell: write 'dataset.files=[notes.txt, b.txt]'\n",
    "evaluate outputs/RUN": "'outputs/RUN' is not key=value; did you mean 'run=outputs/RUN'?\n",
    "export outputs/RUN": "'outputs/RUN' is not key=value; did you mean 'run=outputs/RUN'?\n",
    "generate run=run 'A list is'": "'A list is' is not key=value; did you mean 'prompt=\"A list is\"'?\n",
    "sweep rotary_base": "'rotary_base' is not key=value; did you mean 'sweep=rotary_base'?\n",
    # Options
    "train --encoding rotary": "--encoding: there is no such option; choices are typed without "
    "dashes: encoding=rotary\n",
    "train --encoding=rotary": "--encoding=rotary: there is no such option; "
    "choices are typed without dashes: encoding=rotary\n",
    "train --resume auto": "--resume: there is no such option; choices are typed without dashes: resume=auto\n",
    "evaluate --lengths [16]": "--lengths: there is no such option; choices are typed without dashes: lengths=[16]\n",
    "sweep --encoding rotary": "--encoding: there is no such option; choices are typed without "
    "dashes: encoding=rotary\n",
    "train --help encodng": "encodng: there is no such group; did you mean 'encoding'?\n",
    "train -v": "-v: there is no such option; --help lists what there is\n",
    "train --cfg": "--cfg/-c: expected one argument\n",
    "train --cfg all_of_it": "--cfg/-c: invalid choice: 'all_of_it' (choose from 'job', 'hydra', 'all')\n",
    "train --config-name best debug=fast": "--config-name best: there is no such configuration in conf/ or in "
    "--config-dir; that of a sweep is chosen by --config-dir outputs/sweeps/NAME --config-name best\n",
    "train --config-dir swept --config-name best debug=fast": "debug: --config-name best is a whole configuration, "
    "which has no choice of debug: set single keys, such as trainer.max_steps=4\n",
    "train --config-dir swept --config-name best encoding=alibi": "encoding: --config-name best is a whole ",
    "train --config-dir swept --config-name best trainer.max_step=3": "trainer.max_step: there is no such key; "
    "did you mean 'trainer.max_steps'?\n",
    "train --config-dir swept --config-name cut": "--config-name cut must be a whole configuration of train, and "
    "it has no attention\n",
    "train --config-name encoding/rotary": "--config-name encoding/rotary must be a whole configuration of train",
    # Characters
    "train optimizer.lr=−0.001": "optimizer.lr=−0.001 holds −, which no keyboard's command line has: write "
    "optimizer.lr=-0.001\n",
    "train encoding=“rotary”": "encoding=“rotary” holds “”, which no keyboard's command line has: write ",
    "train encoding＝rotary": "encoding＝rotary holds ＝, which no keyboard's command line has: write enc",
    "train encoding=rotary,": "encoding=rotary, ends with a comma: leave it out, or write what follows it\n",
    "evaluate run=run lengths=[16,]": "lengths=[16,] ends with a comma: leave it out, or write what follows it\n",
    "train dataset=text dataset.files=笔记.txt": "'dataset.files=笔记.txt' cannot be read as key=value: quote what "
    "holds brackets, commas, spaces or non-ASCII letters, as in \"dataset.files='笔记.txt'\"\n",
    "train dataset=text \"dataset.files='笔记.txt'\"": "dataset.files names '笔记.txt', which does not exist",
    'train "encoding=\'rotary"': '"encoding=\'rotary" cannot be read as key=value: quote what holds brackets, commas, '
    "spaces or non-ASCII letters, and close every quote and brace\n",
    # Groups and keys
    "train encoding=null": "encoding=null: a group without a choice is written encoding=none\n",
    "train temperature=null": "temperature=null: a group without a choice is written ~temperature\n",
    "train encoding=[rotary,alibi]": "encoding must be one choice of conf/encoding, got [rotary,alibi]; "
    "-m encoding=A,B runs several one after another\n",
    "train model={a:1}": "model must be one choice of conf/model, got {a:1}; -m model=A,B runs several",
    "train model=[1,2]": "model must be one choice of conf/model, got [1,2]; -m model=A,B runs several",
    "train +encoding=alibi": "+encoding: a group that has a choice already takes another one without the plus sign",
    "train ++encoding=alibi": "+encoding: a group that has a choice already takes another one without the plus sign",
    "train encoding=../model/decoder": "encoding must be a choice of conf/encoding, got ../model/decoder\n",
    "train encoding=conf/encoding/rotary.yaml": "encoding=conf/encoding/rotary.yaml: there is no such choice; "
    "did you mean 'rotary'? choices: abacus, ",
    "train dataset=notes.txt": "dataset=notes.txt: there is no such choice; "
    "did you mean 'dataset=text dataset.files=notes.txt'? (",
    "train lr=0.1": "lr: there is no such key; did you mean 'optimizer.lr'?\n",
    "train trainer.lr=0.1": "trainer.lr: there is no such key; did you mean 'optimizer.lr'?\n",
    "train steps=100": "steps: there is no such key; did you mean 'trainer.max_steps'?\n",
    "train batch_size=4": "batch_size: there is no such key; did you mean 'dataset.batch_size'?\n",
    "train hydra.nothing=3": "hydra.nothing: there is no such key\n",
    "train encoding=yarn encoding.beta_fastt=3": "encoding.beta_fastt: there is no such key; "
    "did you mean 'encoding.scaling.beta_fast'?\n",
    "evaluate run=run lengths=16,32": "lengths=16,32: -m runs several values one after another: "
    "python -m src.evaluate -m lengths=16,32; a list is written 'lengths=[16,32]'\n",
    "sweep sweep=rotary_base encoding=alibi": "encoding.base: there is no such key under encoding=alibi, and "
    "sweep=rotary_base searches it; it is one of encoding=dual_chunk, ",
    # Classes
    "train encoding._target_=poslab.models.Decoder": "encoding._target_ must name a PositionalEncoding or ",
    "train encoding._target_=poslab.encodings.temperature.ssmax.SSMax": "encoding._target_ must name a PositionalEnc",
    "train encoding._target_=poslab.encodings.Rotry": "encoding._target_: poslab.encodings has no Rotry; did you mean ",
    "train encoding._target_=collections.Counter": "encoding._target_ names collections.Counter, which is not part of ",
    "train encoding._partial_=false trainer.max_steps=-1": "trainer.max_steps must be an integer of at least 0, "
    "got -1\n",
    "train encoding=per_layer encoding.encodings=[rotary,alibi]": "encoding.encodings must be a list, each item "
    "a class or function, got ['rotary', 'alibi']\n",
    # Directories
    "train hydra.run.dir=": "hydra.run.dir must name a directory, got nothing\n",
    "train hydra.searchpath=[file://nowhere]": "hydra.searchpath names 'nowhere', which does not exist",
    "train resume=": "resume must be a run directory, a checkpoint or auto, got ''\n",
    "train resume=true": "resume must be a run directory, a checkpoint or auto, got True\n",
    "train resume=run/checkpoints": "run/checkpoints is not a run directory: it holds no config.yaml; "
    "did you mean 'run'?\n",
    "train resume=run/config.yaml": "run/config.yaml is not a run directory: it holds no config.yaml; "
    "did you mean 'run'?\n",
    "train init_from=swept": "init_from: swept is not a run directory: it holds no config.yaml; it is that of a sweep, "
    "whose runs are in swept/trials\n",
    "evaluate run=swept/trials": "swept/trials is not a run directory: it holds no config.yaml; "
    "did you mean 'swept/trials/0000'?\n",
    "evaluate run=run output=notes.txt/here": "output=notes.txt/here cannot be made: ",
    "generate run=": "run must name a run directory or one of its checkpoints: run=outputs/RUN\n",
    "evaluate run=": "run must name a run directory or one of its checkpoints: run=outputs/RUN\n",
}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run, a sweep and two files."""
    folder = tmp_path_factory.mktemp("kept")
    write_run(folder / "run")
    write_run(folder / "swept" / "trials" / "0000")
    (folder / "swept" / "sweep.yaml").write_text("name: swept\n")
    config = yaml.safe_load((folder / "run" / "config.yaml").read_text())
    defaults = ["_self_", {"override hydra/job_logging": "none"}, {"override hydra/hydra_logging": "none"}]
    (folder / "swept" / "best.yaml").write_text(yaml.safe_dump({"defaults": defaults, **config}))
    cut = {key: value for key, value in config.items() if key != "attention"}
    (folder / "swept" / "cut.yaml").write_text(yaml.safe_dump({"defaults": defaults, **cut}))
    for name in ("notes.txt", "dataset.txt"):
        (folder / name).write_text(words(100))
    return folder


@pytest.fixture
def typed(kept: Path, mistaken: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Ended]:
    """Runs a command line, without `python -m src.`, beside the run, the sweep and the files."""

    def typed(line: str) -> Ended:
        command, *arguments = shlex.split(line)
        return mistaken(f"src.{command}", *arguments, directory=kept)

    return typed


@pytest.mark.slow
@pytest.mark.parametrize("line", TYPED, ids=lambda line: line.replace("/", "|"))
def test_a_mistake_of_typing_is_one_sentence_that_helps(line, typed):
    ended = typed(line)
    assert ended.sentences.startswith(f"error: {TYPED[line]}")
    assert (ended.status, ended.sentences.count("\n"), ended.output) == (2, 1, "")


@pytest.mark.parametrize("command", ["train", "evaluate"])
@pytest.mark.parametrize("name", BROKEN_YAML)
def test_a_broken_yaml_file_is_named_with_line_and_column(name, command, tmp_path, mistaken):
    content, told = BROKEN_YAML[name]
    file = tmp_path / "mine" / "encoding" / f"{name}.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(content)
    ended = mistaken(f"src.{command}", f"hydra.searchpath=[file://{tmp_path}/mine]", f"encoding={name}")
    assert ended.errors.startswith(f"error: mine/encoding/{name}.yaml, {told}")
    assert (ended.status, ended.errors.count("\n")) == (2, 1)


def test_a_file_that_is_not_utf_8_is_named(tmp_path, mistaken):
    file = tmp_path / "mine" / "encoding" / "latin.yaml"
    file.parent.mkdir(parents=True)
    file.write_bytes("# é\n_target_: a.b\n".encode("latin-1"))
    ended = mistaken("src.train", f"hydra.searchpath=[file://{tmp_path}/mine]", "encoding=latin")
    assert ended.errors == f"error: {file} must be UTF-8 text: invalid continuation byte at byte 2\n"


SCALED = sorted(
    path.stem for path in (CONF / "encoding").glob("[!_]*.yaml") if "\nscaling:\n" in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize(
    ("command", "key", "words"),
    [
        ("train", "encoding", ["encoding=rotary", "encoding=alibi"]),
        ("train", "seed", ["seed=1", "++seed=1"]),
        ("train", "encoding.base", ["-m", "encoding.base=5,6", "--config-dir", ".", "encoding.base=7"]),
        ("train", "hydra.run.dir", ["hydra.run.dir=a", "hydra.run.dir=b"]),
        ("evaluate", "run", ["run=a", "run=b"]),
        ("sweep", "workers", ["sweep=rotary_base", "workers=1", "workers=2"]),
        ("compare", "encoding", ["encoding=rotary", "encoding=alibi", "comparison=text"]),
    ],
)
def test_a_key_that_is_given_twice_is_a_mistake(command, key, words, mistaken):
    ended = mistaken(f"src.{command}", *words, repeated=True)
    assert (ended.status, ended.errors.count("\n")) == (2, 1)
    assert f"{key} is given twice" in ended.errors


def test_the_same_group_at_two_places_is_no_mistake():
    words = ["encoding=rotary", "encoding@swap=alibi", "encoding.base=5"]
    assert options_first(words) == words


def test_an_option_may_stand_among_the_choices():
    words = ["seed=1,2", "-m", "encoding=rotary", "--config-dir", "mine", "~debug"]
    assert options_first(words) == ["-m", "--config-dir", "mine", "seed=1,2", "encoding=rotary", "~debug"]


@pytest.mark.slow
@pytest.mark.parametrize("encoding", SCALED)
@pytest.mark.parametrize(
    ("name", "place", "node"),
    [
        ("train", "encoding", "encoding"),
        ("evaluate", "encoding", "encoding"),
        ("evaluate", "encoding@swap", "swap"),
        ("train", "encoding@model.cross_encoding", "model.cross_encoding"),
    ],
)
def test_every_key_of_a_scaling_may_be_written_short(encoding, name, place, node):
    keys = [key for key in composed(f"encoding={encoding}")["encoding"]["scaling"] if not key.startswith("_")]
    before = [f"{place}={encoding}", f"{node}.base=5", "seed=1", *(["model=encoder_decoder"] if "." in node else [])]
    short = [*before, *(f"{node}.{key}=3" for key in keys)]
    assert expand_aliases(short, known_keys(name, short)) == [*before, *(f"{node}.scaling.{key}=3" for key in keys)]


def test_a_key_of_a_group_that_varies_belongs_to_each_job():
    words = ["-m", "encoding=t5,deberta", "encoding.num_buckets=64", "seed=1,2", "model.d_model=32"]
    held = ["-m", "encoding=t5,deberta", "encoding.num_buckets=choice(64)", "seed=1,2", "model.d_model=32"]
    assert as_sweep(words) == held
    assert as_sweep(words[1:]) == words[1:]


def test_a_key_that_an_encoding_has_itself_is_not_that_of_its_scaling():
    words = ["encoding=yarn", "encoding.base=5", "encoding.nothing=3", "+encoding.factor"]
    assert expand_aliases(words, known_keys("train", words)) == words


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "group"),
    [
        ("train encoding=yarn encoding.factor=0", "encoding"),
        ("train -m encoding=rope_ntk,yarn encoding.factor=0", "encoding"),
        ("evaluate encoding=yarn encoding.factor=0", "encoding"),
        ("evaluate run=run encoding@swap=yarn swap.factor=0 lengths=[16]", "swap"),
        ("sweep sweep=rotary_base output=out encoding=yarn encoding.factor=0", "encoding"),
    ],
)
def test_every_command_takes_short_keys_of_a_scaling(line, group, typed):
    ended = typed(line)
    assert f"error: {group}.scaling.factor must be a number of at least 1, got 0\n" in ended.errors
    assert ended.status == 2


def test_help_whose_reader_ends_is_silent(tmp_path):
    line = f"set -o pipefail; {sys.executable} -m src.train --help | true"
    ended = subprocess.run(
        ["bash", "-c", line], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (141, "", "")


@pytest.mark.slow
def test_a_run_that_is_typed_by_its_whole_path_is_not_taken_for_a_group(typed, kept):
    run = kept / "run"
    assert typed(f"train {run}").sentences == (
        f"error: '{run}' is not key=value; did you mean 'resume={run}' or 'init_from={run}'?\n"
    )


@pytest.mark.parametrize(
    ("line", "meant"),
    {
        "train encoding=rope": "'rotary'",
        "train encoding=RoPE": "'rotary'",
        "train encoding=nope": "'none'",
        "train encoding=fox": "'forgetting'",
        "train encoding=ntk": "'rope_ntk'",
        "train encoding=sin": "'sinusoidal'",
        "train encoding=absolute": "'learned' or 'sinusoidal'",
        "train encoding=relative": "'shaw' or 't5'",
        "train encoding=t5_bias": "'t5'",
        "evaluate run=outputs/rotary encoding@swap=nope": "'none'",
        "sweep sweep=rotary_base encoding=rope": "'rotary'",
        "train lora=true": "'adapt=lora'",
        "train epochs=3": "'trainer.max_steps'",
        "train trainer.epochs=3": "'trainer.max_steps'",
        "train output_dir=x": "'hydra.run.dir'",
        "evaluate output_dir=x": "'output'",
        "sweep sweep=rotary_base output_dir=x": "'output'",
        "sweep sweep=rotary_base n_trial=3": "'n_trials'",
        "compare comparison=text worker=3": "'workers'",
        "export output=x run=outputs/rotary": "'to'",
        "train --hepl": "'--help'",
        "sweep --hepl": "'--help'",
        "train --help rotery": "'--help encoding=rotary'",
        "train --help rotary": "'--help encoding=rotary'",
        "evaluate run=outputs/rotery": "'outputs/rotary'",
        "evaluate run=output/rotary": "'outputs/rotary'",
        "generate run=outputs/rotari prompt=x": "'outputs/rotary'",
        "train resume=outputs/rot": "'outputs/rotary'",
        "train init_from=outputs/rot": "'outputs/rotary'",
        "export run=outputs/rotery to=x": "'outputs/rotary'",
        "compare runs=outputs/rotery": "'outputs/rotary'",
    }.items(),
    ids=lambda text: text.replace("/", "|"),
)
def test_names_of_the_literature_and_slips_have_a_hint(line, meant, tmp_path, mistaken):
    (tmp_path / "outputs" / "rotary").mkdir(parents=True)
    (tmp_path / "outputs" / "rotary" / "config.yaml").write_text("seed: 1\n")
    command, *arguments = line.split()
    ended = mistaken(f"src.{command}", *arguments)
    assert ended.status == 2
    assert f"did you mean {meant}?" in ended.sentences


def test_hints_name_choices_of_conf_and_no_choice_is_in_their_way():
    meant = {ours for names in NAMES_IN_PAPERS.values() for ours in names.split("' or '")}
    assert meant <= set(choices("encoding")) and not NAMES_IN_PAPERS.keys() & set(choices("encoding"))
