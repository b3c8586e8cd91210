import json
import re
from types import SimpleNamespace

import pytest

from poslab.data.retrieval_prompts import BABILONG, HAVE_DEPTH, MRCR, TASKS, answer_text
from poslab.evaluation.benchmarks.forms import form_items, mrcr_score
from poslab.evaluation.benchmarks.prompts import only_needles, without_needles

LENGTH = 6000


def of_bytes(text):
    return SimpleNamespace(input_ids=list(text.encode()))


def of_words(text):
    return SimpleNamespace(input_ids=[101, *re.findall(r"\w+|[^\w\s]", text)])


def solve_json(text):
    """Return the value that a prompt of json_kv asks for; None if its object does not have the key."""
    return json.loads(text[text.index("{") : text.rindex("}") + 1]).get(text.split('key "')[-1].split('"')[0])


def solve_conversation(text):
    """Return the answer to the last request of a prompt of MRCR; None if there are too few earlier ones."""
    code, ordinal, request = re.findall(r"Prepend (\w+) to the (\w+) (\w+ about \w+)\.", text)[0]
    answers = re.findall(rf"User: Write a {request}\.\nAssistant: ((?:.+\n)+)", text)
    number = ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth"].index(ordinal)
    return code + answers[number].rstrip("\n") if number < len(answers) else None


def solve_story(text):
    """Follow the people of a prompt of BABILong; return the place that is asked for, or None."""
    people, owner, history = {}, {}, {}
    where = r"went to|moved to|journeyed to|travelled to"
    take, leave = r"picked up|got|took|grabbed", r"put down|dropped|left|discarded"
    for person, verb, name in re.findall(rf"(\w+) ({where}|{take}|{leave}) the (\w+)\.", text):
        if re.fullmatch(where, verb):
            people[person] = name
            history.setdefault(person, []).append(name)
        elif re.fullmatch(take, verb):
            owner[name] = person
        else:
            owner.pop(name, None)
        for thing, holder in owner.items():
            seen = history.setdefault(thing, [])
            if seen[-1:] != [people.get(holder)]:
                seen.append(people.get(holder))
    question = text.rpartition("\n")[2]
    if before := re.fullmatch(r"Where was the (\w+) before it was in the (\w+)\?", question):
        seen = history.get(before[1], [])
        return seen[seen.index(before[2]) - 1] if before[2] in seen[1:] else None
    return history.get(re.fullmatch(r"Where is (?:the )?(\w+)\?", question)[1], [None])[-1]


def solve_key(text):
    """Return the pass key; None without one."""
    return next(iter(re.findall(r"The pass key is (\d+)\. Remember it\.", text)), None)


def solve_recall(text):
    """Return the number of the last thing of a prompt of mqar, from the sentence before; None without one."""
    statements, _, name = text.rpartition("The number of ")
    return next(iter(re.findall(rf"The number of {name} (\d+)\.", statements)), None)


def solve_variables(text):
    """Return the variables of a value, in the order in which they come to it."""
    value = re.search(r"have the value (\d+)\?", text)[1]
    values = {}
    for name, source in re.findall(r"VAR (\w+) = (?:VAR )?(\w+)\.", text):
        values[name] = values.get(source, source)
    return [name for name in values if values[name] == value]


SOLVERS = {"passkey": solve_key, "mqar": solve_recall, "variables": solve_variables, "json_kv": solve_json}
SOLVERS |= dict.fromkeys(MRCR, solve_conversation) | dict.fromkeys(BABILONG, solve_story)


def solve(task, text, prefix):
    """Return the outputs that a prompt determines."""
    answer = SOLVERS[task](f"{text} {prefix}" if task == "mqar" else text)
    return answer if isinstance(answer, list) else [answer]


