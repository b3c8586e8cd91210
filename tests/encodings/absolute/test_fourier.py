import math
from functools import partial

import pytest
import torch

from poslab.encodings import Positions
from poslab.encodings.absolute.fourier import Fourier
from poslab.testing import CHECKS, Subject

COMPONENTS = {"sine": math.sin, "cosine": math.cos, "product": lambda angle: math.sin(angle) * math.cos(angle)}


def table(positions: Positions, width: int = 32, **hyperparameters) -> torch.Tensor:
    """The vectors that are added to embeddings of zero, (T, M)."""
    return Fourier(width, **hyperparameters).embed(torch.zeros(1, positions.length, width), positions)[0]


@pytest.mark.parametrize("components", COMPONENTS)
@pytest.mark.parametrize(("length", "width"), [(8, 32), (100, 24), (40, 64)])
@pytest.mark.parametrize("start", [0, 10**6])
def test_channels_are_the_harmonics_of_the_length_wherever_the_text_begins(components, length, width, start):
    ours = table(Positions.range(2 * length, start), width, length=length, components=components)
    for p in range(2 * length):
        for i in range(width):
            # An exact fraction of a turn: 2 pi (i + 1) p / L itself has lost digits at p = 10 ** 6, also in float64.
            turns = (i + 1) * (start + p) % length / length
            assert float(ours[p, i]) == pytest.approx(COMPONENTS[components](2 * math.pi * turns), abs=1e-5)


@pytest.mark.parametrize("components", COMPONENTS)
def test_real_positions_have_harmonics_too(components):
    ids = [0.25, 3.5, -1.75, 90.125]
    ours = table(Positions(torch.tensor(ids), stop=91), 16, length=10, components=components)
    expected = [[COMPONENTS[components](2 * math.pi * (i + 1) * p / 10) for i in range(16)] for p in ids]
    torch.testing.assert_close(ours, torch.tensor(expected), rtol=0, atol=1e-5)


@pytest.mark.slow
def test_fourier_that_repeats_keeps_every_claim_but_that_of_distinct_positions():
    for length in (8, 512):
        subject = Subject(partial(Fourier, length=length))
        for name, check in CHECKS.items():
            if name != "check_low_precision_loses_no_position":
                check(subject)
