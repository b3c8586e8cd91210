"""The split of examples into training and held-out ones, and the batches that are made of them."""

import numpy as np
import pytest
import torch
from hydra.utils import instantiate

from poslab.data.algorithmic.chomsky import ParityCheck, ReverseString
from poslab.data.algorithmic.examples import AlgorithmicExamples, Example, split_of
from poslab.data.algorithmic.length_generalization import Copy
from poslab.data.algorithmic.recall import FlipFlop
from poslab.data.batch import IGNORE
from poslab.data.run_data import RunData
from poslab.data.tokenizers import SymbolTokenizer
from poslab.tasks.answering import AnswersAtPositions, FilledBlanks, WrittenAnswers
from poslab.tasks.task import tasks
from tests.data.test_choices import CLASSES
from tests.training.runs import composed

TASKS = [name for name, cls in CLASSES.items() if cls is AlgorithmicExamples and name != "algorithmic"]


def source(task=None, **arguments) -> AlgorithmicExamples:
    defaults = {"train_lengths": [1, 12], "test_lengths": [4, 12, 30], "sequence_length": 100}
    return AlgorithmicExamples(task=task or ReverseString(), **defaults | arguments)


def test_no_two_splits_share_an_example():
    made = source(test_examples=400, batch_size=64)
    trained = {e.input for step in range(60) for e in made.training_examples(step, range(64))}
    held_out = {
        name: {e.input for n in (4, 12, 30) for e in made.held_out_examples(name, n)} for name in ("validation", "test")
    }
    assert len(trained) > 1000 and min(map(len, held_out.values())) > 400
    assert not trained & held_out["test"] and not trained & held_out["validation"]
    assert not held_out["test"] & held_out["validation"]


def test_a_tenth_of_all_inputs_is_for_test_and_a_tenth_for_validation():
    task, generator = ReverseString(), np.random.default_rng(0)
    splits = [split_of(task.example(30, generator)) for _ in range(4000)]
    assert splits.count("test") / 4000 == pytest.approx(0.1, abs=0.015)
    assert splits.count("validation") / 4000 == pytest.approx(0.1, abs=0.015)


def test_held_out_examples_are_all_different_and_the_same_for_every_seed():
    first, second = (source(seed=seed).held_out_examples("test", 12) for seed in (1, 2))
    assert first == second and len({e.input for e in first}) == len(first) == 256


def test_a_short_length_has_fewer_held_out_examples_and_none_twice():
    made = source(ParityCheck(), test_lengths=[3, 12])
    assert len({e.input for e in made.held_out_examples("test", 3)}) < 2**3


def test_a_training_example_is_a_function_of_seed_step_and_place():
    made = source(batch_size=8)
    whole = made.training_examples(5, range(8))
    assert made.training_examples(5, [6, 7]) == whole[6:]
    assert source(batch_size=8, seed=1).training_examples(5, range(8)) != whole
    assert made.training_examples(6, range(8)) != whole


def test_a_step_has_one_length_and_steps_have_all():
    made = source(batch_size=8)
    lengths = [{len(e.input) for e in made.training_examples(step, range(8))} for step in range(300)]
    assert set.union(*lengths) == set(range(1, 13))
    assert sum(len(found) > 1 for found in lengths) < 40  # where a length has too few examples for all of a batch


