"""Sentence vectors, texts found by a pass key, and a linear probe."""

import numpy as np
import pytest
import torch

from poslab.data.tokenizers import ByteTokenizer
from poslab.evaluation.embeddings import fitted_probe, nearest_answers, passkey_texts, sentence_vectors
from poslab.models import Encoder
from tests.encoding_choices import small_model


def test_a_vector_is_the_mean_of_the_hidden_states_of_its_text_alone():
    model = small_model(Encoder, "t5")
    texts = [np.arange(length) % 7 for length in (5, 9, 5)]
    result = sentence_vectors(model, texts)
    for text, vector in zip(texts, result, strict=True):
        with torch.no_grad():
            mean = model.hidden_states(torch.from_numpy(text)[None])[0].mean(0)
        np.testing.assert_allclose(vector, (mean / mean.norm()).numpy(), atol=1e-5)


def test_a_text_is_found_if_it_is_nearer_than_all_others():
    questions = np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.0, 1.0]])
    texts = np.array([[1.0, 0.0], [0.0, 0.5], [0.0, 1.0], [0.0, 0.9]])
    assert nearest_answers(questions, texts).mean() == 0.5


def test_texts_have_their_length_and_hide_the_same_keys_at_every_length():
    tokenizer = ByteTokenizer()
    keys = []
    for length in (150, 400):
        questions, texts = passkey_texts(tokenizer, length, 5, seed=3)
        assert [len(text) for text in texts] == [length] * 5
        people = [tokenizer.decode(question).removeprefix("What is the pass key for ")[:-1] for question in questions]
        assert len(set(people)) == 5
        for person, text in zip(people, texts, strict=True):
            assert tokenizer.decode(text).count(f"{person}'s pass key is ") == 1
        keys.append([tokenizer.decode(text).split("pass key is ")[1][:5] for text in texts])
    assert keys[0] == keys[1]


def test_a_length_without_room_is_refused():
    with pytest.raises(ValueError, match=r"^lengths must .*got 20$"):
        passkey_texts(ByteTokenizer(), 20, 3, seed=0)


def test_the_probe_is_the_minimum_of_its_objective(rng):
    vectors, classes = rng.normal(size=(60, 5)), rng.integers(3, size=60)
    z = torch.from_numpy((vectors - vectors.mean(0)) / vectors.std(0))
    weight, bias = torch.zeros(5, 3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    parameters = [weight.requires_grad_(), bias.requires_grad_()]
    optimizer = torch.optim.LBFGS(parameters, max_iter=500, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

    def objective() -> torch.Tensor:
        optimizer.zero_grad()
        logits = z @ weight + bias
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(classes), reduction="sum")
        total = loss + weight.square().sum() / 2
        total.backward()
        return total

    optimizer.step(objective)
    others = rng.normal(size=(400, 5))
    expected = ((torch.from_numpy((others - vectors.mean(0)) / vectors.std(0)) @ weight) + bias).argmax(1)
    assert (fitted_probe(vectors, classes)(others) == expected.numpy()).mean() > 0.99


def test_what_a_dimension_holds_is_read_and_what_none_holds_is_not(rng):
    classes = rng.integers(3, size=300)
    vectors = rng.normal(size=(300, 8))
    assert (fitted_probe(vectors[:200], classes[:200])(vectors[200:]) == classes[200:]).mean() < 0.6
    vectors[:, 2] += 8.0 * classes
    assert (fitted_probe(vectors[:200], classes[:200])(vectors[200:]) == classes[200:]).mean() > 0.95


def test_scale_and_place_of_the_vectors_change_nothing(rng):
    vectors, classes, others = rng.normal(size=(50, 4)), rng.integers(2, size=50), rng.normal(size=(80, 4))
    constant = np.full((50, 1), 3.0)  # a dimension without spread
    plain = fitted_probe(vectors, classes)(others)
    moved = fitted_probe(np.hstack([1e-3 * vectors + 7, constant]), classes)
    np.testing.assert_array_equal(moved(np.hstack([1e-3 * others + 7, np.full((80, 1), 3.0)])), plain)
