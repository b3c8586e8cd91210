"""Checks that every encoding must pass, as one callable for people who write their own: `check_encoding(MyEncoding)`.

Like scikit-learn's `check_estimator`, it builds the encoding, here into small attention layers and decoders, and checks
everything that the laboratory relies on. The formula itself needs a test against an independent implementation.
"""

from __future__ import annotations

from collections.abc import Callable

from poslab.encodings import EncodingFactory, TemperatureFactory
from poslab.testing import axes, precision, routes
from poslab.testing.subject import Subject

__all__ = ["CHECKS", "Subject", "check_encoding"]

CHECKS: dict[str, Callable[[Subject], None]] = {
    name: claim
    for claims in (routes, precision, axes)
    for name, claim in vars(claims).items()
    if name.startswith("check_")
}
"""Checks by name."""


def check_encoding(encoding: EncodingFactory, *, temperature: TemperatureFactory | None = None, **sizes: int) -> None:
    """Raise AssertionError at the first check that an encoding fails; the traceback names the check.

        check_encoding(partial(MyEncoding, rate=0.5))

    The checks are the functions of this package whose names start with `check_`, each with its own sentence.

    Args:
        encoding: the class, a partial of it with hyperparameters, or a pattern. Give hyperparameters whose effect shows
            in 20 tokens, such as a training length of 8 for an encoding that changes past its training length.
        temperature: temperature to check around it; None for none.
        sizes: sizes of the small stack, where it needs others than d_model=32, num_layers=2, num_heads=4,
            num_kv_heads=2, head_dim=8.
    """
    subject = Subject(encoding, temperature, sizes)
    for check in CHECKS.values():
        check(subject)
