"""A soft cap limits every logit smoothly, under any encoding."""

import pytest
import torch

from poslab.attention import Visibility, attend
from poslab.encodings import Alibi, NoPosition, Positions

CAP = 3.0


@pytest.mark.parametrize("encoding", [NoPosition(), Alibi(num_heads=4)])
@pytest.mark.parametrize("sinks", [None, torch.tensor([0.5, -1.0, 0.0, 2.0], dtype=torch.float64)])
def test_logits_and_biases_are_capped_before_the_softmax(encoding, sinks):
    torch.manual_seed(0)
    q, k, v = 3 * torch.randn(3, 2, 4, 9, 8, dtype=torch.float64)
    positions = Positions.range(9)
    tables = encoding.prepare(positions, positions)
    actual = attend(q, k, v, encoding, tables, Visibility(window=4), sinks_H=sinks, softcap=CAP)

    distance = torch.arange(9)[:, None] - torch.arange(9)
    logits = q @ k.transpose(-1, -2) * 8**-0.5
    if isinstance(encoding, Alibi):
        logits = logits - distance * torch.tensor([2**-2, 2**-4, 2**-6, 2**-8], dtype=torch.float64).view(4, 1, 1)
    logits = CAP * torch.tanh(logits / CAP)
    logits = logits.masked_fill((distance < 0) | (distance >= 4), -torch.inf)
    if sinks is not None:
        logits = torch.cat([logits, sinks.view(4, 1, 1).expand(2, 4, 9, 1)], dim=-1)
    torch.testing.assert_close(actual, logits.softmax(-1)[..., :9] @ v)


def test_a_route_without_logits_is_not_taken():
    q = torch.randn(1, 2, 4, 8)
    encoding, positions = NoPosition(), Positions.range(4)
    with pytest.raises(ValueError, match=r"^attention must be auto, blockwise or dense under a soft cap, got flash"):
        attend(q, q, q, encoding, encoding.prepare(positions, positions), Visibility(), "flash", softcap=CAP)
