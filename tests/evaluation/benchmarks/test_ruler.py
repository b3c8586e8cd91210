import hashlib
import json
import random
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from poslab.evaluation.benchmarks.prompts import only_needles, without_needles
from poslab.evaluation.benchmarks.ruler import HAVE_DEPTH, NEED_ANSWERS, NEED_TEXT, TASKS, ruler_items

# The harness sorts six million pairs of words when its needles are imported.
pytestmark = [pytest.mark.needs("lm_eval", "wonderwords", "nltk"), pytest.mark.slow]

LENGTH = 3000

# sha256 of the prompts that NVIDIA/RULER writes at c3f5e3b4 with the words of wonderwords 3: two for each of the seeds
# 1, 2 and 42, at 3,000 bytes and at 4,096 words and punctuation marks.
NVIDIA = {
    "niah_single_1": ("8acd2eac194109c7", "4f0cc6b5c6152e9f"),
    "niah_multikey_2": ("12920349c30e8f2d", "638acb27642a70ab"),
    "niah_multikey_3": ("8b50bffd80d99b51", "5b1138ac235ecd33"),
    "cwe": ("e6d564cc06209c6e", "0b1e38b6f0b8dd26"),
    "fwe": ("17f8b713cebcdbf1", "d7d56ef00fab16ef"),
}


