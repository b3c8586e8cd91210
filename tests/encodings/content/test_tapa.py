import math

import pytest
import torch

from poslab.attention import Visibility, attend
from poslab.encodings import Positions, Tapa
from tests.encodings.agreement import HEAD_DIM, HEADS, KV_HEADS, assert_same, tensors


@pytest.mark.parametrize(("share", "alpha"), [(0.5, 0.1), (0.3, 0.5)])
@pytest.mark.parametrize(("num_queries", "num_keys"), [(7, 7), (3, 9)])
def test_attention_and_gradients_are_those_of_equation_12(share, alpha, num_queries, num_keys):
    key = (1, KV_HEADS, num_keys, HEAD_DIM)
    q, k, v = tensors((1, HEADS, num_queries, HEAD_DIM), key, key, dtype=torch.float64)
    encoding = Tapa(HEAD_DIM, share, alpha)
    queries, keys = Positions.range(num_queries, num_keys - num_queries), Positions.range(num_keys)
    ours = attend(q, k, v, encoding, encoding.prepare(queries, keys), Visibility(causal=False))
    amplitude, width = int(share * HEAD_DIM), HEAD_DIM - int(share * HEAD_DIM)
    rows = []
    for head in range(HEADS):
        for i in range(num_queries):
            logits = []
            for j in range(num_keys):
                query, other = q[0, head, i], k[0, head * KV_HEADS // HEADS, j]
                distance = abs(num_keys - num_queries + i - j)
                phase = query[amplitude:] @ other[amplitude:] / math.sqrt(width)
                turned = torch.cos(2 * math.pi * distance**alpha * phase)
                logits.append(query[:amplitude] @ other[:amplitude] / math.sqrt(amplitude) * turned)
            rows.append(torch.stack(logits).softmax(0) @ v[0, head * KV_HEADS // HEADS])
    expected = torch.stack(rows).view(1, HEADS, num_queries, HEAD_DIM)
    assert_same(ours, expected, [q, k, v], tolerance=1e-10)


def test_a_share_that_leaves_no_amplitude_is_refused():
    with pytest.raises(ValueError, match=r"^share must.*the amplitude, got 0.1$"):
        Tapa(8, share=0.1)


def test_a_power_that_no_distance_survives_is_refused():
    assert torch.tensor(2.0**31).pow(4).isfinite()
    with pytest.raises(ValueError, match=r"^alpha must.*at most 4, got 100.0$"):
        Tapa(8, alpha=100.0)
