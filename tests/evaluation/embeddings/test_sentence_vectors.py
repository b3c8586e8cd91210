"""Sentence vectors, their likeness, and texts found by a pass key."""

import numpy as np
import pytest
import torch

from poslab.data.tokenizers import ByteTokenizer
from poslab.evaluation.embeddings.sentence_vectors import found_own, likeness, passkey_texts, sentence_vectors
from poslab.models import Encoder
from tests.encoding_choices import small_model


def test_a_vector_is_the_mean_of_the_hidden_states_of_its_text_alone():
    model = small_model(Encoder, "t5")
    texts = [np.arange(length) % 7 for length in (5, 9, 5)]
    found = sentence_vectors(model, texts)
    for text, vector in zip(texts, found, strict=True):
        with torch.no_grad():
            mean = model.hidden_states(torch.from_numpy(text)[None])[0].mean(0)
        np.testing.assert_allclose(vector, (mean / mean.norm()).numpy(), atol=1e-5)


def test_likeness_is_the_cosine_of_pairs_beside_that_of_different_texts():
    own = np.array([[1.0, 0.0], [0.6, 0.8]])
    its = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert likeness(own, its) == (pytest.approx(0.9), 0.0)


def test_a_text_is_found_if_it_is_nearer_than_all_others():
    questions = np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.0, 1.0]])
    texts = np.array([[1.0, 0.0], [0.0, 0.5], [0.0, 1.0], [0.0, 0.9]])
    assert found_own(questions, texts).mean() == 0.5


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
    with pytest.raises(ValueError, match=r"^lengths must be at least .* tokens for embeddings, got 20$"):
        passkey_texts(ByteTokenizer(), 20, 3, seed=0)
