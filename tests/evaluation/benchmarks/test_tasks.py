"""Scores of the harness's tasks are those of its own command, and prompts are scored by what their answers say."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

lm_eval = pytest.importorskip("lm_eval")

from poslab.evaluation.benchmarks import long_text, ruler, subjects  # noqa: E402
from poslab.evaluation.benchmarks.subjects import Answers, PretrainedSubject  # noqa: E402
from poslab.evaluation.benchmarks.tasks import PromptTask, harness_tasks, quieten_harness  # noqa: E402
from poslab.evaluation.settings import Progress, at_once  # noqa: E402
from poslab.runs.errors import DiskError  # noqa: E402
from tests.evaluation.benchmarks.readers import Reader, needle_items, of_needle  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.needs("lm_eval", "wonderwords", "nltk")]  # it imports the harness
LENGTH = 1200

OWN_TASK = """
task: capitals
dataset_path: json
dataset_kwargs: {data_files: {test: FILE}}
test_split: test
output_type: multiple_choice
doc_to_text: "The capital of {{country}} is"
doc_to_choice: [Paris, Rome, Oslo]
doc_to_target: "{{answer}}"
num_fewshot: 1
fewshot_config: {split: test}
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """A tiny Llama whose tokens are words, of which it knows few: to bytes, the harness's own vt does not end."""
    torch.manual_seed(0)
    words = ["<end>", "?", "Paris", "Rome", "Oslo", "France", "Italy", "Norway", "is", "The", "capital", "of"]
    library = Tokenizer(models.WordLevel(vocab={word: i for i, word in enumerate(words)}, unk_token="?"))
    library.pre_tokenizer = pre_tokenizers.Whitespace()
    folder = tmp_path_factory.mktemp("llama") / "model"
    PreTrainedTokenizerFast(tokenizer_object=library, unk_token="?", eos_token="<end>").save_pretrained(folder)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    ends = {"bos_token_id": 0, "eos_token_id": 0, "max_position_embeddings": LENGTH}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(words), **sizes, **ends)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def own_tasks(tmp_path_factory):
    """A folder with a task of multiple choice of six countries."""
    folder = tmp_path_factory.mktemp("tasks")
    rows = [f'{{"country": "{name}", "answer": {i % 3}}}' for i, name in enumerate(("France", "Italy", "Norway") * 2)]
    (folder / "rows.json").write_text("\n".join(rows))
    (folder / "capitals.yaml").write_text(OWN_TASK.replace("FILE", str(folder / "rows.json")))
    return folder


def subject(folder):
    config = {"encoding": {"_target_": "poslab.encodings.PretrainedPositions", "_partial_": True}, "model": {}}
    return PretrainedSubject("pretrained", 0, [], str(folder), torch.device("cpu"), config)


def values(metrics):
    return {metric.name: sum(metric.sums) / sum(metric.counts) for metric in metrics}


def test_pretrained_has_the_numbers_of_the_harness_itself(directory, own_tasks, monkeypatch):
    harness = ruler._harness()  # it imports the needles, which would download sentence boundaries
    for module in (harness.vt, harness.niah):  # which make 500 items
        monkeypatch.setattr(module, "tqdm", lambda numbers, **_: list(numbers)[:2])
    quieten_harness()
    metadata = {"pretrained": str(directory), "max_seq_lengths": [LENGTH]}
    plain = lm_eval.simple_evaluate(
        model="hf",
        model_args=f"pretrained={directory},dtype=float32,max_length={LENGTH}",
        tasks=["niah_single_1", "ruler_vt", "capitals"],
        task_manager=lm_eval.tasks.TaskManager(include_path=str(own_tasks), metadata=metadata),
        device="cpu",
        limit=2,
        bootstrap_iters=0,
    )["results"]
    with pytest.raises(ValueError, match="unknown task 'capitels'; did you mean 'capitals'"):
        harness_tasks(["capitels"], None, False, None, str(own_tasks), {})
    tasks = harness_tasks(["niah_single_1", "ruler_vt", "capitals"], 2, False, None, str(own_tasks), metadata)
    model = subject(directory)
    ours = {task.name: values(task.measure(model.lm(LENGTH), at_once)) for task in tasks}
    assert ours["niah_single_1"]["m_1200"] == 100 * plain["niah_single_1"]["1200,none"]
    assert ours["ruler_vt"]["m_1200"] == 100 * plain["ruler_vt"]["1200,none"]
    assert ours["capitals"]["acc"] == 100 * plain["capitals"]["acc,none"]
    assert ours["capitals"]["acc_norm"] == 100 * plain["capitals"]["acc_norm,none"]


def test_an_encoding_of_a_pretrained_model_is_untrained_where_it_learns(directory):
    def untrained(target):
        config = {"encoding": {"_target_": f"poslab.encodings.{target}", "_partial_": True}, "model": {}}
        return PretrainedSubject("x", 0, [], str(directory), torch.device("cpu"), config).untrained

    assert untrained("PretrainedPositions") == untrained("NoPosition") == 0
    assert untrained("Learned") > 0


