import pytest
import torch

from poslab.encodings import Positions, QueryRows
from poslab.encodings.bias.fire import Fire
from tests.encodings.agreement import assert_same


def bias(fire: Fire, queries: Positions, keys: Positions) -> torch.Tensor:
    return fire.pair_bias(QueryRows(fire.prepare(queries, keys), slice(None), 0, 1.0))


def loop(fire: Fire, query_ids: list, key_ids: list) -> torch.Tensor:
    """The formula query by query, key by key in float64, (H, T, S)."""
    names = {name: parameter.double() for name, parameter in fire.named_parameters()}
    c, threshold = names["c"], names["multiplier"] * fire.threshold
    rows = []
    for i in query_ids:
        row = []
        for j in key_ids:
            furthest = threshold if abs(float(threshold.detach())) > i else torch.tensor(float(i), dtype=torch.float64)
            share = torch.log((c * (i - j)).abs() + 1) / (torch.log((c * furthest).abs() + 1) + 1e-6)
            hidden = (names["hidden.weight"][:, 0] * share + names["hidden.bias"]).clamp_min(0)
            row.append(names["output.weight"] @ hidden)
        rows.append(torch.stack(row, dim=1))
    return torch.stack(rows, dim=1)


@pytest.mark.parametrize(
    ("query_ids", "key_ids"),
    [
        (list(range(12)), list(range(12))),
        ([11], list(range(12))),
        (list(range(1_000, 1_005)), list(range(996, 1_005))),
        ([0.3, 4.5, 9.9], [0.3, 4.5, 9.9]),
        ([3, 90, 7], [3, 90, 7]),
    ],
)
@pytest.mark.parametrize("threshold", [5.0, 512.0])
@pytest.mark.parametrize(("multiplier", "c"), [(1.1, 0.3), (-1.1, -0.3)])
def test_bias_and_gradients_are_those_of_a_loop(query_ids, key_ids, threshold, multiplier, c):
    fire = Fire(3, width=8, threshold=threshold)
    fire.multiplier.data.fill_(multiplier)
    fire.c.data.fill_(c)
    queries, keys = (Positions(torch.tensor(ids), 2_000) for ids in (query_ids, key_ids))
    assert_same(bias(fire, queries, keys)[0], loop(fire, query_ids, key_ids), list(fire.parameters()))


def test_up_to_the_threshold_it_is_relative_and_beyond_it_is_not():
    fire = Fire(2, threshold=50.0)
    near, shifted, far = (bias(fire, p, p) for p in (Positions.range(8, start) for start in (0, 40, 60)))
    torch.testing.assert_close(near, shifted)
    assert (near - far).abs().max() > 1e-3


def test_far_positions_keep_their_distances():
    """2 ** 24 + 1 is no float32; what c makes of the distance 1 from there is that of 1."""
    fire = Fire(2, threshold=1e9)
    far, near = Positions(torch.tensor([2**24, 2**24 + 1]), 2**24 + 2), Positions.range(2)
    torch.testing.assert_close(bias(fire, far, far), bias(fire, near, near))


def test_a_bfloat16_module_still_makes_a_float32_bias():
    fire = Fire(2).to(torch.bfloat16)
    assert bias(fire, Positions.range(4), Positions.range(4)).dtype == torch.float32
