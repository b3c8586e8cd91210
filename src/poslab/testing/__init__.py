"""What every encoding keeps, as one callable for people who write their own: `check_encoding(MyEncoding)`.

As scikit-learn's `check_estimator` does, it builds the encoding, here into small attention layers and decoders, and
asks of it everything that the rest of the laboratory relies on. It knows nothing of what the encoding computes: that it
is the paper's is for a test against an independent implementation to show.
"""

from __future__ import annotations

from collections.abc import Callable

from poslab.encodings import EncodingFactory, TemperatureFactory
from poslab.testing import parameters, precision, routes, texts
from poslab.testing.subject import Subject

__all__ = ["CHECKS", "Subject", "check_encoding"]

CHECKS: dict[str, Callable[[Subject], None]] = {
    name: claim
    for claims in (routes, texts, precision, parameters)
    for name, claim in vars(claims).items()
    if name.startswith("check_")
}
"""The claims, each by its name."""


def check_encoding(encoding: EncodingFactory, *, temperature: TemperatureFactory | None = None, **sizes: int) -> None:
    """Raises AssertionError, with the name of the claim, for the first thing that an encoding does not keep.

        check_encoding(partial(MyEncoding, rate=0.5))

    The claims are the functions of this package whose names begin with `check_`, each with its own sentence.

    Args:
        encoding: the class, a partial of it with hyperparameters, or a pattern. Give hyperparameters under which 20
            tokens show what it does: a training length of 8 where something changes past the training length.
        temperature: a temperature to be checked around it; None is without.
        sizes: of the small stack that it is built into, where it needs others than d_model=32, num_layers=2,
            num_heads=4, num_kv_heads=2, head_dim=8.
    """
    for check in CHECKS.values():
        check(Subject(encoding, temperature, sizes))