def test_a_model_that_finds_the_needle_has_every_metric_at_its_best():
    task = PromptTask("niah_single_1", 512, needle_items(), ["generated", "forced"])
    scores = values(task.measure(Reader(of_needle), at_once))
    best = {"string_match": 100, "answer_loss": 0, "forced_match": 100, "choice": 100, "recovery": 100}
    assert scores == pytest.approx(best)


def test_a_model_that_loses_the_needle_in_hay_recovers_nothing():
    task = PromptTask("niah_single_1", 512, needle_items(), ["generated", "forced"])
    scores = values(task.measure(Reader(lambda p: " 0000000" if "noise" in p else of_needle(p)), at_once))
    assert (scores["string_match"], scores["forced_match"]) == (0, 0)
    assert scores["recovery"] == pytest.approx(0)
    assert scores["answer_loss"] == pytest.approx(7 / 8)  # of eight bytes, the space is right


def test_where_the_facts_are_worth_nothing_there_is_no_recovery():
    scores = values(PromptTask("vt", 512, needle_items(), ["forced"]).measure(Reader(lambda p: " 0000000"), at_once))
    assert "recovery" not in scores
    assert "string_match" not in scores


def test_where_the_facts_are_worth_a_rounding_error_there_is_no_recovery(monkeypatch):
    reader, number = Reader(of_needle), itertools.count()
    monkeypatch.setattr(reader, "loglikelihood", lambda asked: [(-1e-4 * (next(number) % 3), False) for _ in asked])
    assert "recovery" not in values(PromptTask("vt", 512, needle_items(3), ["forced"]).measure(reader, at_once))


def test_answers_are_matched_as_in_ruler():
    """The mean share of the expected strings that an answer contains, whatever their case."""
    items = [{**item, "outputs": ["Abc", "DEF"], "needles": [], "distractors": []} for item in needle_items(3)]
    answers = iter(["abc, def", "ABC\x07", "nothing"])
    (scores,) = PromptTask("fwe", 512, items, ["generated", "forced"]).measure(Reader(lambda p: next(answers)), at_once)
    assert scores.sums == [100, 50, 0]


def test_of_questions_with_several_right_answers_one_is_enough():
    items = [{**item, "outputs": ["Oslo", "Christiania"], "needles": []} for item in needle_items(1)]
    (scores,) = PromptTask("qa_squad", 512, items, ["generated"]).measure(Reader(lambda p: "In Oslo."), at_once)
    assert scores.sums == [50]


def test_what_was_killed_goes_on_without_asking_again(directory, tmp_path, monkeypatch):
    model, tasks = subject(directory), [PromptTask("niah_single_1", 512, needle_items(), ["generated"])]
    reader, asked = Reader(of_needle), []

    def third(prompt):
        asked.append(prompt)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return of_needle(prompt)

    reader.answer = third
    monkeypatch.setattr(model, "lm", lambda length: reader)
    with pytest.raises(KeyboardInterrupt):
        tasks[0].measure(model.answering(512, tmp_path), Progress(kept=tmp_path / "steps").step)
    reader.answer, reader.asked = of_needle, []
    again = tasks[0].measure(model.answering(512, tmp_path), Progress(kept=tmp_path / "steps").step)
    assert len(reader.asked) == 2  # of four
    reader.asked = []
    assert tasks[0].measure(model.answering(512, tmp_path), Progress(kept=tmp_path / "steps").step) == again
    assert not reader.asked


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_bytes(b"no database" * 900),
        lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
        lambda file: (file.unlink(), file.mkdir()),
        *(
            lambda file, text=text: sqlite3.connect(file, isolation_level=None).execute(
                "UPDATE answers SET value = ?", [text]
            )
            for text in ("null", "{}", "[1, 2, 3]", "not json", b"\x80")
        ),
    ],
)
def test_damaged_answers_are_asked_again(tmp_path, damage):
    file = tmp_path / "model.db"
    Answers(file)["asked"] = "answer"
    assert Answers(file) == {"asked": "answer"}
    damage(file)
    again = Answers(file)
    assert again == {}
    again["asked"] = (-1.5, True)
    if file.is_file():
        assert Answers(file) == {"asked": [-1.5, True]}


def test_answers_that_cannot_be_kept_are_answers_with_a_warning(tmp_path, monkeypatch, capsys):
    answers = Answers(tmp_path / "model.db")
    with contextlib.closing(sqlite3.connect(tmp_path / "model.db", isolation_level=None)) as other:
        monkeypatch.setattr(subjects, "LOCK_TIMEOUT_S", 0)
        other.execute("BEGIN EXCLUSIVE")
        locked = Answers(tmp_path / "model.db")
        locked["asked"] = "answer"
        assert locked == {"asked": "answer"}
        assert "warning: answers are not kept" in capsys.readouterr().err
    answers["asked"] = "another"
    assert Answers(tmp_path / "model.db") == {"asked": "another"}