@pytest.mark.parametrize("task", TASKS)
def test_a_prompt_has_one_answer_which_its_needles_alone_decide(task):
    for item in form_items(task, of_words, LENGTH, 20):
        assert solve(task, item["input"], item["gen_prefix"]) == item["outputs"]
        assert solve(task, only_needles(item), item["gen_prefix"]) == item["outputs"]
        assert not {*solve(task, without_needles(item), item["gen_prefix"])} & {*item["outputs"]}
        assert all(item["input"].count(needle) == 1 for needle in item["needles"])
        assert 1 <= len(item["distractors"]) <= 3
        assert not any(wrong == item["outputs"] for wrong in item["distractors"])


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("tokenizer", [of_bytes, of_words])
def test_prompts_fill_the_length_and_leave_room_for_the_longest_answer(task, tokenizer):
    for item in form_items(task, tokenizer, LENGTH, 5):
        prompt = len(tokenizer(f"{item['input']} {item['gen_prefix']}").input_ids)
        answers = [answer_text(task, outputs) for outputs in (item["outputs"], *item["distractors"])]
        longest = max(len(tokenizer(answer).input_ids) for answer in answers)
        assert prompt + longest == item["length"] <= item["max_length"] == LENGTH
        piece = max(item["input"][slice(*item["hay"])].split("User:" if task in MRCR else "\n"), key=len)
        of_sentences = (*BABILONG, "passkey", "mqar", "variables")
        assert item["length"] > LENGTH - (200 if task in of_sentences else 2 * len(tokenizer(piece).input_ids))


@pytest.mark.parametrize("task", TASKS)
def test_items_depend_on_the_seed_and_differ(task):
    items = form_items(task, of_words, LENGTH, 3, seed=1)
    assert form_items(task, of_words, LENGTH, 2, seed=1) == items[:2]
    assert len({item["input"] for item in items}) == 3
    assert form_items(task, of_words, LENGTH, 3, seed=2)[0]["input"] != items[0]["input"]


@pytest.mark.parametrize("task", TASKS)
def test_a_short_length_is_one_sentence_that_names_the_least_one(task):
    with pytest.raises(ValueError, match=rf"^task={task} needs a length of at least \d+ tokens .*, got 20$") as error:
        form_items(task, of_words, 20, 3)
    least = int(str(error.value).split("at least ")[1].split()[0])
    assert len(form_items(task, of_words, least, 3)) == 3
    with pytest.raises(ValueError, match="at least"):
        form_items(task, of_words, least - 1, 3)


@pytest.mark.parametrize("task", HAVE_DEPTH)
def test_a_depth_is_the_share_of_the_hay_before_the_needle(task):
    for depth in (0, 0.25, 0.5, 1):
        (item,) = form_items(task, of_words, LENGTH, 1, depth=depth)
        start, end = item["hay"]
        before, _, after = item["input"][start:end].partition(item["outputs"][0][10 if task in MRCR else 0 :])
        assert len(before) / (len(before) + len(after)) == pytest.approx(depth, abs=0.03)
        assert solve(task, item["input"], item["gen_prefix"]) == item["outputs"]


@pytest.mark.parametrize(("task", "count"), [(task, int(task[-1])) for task in (*MRCR, *BABILONG)])
def test_the_number_of_needles_is_that_of_the_name(task, count):
    assert all(len(item["needles"]) == count for item in form_items(task, of_words, LENGTH, 5))


def test_facts_are_hidden_in_own_text_without_the_names_of_their_people():
    text = "A sentence of mine. Mary went to the moon. Is it? " + "word " * 100
    for item in form_items("babilong_qa2", of_words, LENGTH, 3, text=text):
        assert item["form"] == "BABILong form, own facts and text"
        assert "A sentence of mine." in item["input"]
        assert "moon" not in item["input"]
        assert [solve_story(item["input"])] == item["outputs"]
    assert form_items("babilong_qa2", of_words, LENGTH, 1)[0]["form"] == "BABILong form, own facts and noise"
    with pytest.raises(ValueError, match=r"^files must contain sentences without the names Daniel"):
        form_items("babilong_qa1", of_words, LENGTH, 1, text="Mary is there. John sleeps.")


def test_the_score_of_mrcr_is_the_similarity_after_the_right_code():
    expected = "b7kx9mzpqrQuiet rivers"
    assert mrcr_score(expected, expected) == 1
    assert mrcr_score("Quiet rivers", expected) == 0
    assert mrcr_score(" " + expected, expected) == 0
    assert mrcr_score("b7kx9mzpqrQuiet", expected) == pytest.approx(2 * 5 / (5 + 12))


def test_no_wrong_answer_is_a_place_that_the_question_names():
    for item in form_items("babilong_qa3", of_words, LENGTH, 20):
        question = item["input"].rpartition("\n")[2]
        assert not any(place in question for (place,) in item["distractors"])
