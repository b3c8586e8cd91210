"""A linear classifier of frozen vectors: how much of a property can be read from them.

Dimension letters: N texts, M model dim, C classes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax


def fitted_probe(vectors_NM: np.ndarray, classes_N: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from vectors to the numbers of their classes, by logistic regression.

        minimise over W, b   sum over i of  -log softmax(W z_i + b)[c_i]  +  |W|^2 / 2

    z_i are the vectors with a mean of 0 and a spread of 1 in each dimension. The minimum is unique, but for one number
    that may be added to all of b and changes no class, so that the result is a function of the vectors alone.

    Args:
        vectors_NM: of the texts to learn from, float.
        classes_N: their classes, int, 0 to C - 1.
    """
    mean_M, spread_M = vectors_NM.mean(0), vectors_NM.std(0)
    scale_M = np.where(spread_M > 0, spread_M, 1.0)

    def standardised(own_NM: np.ndarray) -> np.ndarray:
        """Return standardised vectors with a column of ones for b, (N, M + 1)."""
        z_NM = (own_NM - mean_M) / scale_M
        return np.concatenate([z_NM, np.ones((len(z_NM), 1))], axis=1)

    z_NM, num_classes = standardised(vectors_NM), int(classes_N.max()) + 1
    actual_NC = np.eye(num_classes)[classes_N]

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weight_MC = flat.reshape(z_NM.shape[1], num_classes)
        penalised_MC = weight_MC.copy()
        penalised_MC[-1] = 0
        log_p_NC = log_softmax(z_NM @ weight_MC, axis=1)
        loss = -(actual_NC * log_p_NC).sum() + (penalised_MC**2).sum() / 2
        return loss, (z_NM.T @ (np.exp(log_p_NC) - actual_NC) + penalised_MC).ravel()

    start = np.zeros(z_NM.shape[1] * num_classes)
    found = minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": 1000})
    weight_MC = found.x.reshape(z_NM.shape[1], num_classes)
    return lambda own_NM: (standardised(own_NM) @ weight_MC).argmax(1)
