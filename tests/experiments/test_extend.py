"""The search of settings finds planted optima within the price, and an extension resumes, and ends in files."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from optuna.storages import InMemoryStorage

pytest.importorskip("lm_eval")
pytest.importorskip("transformers")

from tokenizers import Tokenizer, models, pre_tokenizers
from tokenizers.decoders import ByteLevel
from tokenizers.processors import TemplateProcessing
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from poslab.cli.argv import expand_aliases
from poslab.cli.extend import _export
from poslab.cli.help import keys
from poslab.configuration.command_line import CONF
from poslab.data.tokenizers import ByteTokenizer
from poslab.evaluation.benchmarks.long_text import outside, windows_of
from poslab.evaluation.benchmarks.prompts import called
from poslab.evaluation.benchmarks.subjects import PretrainedSubject, logits_in_windows
from poslab.evaluation.benchmarks.tasks import ItemMetric
from poslab.experiments.bench.models import run_subjects
from poslab.experiments.composition import Composer
from poslab.experiments.extend import fine_tuning, objective, plan, steps, summary
from poslab.experiments.extend.command import run_extend
from poslab.experiments.extend.fine_tuning import write_text
from poslab.experiments.extend.objective import Losses, beyond
from poslab.experiments.extend.plan import SIZES, Clock, ExtendRequest, Plan, seconds_of
from poslab.experiments.extend.search import Candidate, divided, ranked, rungs_of, search
from poslab.experiments.extend.settings import TYPES, Setting, defaults, space_of
from poslab.pretrained.borrow import exchange
from poslab.runs.directory import RunDirectory
from poslab.runs.loading import export

ALIASES = [key for name in (*TYPES, "longrope") for key in keys("encoding", name)]
pytestmark = pytest.mark.slow  # they import the harness, and start commands


def test_a_token_is_predicted_from_at_least_half_a_window():
    """A model whose logits are the tokens that it sees shows what it has read."""

    def read(tokens_1T):
        assert tokens_1T.shape[1] <= 8
        seen = [tokens_1T[0, : n + 1].tolist() for n in range(tokens_1T.shape[1])]
        return torch.tensor([[[len(tokens), tokens[0], tokens[-1]] for tokens in seen]])

    for length in (1, 5, 8, 9, 12, 31):
        logits_T3 = logits_in_windows(read, 8, torch.arange(length)[None])[0]
        assert logits_T3[:, 2].tolist() == [*range(length)]  # each position once, in order
        assert (logits_T3[8:, 0] >= 4).all()
        assert (logits_T3[:8, 1] == 0).all()


@pytest.mark.parametrize(
    ("text", "seconds"), [("2h", 7200), ("90m", 5400), ("1h30m", 5400), ("45s", 45), ("0.5h", 1800)]
)
def test_a_budget_is_a_time(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "2", "-2h", "0m", "two hours", "2h 5x", "1e9h", None])
def test_a_budget_that_is_no_time_is_one_sentence(text):
    with pytest.raises(ValueError, match=r"^budget must be a time such as 2h"):
        seconds_of(text)


def test_a_longer_budget_reads_more_texts_and_a_short_one_is_one_sentence():
    short, long = Plan.of(600, 2.0), Plan.of(6000, 2.0)
    assert all(short.sizes[name] <= long.sizes[name] <= SIZES[name][1] for name in SIZES)
    assert math.isclose(sum(long.seconds.values()), 6000)
    with pytest.raises(ValueError, match=r"^budget must be longer: a text and its prompts take about 60 s"):
        Plan.of(600, 60.0)


def test_a_clock_counts_over_interruptions(tmp_path):
    first = Clock(tmp_path / "clock.json")
    first.begin()
    spent = first.spent("search")
    second = Clock(tmp_path / "clock.json")
    assert second.spent("search") >= spent
    (tmp_path / "clock.json").write_text('{"search": -5, "divisors": "x"}')
    assert 0 <= Clock(tmp_path / "clock.json").spent("search") < 5


def test_all_tokens_beyond_the_context_count_where_few_are_key_tokens():
    few, many = np.zeros((2, 100), bool), np.zeros((2, 100), bool)
    few[:, 60], many[:, 40:] = True, True
    assert beyond(lambda step: few, 50)(None).tolist() == [[False] * 50 + [True] * 50] * 2
    assert beyond(lambda step: many, 50)(None).sum() == 100


def bowl(best, price=0.0):
    """Losses that are least at these values, in logarithms, and the number of items that were asked for."""
    asked = []

    def measure(setting, count):
        asked.append((setting.identity, count))
        away = 0.0 if setting.type == best["encoding"] else 1.0
        away += sum(
            math.log(setting.keys[key] / best[key]) ** 2
            for key in best
            if isinstance(best[key], float) and key in setting.keys
        )
        return Losses(away, 0.0, 2.0 + (price if setting.type == "yarn" else 0.0))

    return measure, asked


BEST = {"encoding": "yarn", "encoding.factor": 6.0, "encoding.beta_fast": 16.0}


def searched(measure, trials, storage=None, margin=0.02):
    space, first, own = space_of(TYPES, 4.0, 1024), defaults(TYPES, 4.0), dict.fromkeys(rungs_of(4), 2.0)
    return search(
        "x", storage or InMemoryStorage(), space, first, measure, own, margin, lambda number: number < trials, 1
    )


def test_a_search_finds_a_planted_setting():
    measure, _ = bowl(BEST)
    best = ranked(searched(measure, 60), 0.02)[0]
    of_yarn = measure(defaults(["yarn"], 4.0)[0], 4).objective
    assert best.setting.type == "yarn"
    assert best.losses.objective < 0.3 * of_yarn


def test_a_setting_above_the_price_is_not_chosen():
    measure, _ = bowl(BEST, price=0.5)
    best = ranked(searched(measure, 30), 0.02)[0]
    assert best.setting.type != "yarn"
    assert best.price <= 0.02
    candidates = [c for c in searched(measure, 30) if c.setting.type == "yarn"]
    assert ranked(candidates, 0.02)[0].price == 0.5  # the least of what there is


def test_a_search_tries_the_defaults_first_and_drops_bad_settings_early():
    measure, asked = bowl(BEST)
    searched(measure, 20)
    order = list(dict.fromkeys(identity for identity, _ in asked))
    assert order[: len(TYPES)] == [setting.identity for setting in defaults(TYPES, 4.0)]
    whole = {identity for identity, count in asked if count == 4}
    assert 0 < len(whole) < len(order)


def test_a_search_that_was_killed_repeats_no_trial():
    storage, (measure, asked) = InMemoryStorage(), bowl(BEST)

    def killed(setting, count):
        if len(asked) == 11:
            raise KeyboardInterrupt
        return measure(setting, count)

    with pytest.raises(KeyboardInterrupt):
        searched(killed, 20, storage)
    interrupted = len({identity for identity, _ in asked})
    searched(measure, 20, storage)
    after = [identity for identity, count in asked[11:] if count == 1]
    assert len(set(after)) == len(after)
    assert len({identity for identity, _ in asked}) <= 20 + 1
    assert interrupted < 20


def test_a_trial_that_costs_too_much_does_not_prune_a_cheaper_one():
    """Low losses are only above the price here, as where a larger factor reads far texts and spoils near ones."""

    def measure(setting, count):
        dear = setting.keys.get("encoding.factor", 0.0) > 3.0
        return Losses(0.1 if dear else 1.0, 0.0, 2.5 if dear else 2.0)

    best = ranked(searched(measure, 40), 0.02)[0]
    assert best.price == 0.0


def test_a_search_that_was_killed_while_the_defaults_were_queued_tries_them_all():
    storage, asked = InMemoryStorage(), []

    def killed(setting, count):
        raise KeyboardInterrupt

    def measure(setting, count):
        asked.append(setting.identity)
        return Losses(1.0, 0.0, 2.0)

    with pytest.raises(KeyboardInterrupt):
        searched(killed, 20, storage)
    searched(measure, 5, storage)
    assert set(asked) == {setting.identity for setting in defaults(TYPES, 4.0)}


@pytest.mark.parametrize("kills", [[7, 20, 3], [0, 0, 0], [1, 2, 3, 4, 5, 6, 7], [30, 1, 9]])
def test_a_search_that_was_killed_ends_as_one_that_was_not(kills):
    def search_of(kills):
        storage, (measure, _), left = InMemoryStorage(), bowl(BEST), list(kills)

        def interrupted(setting, count):
            if left and left[0] == 0:
                left.pop(0)
                raise KeyboardInterrupt
            if left:
                left[0] -= 1
            return measure(setting, count)

        while True:
            try:
                return [candidate.setting.identity for candidate in searched(interrupted, 25, storage)]
            except KeyboardInterrupt:
                continue

    assert search_of(kills) == search_of([])


def test_a_price_that_is_no_number_is_the_highest():
    good = Candidate.of(Setting({"encoding": "yarn"}), Losses(1.0, 0.0, 2.03), 2.0)
    broken = Candidate.of(Setting({"encoding": "rope_ntk"}), Losses(1.0, 0.0, math.nan), 2.0)
    assert ranked([broken, good], 0.02)[0] is good
    assert broken.price == math.inf


@pytest.mark.parametrize("stretch", [1.01, 2.0, 4.0, 512.0, 100_000.0])
def test_the_space_contains_the_defaults(stretch):
    space = space_of(TYPES, stretch, 1024)
    assert all(space.contains(space.defaults(setting.keys)) for setting in defaults(TYPES, stretch))


def test_dividing_and_conquering_finds_planted_divisors():
    planted = np.array([1.0, 1.0, 1.0, 1.2, 2.0, 3.0, 4.0, 4.0])

    def measure(setting):
        divisors = np.array(setting.keys["encoding.long_factors"])
        assert setting.keys["encoding.short_factors"] == setting.keys["encoding.long_factors"]
        return Losses(float((np.log(divisors / planted) ** 2).sum()), 0.0, 2.0)

    start = [2.0] * 8
    first = Losses(float((np.log(np.array(start) / planted) ** 2).sum()), 0.0, 2.0)
    found = list(
        divided(Candidate(Setting({"encoding": "yarn"}), first, 0.0), start, 1.1, measure, 2.0, 0.02, lambda: True)
    )
    losses = [candidate.losses.objective for candidate in found]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.35 * first.objective
    assert found[-1].setting.keys["encoding.attention_factor"] == 1.1
    left = iter([True] * 3 + [False])
    assert (
        len(list(divided(Candidate(found[0].setting, first, 0.0), start, 1.1, measure, 2.0, 0.02, lambda: next(left))))
        <= 3
    )


def test_divisors_above_the_price_are_not_taken():
    start = Candidate(Setting({"encoding": "yarn"}), Losses(1.0, 0.0, 2.0), 0.0)
    dear = Losses(0.1, 0.0, 2.5)
    assert list(divided(start, [1.0] * 4, 1.0, lambda setting: dear, 2.0, 0.02, lambda: True)) == []


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """A tiny Llama of bytes with a context of 128."""
    torch.manual_seed(0)
    letters = pre_tokenizers.ByteLevel.alphabet()
    library = Tokenizer(models.BPE({letter: n for n, letter in enumerate(sorted(letters))} | {"<end>": 256}, []))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = ByteLevel()
    folder = tmp_path_factory.mktemp("llama") / "model"
    PreTrainedTokenizerFast(tokenizer_object=library, eos_token="<end>").save_pretrained(folder)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    LlamaForCausalLM(LlamaConfig(vocab_size=258, **sizes, max_position_embeddings=128)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    words = np.random.default_rng(0).integers(97, 123, (6, 2000), dtype=np.uint8)
    for number, letters in enumerate(words):
        (folder / f"{number}.txt").write_bytes(letters.tobytes())
    return folder


@pytest.fixture(scope="module")
def extend(directory, texts):
    """Extends the tiny Llama, or another; the composed words of a setting are those of the command."""
    composer = Composer(CONF, [])

    def words_of(path, setting):
        words = ["model=pretrained", f"model.path={path}", "seed=42"]
        return words + expand_aliases([composer.override(key, value) for key, value in setting.keys.items()], ALIASES)

    def subject_of(path, setting, name):
        if setting.run:
            return run_subjects([setting.run], "cpu", [])[0].under(name, None)
        words = [*words_of(path, setting), "dataset.sequence_length=128"]
        return PretrainedSubject(name, 42, words, str(path), torch.device("cpu"), composer.resolved(words))

    def config_of(path, setting, words):
        return composer.resolved([*words_of(path, setting), *words, "trainer=cpu"])

    def extended(output, path=directory, written=None, **others):
        asked = {
            "to": 512,
            "text": f"{texts}/*.txt",
            "tasks": ["passkey"],
            "budget": "30s",
            "trials": 5,
            "seed": 42,
            "fine_tune": 0,
        }
        request = ExtendRequest(**asked | others, output=str(output))
        export = written or (lambda setting, folder: [setting.label])
        run_extend(partial(subject_of, path), partial(config_of, path), export, request)

    return extended


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@dataclass(frozen=True)
class Named:
    name: str


@pytest.mark.parametrize(("gain", "verdict"), [(0.5, "better"), (0.0, "inconclusive"), (-0.5, "worse")])
def test_the_model_that_is_written_is_marked_and_has_a_verdict_next_to_windows(gain, verdict):
    rng = np.random.default_rng(0)
    counts, noise = rng.integers(5, 9, 12), 0.1 * rng.standard_normal(12)
    noise -= noise.mean()

    def of(loss, short):
        metrics = [("key_loss", 64, loss), ("answer_loss", 64, loss), ("loss", 16, short)]
        return [[ItemMetric(name, [*counts * losses], counts.tolist(), False, False, n) for name, n, losses in metrics]]

    windows, found = Named("in_windows"), Named("found")
    measured = {windows: of(np.full(12, 3.0), np.full(12, 2.0)), found: of(3.0 - gain + noise, 2.1 + 0.1 * noise)}
    answer = summary.answer_of(measured, 64, 16, "found", margin=0.02)
    assert answer[0].count(f"({verdict})") == 2
    assert "above margin" in answer[-1]
    assert len(answer) == (2 if verdict == "better" else 3)
    assert summary.summary_of(measured, 64, 16, "found")["positions"].tolist() == ["in_windows", "found (written)"]


def test_a_trained_model_must_beat_the_same_training_in_windows():
    def of(loss):
        losses = loss + 0.1 * np.random.default_rng(0).standard_normal(12)
        return [[ItemMetric(name, [*losses], [1] * 12, False, False, n) for name, n in metrics]]

    metrics = [("key_loss", 64), ("answer_loss", 64), ("loss", 16)]
    measured = {Named("in_windows"): of(3.0), Named("trained"): of(2.0), Named("trained_in_windows"): of(2.0)}
    windows, control, nothing, _ = summary.answer_of(measured, 64, 16, "trained", margin=0.02)
    assert windows.count("(better)") == 2 and control.count("(inconclusive)") == 2
    assert nothing == "Nothing shows that it is better than the same training without a setting, read in windows."


def test_text_for_training_is_all_that_is_not_measured(tmp_path):
    text = bytes(np.random.default_rng(0).integers(97, 123, 1000, dtype=np.uint8)).decode()
    (tmp_path / "long.txt").write_text(text)
    (tmp_path / "short.txt").write_text("too short for a window")
    tokenizer = called(ByteTokenizer())
    windows = windows_of(tokenizer, 100, 50, 1, str(tmp_path / "*.txt"), share=0.5)
    assert len(windows) == 4  # half of nine
    pieces = [bytes(piece).decode() for piece in outside(tokenizer, windows, str(tmp_path / "*.txt"))]
    measured = [bytes(window[:-1].tolist()).decode() for window in windows]
    assert pieces[-1] == "too short for a window"
    assert sorted("".join(pieces[:-1] + measured)) == sorted(text)
    assert all(part in text and not any(part in piece for piece in pieces) for part in measured)


def test_a_model_is_trained_further_and_an_extension_that_resumes_measures_and_trains_nothing_twice(
    extend, tmp_path, capsys, monkeypatch
):
    for module in (plan, fine_tuning, steps):
        monkeypatch.setattr(module, "MIN_STEPS", 1, raising=False)
    monkeypatch.setattr(plan, "MAX_STEPS", 2)
    exported = []

    def written(setting, folder):
        exported.append(setting)
        return [setting.label]

    asked = {"to": 256, "budget": "40s", "fine_tune": 1, "drope": True, "written": written}
    extend(tmp_path / "out", **asked)
    first = capsys.readouterr().out
    assert max(len(line) for line in first.splitlines() if "─" in line) <= 80
    assert (tmp_path / "out" / "report" / "report.html").exists()
    summary = first.split("answers %")[1]
    assert all(name in summary for name in ("in_windows", "found", "trained", "drope"))
    assert all(name in summary for name in ("trained_in_windows", "trained next to trained_in_windows"))
    runs = {path.name.partition("_")[0]: path for path in (tmp_path / "out" / "runs").iterdir()}
    assert RunDirectory(runs.pop("pretrained")).config()["positions"].get("target_length") is None
    (run,) = (path for name, path in runs.items() if name != "none")
    config = RunDirectory(run).config()
    assert config["positions"]["target_length"] == 256 and config["dataset"]["sequence_length"] == 128
    assert RunDirectory(run).metrics()["steps"] == 2
    assert [setting.run for setting in exported] == [str(run)]  # more training is better here, also of noise

    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "runs").glob("*/metrics.json")}
    measured_again = []
    monkeypatch.setattr(objective, "token_losses", lambda lm, ids: measured_again.append(ids))
    extend(tmp_path / "out", **asked)
    assert measured_again == []
    assert before == {path: path.stat().st_mtime_ns for path in before} and len(before) == 3
    assert capsys.readouterr().out.split("answers %")[1] == summary

    with pytest.raises(ValueError, match=r"was started with another margin"):
        extend(tmp_path / "out", **asked, margin=0.5)
    (tmp_path / "out" / "training.json").write_text('{"steps": "many"}')
    with pytest.raises(ValueError, match=r"training.json is damaged"):
        extend(tmp_path / "out", **asked)


def test_a_choice_that_cannot_be_trained_is_one_sentence_before_anything_is_searched(extend, tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "MIN_STEPS", 1)
    with pytest.raises(ValueError, match=r"^adapt=encoding"):
        extend(tmp_path / "out", budget="5m", fine_tune=1, adapt=["adapt=encoding"], dry_run=True)


def test_a_model_that_cannot_be_written_is_one_sentence_before_anything_is_searched(extend, directory, tmp_path):
    """Gemma 2 has one rotation for all layers, and its windows keep their own."""
    shutil.copytree(directory, tmp_path / "gemma")
    (tmp_path / "gemma" / "model.safetensors").unlink()
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = Gemma2Config(vocab_size=258, **sizes, num_key_value_heads=2, head_dim=8, sliding_window=64)
    config.max_position_embeddings = 128
    Gemma2ForCausalLM(config).save_pretrained(tmp_path / "gemma")
    with pytest.raises(ValueError, match=r"^Gemma2ForCausalLM can be exported only .* got several rotations$"):
        extend(tmp_path / "out", tmp_path / "gemma", dry_run=True)


def test_text_for_training_has_no_special_tokens(tmp_path):
    tokenizer = Tokenizer(models.BPE({"<s>": 0, "a": 1, "b": 2}, []))
    tokenizer.post_processor = TemplateProcessing("<s> $A", None, [("<s>", 0)])
    (tmp_path / "text.txt").write_text("abab")
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>")
    windows, folder = np.zeros((1, 3), np.int64), tmp_path / "training"
    write_text(SimpleNamespace(tokenizer=fast), windows, str(tmp_path / "text.txt"), folder)
    assert "s" not in (folder / "00000.txt").read_text()


def test_a_budget_without_time_for_training_has_none_and_its_other_steps_have_more():
    without, with_training = Plan.of(600, 0.5, 2, step=5.0), Plan.of(600, 0.5, 2, step=0.5)
    assert without.steps == 0 and without.seconds == Plan.of(600, 0.5).seconds
    assert with_training.steps == 180 and with_training.seconds["search"] < without.seconds["search"]
    assert Plan.of(600, 0.5, 1, step=0.01).steps == 1000
    needed = without.training_budget
    steps = [Plan.of(budget * needed, 0.5, 2, step=5.0).steps for budget in (0.99, 1.001)]
    assert steps == [0, 100]
    assert "100 steps need a budget of about 56 min" in without.table()["what"].tolist()


def test_a_kept_file_that_is_damaged_is_measured_again(extend, tmp_path, capsys):
    extend(tmp_path / "out", dry_run=True)
    for file in (tmp_path / "out" / "kept").rglob("*.npy"):
        file.write_bytes(b"no numbers")
    (tmp_path / "out" / "plan.json").write_text('{"item": "x"}')
    with pytest.raises(ValueError, match=r"plan.json is damaged"):
        extend(tmp_path / "out")
    (tmp_path / "out" / "plan.json").write_text('{"item": 0.1}')
    for damaged in ('{"search": "a", "decision": 2, "report": 2}', "{}", '{"search": 1, "decision": 2, "report": 1e9}'):
        (tmp_path / "out" / "sizes.json").write_text(damaged)
        with pytest.raises(ValueError, match=r"sizes.json is damaged"):
            extend(tmp_path / "out")


def test_other_texts_are_not_mixed_with_what_is_known(extend, tmp_path):
    (tmp_path / "text.txt").write_text("".join(chr(97 + n * n % 26) for n in range(4000)))
    request = {"text": str(tmp_path / "text.txt"), "budget": "30s"}
    extend(tmp_path / "out", dry_run=True, **request)
    (tmp_path / "out" / "sizes.json").write_text('{"search": 1, "decision": 2, "report": 2}')
    (tmp_path / "out" / "texts.json").write_text('{"content of text": ["of", "other", "texts"]}')
    with pytest.raises(ValueError, match=r"was started with another content of text"):
        extend(tmp_path / "out", **request)


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({"to": 64}, r"^to must be above the context of the model, 128 tokens, got 64$"),
        ({"to": 8192}, r"^text must contain a text of at least 8,193 tokens$"),
        ({"text": "none/*.txt"}, r"^text .*none"),
        ({"tasks": ["niah"]}, r"^unknown task 'niah'"),
        ({"types": ["alibi"]}, r"^types must be of .*, got alibi$"),
        ({"types": []}, r"^types must not be empty"),
        ({"budget": "0.00001h"}, r"^budget must be longer"),
    ],
)
def test_a_mistake_is_one_sentence(extend, tmp_path, others, message):
    with pytest.raises(ValueError, match=message):
        extend(tmp_path / "out", **others)


def test_a_model_that_was_in_the_output_before_stays(extend, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").touch()
    with pytest.raises(ValueError, match=r"contains a model already"):
        extend(tmp_path)
    assert (tmp_path / "model" / "weights").exists()


def test_a_tokenizer_that_begins_no_text_is_one_sentence(extend, directory, tmp_path):
    shutil.copytree(directory, tmp_path / "model")
    PreTrainedTokenizerFast.from_pretrained(directory, eos_token=None).save_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match=r"must have a tokenizer with bos_token or eos_token"):
        extend(tmp_path / "out", tmp_path / "model")


def test_what_is_written_names_no_code_of_the_author(directory, tmp_path):
    shutil.copytree(directory, tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "evil.Model"}
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    exchange(model, "yarn", factor=2.0)
    export(model, tmp_path / "written")
    assert "auto_map" not in json.loads((tmp_path / "written" / "config.json").read_text())


def test_a_rotation_that_is_scaled_already_is_one_sentence(extend, directory, tmp_path):
    scaled = tmp_path / "scaled"
    shutil.copytree(directory, scaled)
    config = json.loads((scaled / "config.json").read_text())
    config["rope_parameters"] = {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}
    (scaled / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"scaled already"):
        extend(tmp_path / "out", scaled)


def test_the_tokenizer_of_a_pretrained_model_is_written_too(directory, tmp_path):
    words = ["model=pretrained", f"model.path={directory}", "seed=42", "encoding=yarn", "encoding.factor=4"]
    words = expand_aliases([*words, "dataset.sequence_length=128"], ALIASES)
    config = Composer(CONF, []).resolved(words)
    subject = PretrainedSubject("found", 42, words, str(directory), torch.device("cpu"), config)
    setting = Setting({"encoding": "yarn", "encoding.factor": 4.0})
    list(_export(lambda setting, name: subject, 512, setting, tmp_path / "model"))
    ids = [AutoTokenizer.from_pretrained(folder)("long text").input_ids for folder in (directory, tmp_path / "model")]
    assert ids[0] == ids[1] != []
    assert AutoTokenizer.from_pretrained(tmp_path / "model").model_max_length == 512


def test_what_is_written_loads_in_transformers_under_the_setting(directory, tmp_path):
    setting = Setting({"encoding": "yarn", "encoding.factor": 3.0})
    model = AutoModelForCausalLM.from_pretrained(directory)
    exchange(model, "yarn", factor=3.0)
    subject = SimpleNamespace(export=lambda folder: export(model, folder), path=str(directory))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")  # of an export that was killed, or of another setting
    lines = list(_export(lambda setting, name: subject, 512, setting, tmp_path / "model"))
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["max_position_embeddings"] == 512  # and not 3 times 128
    assert config["rope_parameters"]["factor"] == 3.0
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    tokens = torch.arange(200)[None]
    assert torch.allclose(loaded(tokens).logits, model(tokens).logits, atol=1e-4)
    assert any("vllm serve" in line and '"max_position_embeddings": 512' in line for line in lines)

    subject.export = None  # the same setting is not written again
    assert list(_export(lambda setting, name: subject, 512, setting, tmp_path / "model"))[-1] == lines[-1]
    other = Setting({"encoding": "yarn", "encoding.factor": 8.0})
    exchange(model, "yarn", factor=8.0)
    subject.export = lambda folder: export(model, folder)
    list(_export(lambda setting, name: subject, 512, other, tmp_path / "model"))
    written = json.loads((tmp_path / "model" / "config.json").read_text())
    assert written["rope_parameters"]["factor"] == 8.0
