"""A linear probe is a logistic regression whose minimum is unique."""

import numpy as np
import torch

from poslab.evaluation.embeddings.linear_probe import fitted_probe


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