def test_the_first_batch_over_and_over():
    made = source(overfit=True)
    assert made.training_examples(0, range(4)) == made.training_examples(99, range(4))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"train_lengths": [5]}, "train_lengths.*and the longest"),
        ({"train_lengths": [9, 5]}, "train_lengths.*and the longest"),
        ({"test_lengths": []}, "test_lengths.*at least one"),
        ({"test_examples": 0}, "test_examples.*be a positive integer"),
        ({"batch_size": 0}, "batch_size.*be a positive integer"),
        ({"seed": -1}, "seed must.*of at least 0"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        source(**arguments)


def test_encodings_follow_the_longest_example_that_is_trained_on_unless_a_length_is_given():
    chosen = ("dataset=addition", "dataset.train_lengths=[1,5]", "encoding=learned")
    assert composed(*chosen)["dataset"]["sequence_length"] == 18  # 99999 + 99999 -> 199998
    assert composed(*chosen)["encoding"]["max_length"] == 18
    assert composed(*chosen, "dataset.sequence_length=30")["encoding"]["max_length"] == 30


def test_a_mistake_in_the_task_is_refused_before_its_length_is_worked_out():
    with pytest.raises(ValueError, match=r"^dataset\.task\.num_symbols must"):
        composed("dataset=reverse_string", "dataset.task.num_symbols=1")


def test_a_sequence_length_that_is_too_short_for_what_is_trained_on_is_refused():
    with pytest.raises(ValueError, match=r"^sequence_length must .*got 20"):
        source(sequence_length=20).check()


SYMBOLS = SymbolTokenizer(["a", "b", "c"])
EXAMPLES = [Example(("a", "b"), ("b", "a")), Example(("c",), ("c",))]


def test_a_decoder_reads_the_input_and_writes_the_output_and_its_end():
    batch = WrittenAnswers(Copy(), [1], SYMBOLS).collate(EXAMPLES, np.array([True, True]))
    ask, end, none = SYMBOLS.answer_id, SYMBOLS.end_id, IGNORE
    assert batch.tokens.tolist() == [[0, 1, ask, 1, 0], [2, ask, 2, end, 0]]
    assert batch.targets.tolist() == [[none, none, 1, 0, end], [none, 2, end, none, none]]


def test_an_encoder_tells_the_output_at_places_behind_the_input():
    batch = AnswersAtPositions(Copy(), [1], SYMBOLS).collate(EXAMPLES, np.array([True, False]))
    ask, none = SYMBOLS.answer_id, IGNORE
    assert batch.tokens.tolist() == [[0, 1, ask, ask], [2, ask, 0, 0]]
    assert batch.targets.tolist() == [[none, none, 1, 0], [none] * 4]
    assert batch.real.tolist() == [[True] * 4, [True, True, False, False]]


def test_a_decoder_fills_blanks_and_reads_those_before_filled_right():
    symbols = SymbolTokenizer(["0", "1", "w", "r", "i", "__"])
    examples = [
        Example(tuple(text.split()), tuple(output))
        for text, output in (("w 1 r __ i 0 r __", "11"), ("w 0 r __", "0"), ("w 1 r __", "1"))
    ]
    batch = FilledBlanks(FlipFlop(), [4], symbols).collate(examples, np.array([True, True, False]))
    none = IGNORE
    assert batch.tokens.tolist() == [[2, 1, 3, 1, 4, 0, 3], [2, 0, 3, 0, 0, 0, 0], [2, 1, 3, 1, 0, 0, 0]]
    assert batch.targets.tolist() == [[none, none, 1, none, none, none, 1], [none, none, 0, *[none] * 4], [none] * 7]
    assert batch.real.tolist() == [[True] * 7, [True] * 3 + [False] * 4, [True] * 3 + [False] * 4]
    assert [example.num_tokens for example in examples] == [7, 3, 3]


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_every_task_makes_batches_for_all_its_models(name):
    config = composed(f"dataset={name}")["dataset"]
    made: AlgorithmicExamples = instantiate(config, _convert_="all")
    made.check()
    data = RunData(made)
    data.setup()
    longest = 0
    for step in range(20):
        examples = made.training_examples(step, range(4))
        longest = max(longest, *(example.num_tokens for example in examples))
        for task in (task for task in tasks() if task.kind is made.kind):
            batch = task.of(data).collate(examples, np.ones(4, dtype=bool))
            assert batch.tokens.max() < data.vocab_size and (batch.targets != IGNORE).any(1).all()
            assert batch.tokens.dtype == torch.int64
    assert longest <= made.sequence_length
    assert data.lengths_of("test") == list(made.test_lengths)


def test_the_lengths_of_a_split_are_those_that_have_examples():
    made = source(Copy(num_words=2), train_lengths=[3, 8], test_lengths=[1, 2, 3, 8, 12])
    data = RunData(made)
    data.setup()
    for split in ("validation", "test"):
        with_examples = [length for length in made.test_lengths if data.splits.examples(split, length)]
        assert data.lengths_of(split) == with_examples
        assert 1 not in with_examples and 12 in with_examples


@pytest.mark.parametrize("trust", ["my_tasks", "[my_tasks]"])
def test_a_task_of_a_users_package_is_built_once_it_is_trusted(trust, tmp_path, monkeypatch):
    source = "from poslab.data.algorithmic.recall import Passkey\nclass Mine(Passkey):\n    pass\n"
    (tmp_path / "my_tasks.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    config = composed("dataset=algorithmic", "dataset.task._target_=my_tasks.Mine", f"trust={trust}")
    assert config["dataset"]["task"]["_target_"] == "my_tasks.Mine" and config["dataset"]["sequence_length"] > 1