def test_a_full_disk_ends_the_work_and_keeps_the_answers_before(tmp_path):
    answers = Answers(tmp_path / "model.db")
    answers["asked"] = "answer"
    pages = answers._connection.execute("PRAGMA page_count").fetchone()[0]
    answers._connection.execute(f"PRAGMA max_page_count = {pages}")  # SQLite then says that the disk is full
    with pytest.raises(DiskError, match=f"^{tmp_path}: .* is full; what was answered before is kept"):
        answers["another"] = "long " * 10_000
    assert Answers(tmp_path / "model.db") == {"asked": "answer"}


@pytest.mark.parametrize("text", [b"\xff", b"3", b'{"a": 1}', b'[{"name": "x"}]', b"[[1]]"])
def test_damaged_metrics_are_measured_again(text):
    task = PromptTask("niah_single_1", 512, needle_items(), ["generated"])
    kept = task.measure(Reader(of_needle), lambda label, work, make: np.frombuffer(text, np.uint8))
    assert kept == task.measure(Reader(of_needle), at_once)


def test_damaged_losses_are_measured_again():
    ids = np.array([[97 + i % 26 for i in range(65)]])
    task = long_text.LongText(ids, long_text.key_tokens(ids, lambda: Alphabet(30), "alphabet"))
    assert task.measure(Alphabet(32), lambda label, work, make: np.zeros(3)) == task.measure(Alphabet(32), at_once)


class Alphabet:
    """A model of bytes that is sure of the next letter of the alphabet, and of what follows after `far` tokens."""

    device = torch.device("cpu")

    def __init__(self, known_after):
        self.known_after = known_after

    def _model_call(self, tokens):
        logits = torch.zeros(1, tokens.shape[1], 256)
        later = torch.arange(tokens.shape[1]) >= self.known_after
        following = (tokens[0] - 97 + 1) % 26 + 97
        logits[0, later, following[later]] = 20.0
        return logits


def test_key_tokens_are_those_that_only_a_long_context_predicts():
    ids = np.array([[97 + i % 26 for i in range(65)]])
    keys = long_text.key_tokens(ids, lambda: Alphabet(30), "alphabet")(at_once)
    assert keys[0].nonzero()[0].tolist() == [*range(30, 64)]
    assert not long_text.key_tokens(ids, lambda: Alphabet(0), "alphabet")(at_once).any()


def test_a_short_context_has_a_quarter_of_the_window_and_up_to_a_quarter_of_that_more_as_in_the_papers_code():
    ids = np.array([[97 + i % 26 for i in range(65)]])
    # A context of 16 tokens and more begins at each fourth token, but of 18 tokens and more the next one is known.
    keys = long_text.key_tokens(ids, lambda: Alphabet(17), "alphabet")(at_once)
    preceding = {token: token - 4 * ((token - 16) // 4) for token in range(20, 65)}
    assert [token for token, count in preceding.items() if count < 18] == (keys[0].nonzero()[0] + 1).tolist()


def test_loss_of_long_texts_by_key_tokens_and_by_position():
    ids = np.array([[97 + i % 26 for i in range(65)]])
    task = long_text.LongText(ids, long_text.key_tokens(ids, lambda: Alphabet(30), "alphabet"))
    metrics = task.measure(Alphabet(32), at_once)
    by_position = {metric.length: metric.sums[0] / metric.counts[0] for metric in metrics if metric.name[:3] == "pos"}
    chance = np.log(256)
    assert by_position == pytest.approx({16: chance, 32: chance, 64: 0}, abs=1e-5)
    assert values(metrics)["key_loss"] == pytest.approx(2 / 34 * chance, abs=1e-5)
    assert values(metrics)["loss"] == pytest.approx(chance / 2, abs=1e-5)


def test_the_first_item_of_long_texts_has_its_key_tokens_found():
    ids = np.array([[97 + i % 26 for i in range(65)]] * 2)
    first, alone = (
        long_text.LongText(windows, long_text.key_tokens(windows, lambda: Alphabet(30), "alphabet"))
        for windows in (ids, ids[:1])
    )
    assert first.first_item().measure(Alphabet(32), at_once) == alone.measure(Alphabet(32), at_once)
    assert first.measure(Alphabet(32), at_once) != alone.measure(Alphabet(32), at_once)


def test_windows_are_of_texts_that_are_long_enough(tmp_path):
    (tmp_path / "long.txt").write_text("a" * 100)
    (tmp_path / "short.txt").write_text("b" * 10)
    tokenizer = lambda text: SimpleNamespace(input_ids=list(text.encode()))  # noqa: E731
    windows = long_text.windows_of(tokenizer, 20, 3, 0, str(tmp_path / "*.txt"))
    assert windows.shape == (3, 21)
    assert (windows == 97).all()
    with pytest.raises(ValueError, match="files must contain a text of at least 201 tokens"):
        long_text.windows_of(tokenizer, 200, 3, 0, str(tmp_path / "*.txt"))