@pytest.fixture(scope="module")
def tokenizer():
    """Every byte is a token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    library = Tokenizer(models.BPE(vocab={byte: i for i, byte in enumerate(alphabet)}, merges=[]))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    library.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=library)


@pytest.fixture(scope="module")
def of_words():
    """A tokenizer to which every word and every group of punctuation marks is a token."""
    library = Tokenizer(models.WordLevel(vocab={"?": 0}, unk_token="?"))
    library.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=library, unk_token="?")


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """The arguments that name a text of 300 sentences, and three articles of two paragraphs with two questions each."""
    folder = tmp_path_factory.mktemp("own")
    articles = [
        {
            "title": f"Town {i}",
            "paragraphs": [
                {
                    "context": f"Town {i} has {10 * i + j} bridges over the river.",
                    "qas": [
                        {"question": f"Bridges of {i}?", "answers": [{"text": f"{10 * i + j}", "answer_start": 11}]},
                        {"question": "Towers?", "answers": []},
                    ],
                }
                for j in (1, 2)
            ],
        }
        for i in range(1, 4)
    ]
    (folder / "questions.json").write_text(json.dumps({"data": articles}))
    text, answers = (
        {"text": " ".join(f"Sentence {i} is short." for i in range(300))},
        {"answers": str(folder / "questions.json")},
    )
    return dict.fromkeys(NEED_TEXT, text) | dict.fromkeys(NEED_ANSWERS, answers)


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """Fails a test that opens a connection, also where the error is caught, as `nltk.download` does."""
    opened = []

    def refuse(*arguments, **_):
        opened.append(arguments)
        raise OSError("a test opens a connection")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    yield
    assert not opened


@pytest.mark.parametrize("task", TASKS)
def test_items_depend_on_the_seed_alone(task, tokenizer, own):
    items = ruler_items(task, tokenizer, LENGTH, 2, seed=1, **own.get(task, {}))
    random.random()
    np.random.rand()
    assert ruler_items(task, tokenizer, LENGTH, 2, seed=1, **own.get(task, {})) == items
    assert ruler_items(task, tokenizer, LENGTH, 2, seed=2, **own.get(task, {})) != items


@pytest.mark.parametrize("task", TASKS)
def test_prompt_and_answer_fit_the_length_and_the_prompt_contains_the_answer(task, tokenizer, own):
    for item in ruler_items(task, tokenizer, LENGTH, 2, **own.get(task, {})):
        prompt = len(f"{item['input']} {item['gen_prefix']}".encode())
        assert prompt + 30 <= item["length"] <= item["max_length"] == LENGTH
        assert all(output in item["input"] for output in item["outputs"])


def test_a_text_without_spaces_is_hay_too(tokenizer):
    (item,) = ruler_items("niah_single_2", tokenizer, 4096, 1, text="天地玄黄" * 5000)
    assert 2048 < item["length"] <= 4096


@pytest.mark.parametrize("task", TASKS)
def test_the_harness_scores_a_perfect_answer_100_and_an_empty_one_0(task, tokenizer, own):
    from lm_eval.tasks.ruler.common_utils import process_results

    (item,) = ruler_items(task, tokenizer, LENGTH, 1, **own.get(task, {}))
    assert process_results(item, [" and ".join(item["outputs"])])[str(LENGTH)] == 1
    assert process_results(item, [""])[str(LENGTH)] == 0


@pytest.mark.parametrize("task", TASKS)
def test_a_short_length_is_one_sentence_that_names_a_length_which_is_long_enough(task, tokenizer, own):
    arguments = own.get(task, {})
    with pytest.raises(ValueError, match=rf"^task={task} needs a length of at least \d+ tokens .*, got 100$") as error:
        ruler_items(task, tokenizer, 100, 1, **arguments)
    least = int(str(error.value).split("at least ")[1].split()[0])
    assert len(ruler_items(task, tokenizer, least, 1, **arguments)) == 1


@pytest.mark.parametrize("task", ["niah_single_1", "cwe", "fwe"])
def test_the_global_random_generators_go_on_as_before(task, tokenizer):
    random.seed(3)
    np.random.seed(3)
    expected = random.random(), np.random.rand()
    random.seed(3)
    np.random.seed(3)
    ruler_items(task, tokenizer, LENGTH, 1)
    assert (random.random(), np.random.rand()) == expected


@pytest.mark.parametrize("task", NVIDIA)
def test_prompts_are_those_of_nvidias_code(task, tokenizer, of_words):
    if not version("wonderwords").startswith("3."):
        pytest.skip("other versions have other words")
    for expected, (counter, length) in zip(NVIDIA[task], [(tokenizer, 3000), (of_words, 4096)], strict=True):
        items = [item for seed in (1, 2, 42) for item in ruler_items(task, counter, length, 2, seed)]
        prompts = "\n".join(f"{item['input']} {item['gen_prefix']}" for item in items)
        assert hashlib.sha256(prompts.encode()).hexdigest().startswith(expected)


def test_the_harness_takes_the_items_as_a_custom_dataset(tokenizer):
    from datasets import Dataset
    from lm_eval.api.task import ConfigurableTask

    items = ruler_items("vt", tokenizer, LENGTH, 2)
    task = ConfigurableTask(
        config={
            "task": "own_vt",
            "custom_dataset": lambda **_: {"test": Dataset.from_list(items)},
            "output_type": "generate_until",
            "test_split": "test",
            "doc_to_text": "{{input}}",
            "doc_to_target": "{{outputs}}",
            "gen_prefix": "{{gen_prefix}}",
        }
    )
    task.build_all_requests()
    prompts = [request.args[0] for request in task.instances]
    assert prompts == [f"{item['input']} {item['gen_prefix']}" for item in items]


@pytest.mark.parametrize(("task", "kinds"), [("niah_single_1", "words numbers"), ("niah_multikey_3", "uuids uuids")])
def test_needles_begin_their_answer_as_the_harness_does(task, kinds, tokenizer):
    from lm_eval.tasks.ruler import niah_utils, prepare_niah

    hay = "repeat" if task == "niah_single_1" else "needle"
    key, value = kinds.split()
    random.seed(5)
    (item,) = prepare_niah.generate_samples(
        prepare_niah.get_haystack(type_haystack=hay), tokenizer, max_seq_length=LENGTH, type_haystack=hay,
        type_needle_k=key, type_needle_v=value, template=niah_utils.TEMPLATE, num_samples=1
    )  # fmt: skip
    (ours,) = ruler_items(task, tokenizer, LENGTH, 1)
    [key_of_ours] = {line.split(" for ")[1].split(" mentioned")[0] for line in [ours["gen_prefix"]]}
    [key_of_item] = {line.split(" for ")[1].split(" mentioned")[0] for line in [item["gen_prefix"]]}
    assert ours["gen_prefix"] == item["gen_prefix"].replace(key_of_item, key_of_ours)
    assert set(ours) >= set(item)


def test_own_text_and_own_questions_are_named(tokenizer, own):
    (needle,) = ruler_items("niah_multiquery", tokenizer, LENGTH, 1, **own["niah_multiquery"])
    assert needle["form"] == "RULER form, own text"
    assert len(needle["outputs"]) == 4
    assert "Sentence 1 is short." in needle["input"]
    (question,) = ruler_items("qa_squad", tokenizer, LENGTH, 1, **own["qa_squad"])
    assert question["form"] == "RULER form, own questions"
    (plain,) = ruler_items("niah_single_1", tokenizer, LENGTH, 1)
    assert plain["form"] == "RULER"


def test_a_questions_document_comes_with_others_of_its_article_first(tokenizer, own):
    most = 600
    for item in ruler_items("qa_squad", tokenizer, most, 3, **own["qa_squad"]):
        article = item["input"].rpartition("Bridges of ")[2][0]
        assert item["input"].count(f"Town {article} has") == 2


def variables_of(question: str, lines: list[str]) -> set[str]:
    """Follow assignments from the value that a question of vt names."""
    reached = {question.split("value ")[1].split(",")[0]}
    for line in lines:
        name, _, value = line.removeprefix("VAR ").strip().partition(" = ")
        if value.removeprefix("VAR ") in reached:
            reached.add(name)
    return {name for name in reached if name.isalpha()}


def test_needles_of_variable_tracking_are_its_chain(tokenizer):
    for item in ruler_items("vt", tokenizer, LENGTH, 3):
        assert variables_of(item["gen_prefix"], item["needles"]) == {*item["outputs"]}
        assert "VAR" not in without_needles(item).rpartition("hidden in")[2]
        assert all(item["input"].count(needle) == 1 for needle in item["needles"])


@pytest.mark.parametrize("task", [task for task in TASKS if task.startswith("niah")])
def test_needles_of_a_haystack_are_its_sentences_on_the_keys_of_the_question(task, tokenizer, own):
    for item in ruler_items(task, tokenizer, LENGTH, 3, **own.get(task, {})):
        keys = item["gen_prefix"].split(" for ")[1].split(" mentioned")[0].replace(", and ", ", ").split(", ")
        sentences = [s for key in keys for s in re.findall(rf"One of the [^:]* for {key} is: [^.]*\.", item["input"])]
        assert sorted(item["needles"]) == sorted(sentences)
        assert sorted(s.rpartition(" ")[2][:-1] for s in sentences) == sorted(item["outputs"])


@pytest.mark.parametrize("task", [*(task for task in TASKS if task.startswith("niah")), "vt", *NEED_ANSWERS])
def test_a_prompt_without_needles_lacks_the_answer_and_one_of_needles_lacks_the_hay(task, tokenizer, own):
    (item,) = ruler_items(task, tokenizer, LENGTH, 1, **own.get(task, {}))
    start, end = item["hay"]
    head, tail = item["input"][:start], item["input"][end:]
    without, only = without_needles(item), only_needles(item)
    for text in (without, only):
        assert text.startswith(head)
        assert text.endswith(tail)
    hay = without[len(head) : -len(tail)]
    assert not any(output in re.split(r"\W+", hay) for output in item["outputs"])
    assert len(hay.split()) == len(item["input"][start:end].split()) - sum(len(n.split()) for n in item["needles"])
    assert only[len(head) : -len(tail)].split() == [word for needle in item["needles"] for word in needle.split()]


@pytest.mark.parametrize("task", ["cwe", "fwe"])
def test_tasks_that_aggregate_have_no_needles_and_no_wrong_answers(task, tokenizer):
    (item,) = ruler_items(task, tokenizer, LENGTH, 1)
    assert item["needles"] == item["distractors"] == []
    assert without_needles(item) == only_needles(item) == item["input"]


@pytest.mark.parametrize("task", [*(task for task in TASKS if task.startswith("niah")), "vt"])
def test_wrong_answers_have_the_form_of_the_right_one(task, tokenizer, own):
    (item,) = ruler_items(task, tokenizer, LENGTH, 1, **own.get(task, {}))
    forms = [re.sub(r"[0-9a-f]" if "-" in o else r"\d" if o.isdigit() else r"[A-Z]", "x", o) for o in item["outputs"]]
    assert len(item["distractors"]) == 3
    for wrong in item["distractors"]:
        assert not {*wrong} & {*item["outputs"]}
        assert [len(value) for value in wrong] == [len(form) for form in forms]
    in_prompt = [value in item["input"] for wrong in item["distractors"] for value in wrong]
    assert all(in_prompt) if task.startswith("niah_multikey") else not any(in_prompt)


@pytest.mark.parametrize("task", HAVE_DEPTH)
def test_a_depth_moves_the_needle_and_nothing_else(task, tokenizer, own):
    places, keys = [], set()
    for depth in (0, 0.5, 1):
        (item,) = ruler_items(task, tokenizer, LENGTH, 1, depth=depth, **own.get(task, {}))
        start, end = item["hay"]
        places.append((item["input"].index(item["needles"][0]) - start) / (end - start))
        keys.add((item["gen_prefix"], *item["outputs"]))
    assert len(keys) == 1
    assert places[0] < 0.001
    assert places[1] == pytest.approx(0.5, abs=0.07)
    assert places[2] > 0.8


def test_two_threads_make_the_same_prompts_as_one(tokenizer):
    alone = [ruler_items("niah_single_1", tokenizer, LENGTH, 2, seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        together = pool.map(lambda seed: ruler_items("niah_single_1", tokenizer, LENGTH, 2, seed), range(4))
        assert list(together) == alone


def test_more_items_than_questions_are_refused(tokenizer, own):
    with pytest.raises(ValueError, match="at least 7 questions with an answer, got 6"):
        ruler_items("qa_squad", tokenizer, LENGTH, 7, **own["qa_squad"])
