import torch

from poslab.attention import KeyValueCache
from poslab.attention.cache import LayerCache
from poslab.encodings import Positions


def test_keys_and_values_of_each_layer_come_back_in_order_however_they_are_added():
    generator = torch.Generator().manual_seed(0)
    keys, values = torch.randn(2, 2, 1, 3, 200, 4, generator=generator)  # two layers of each
    cache = KeyValueCache(num_layers=2)
    start = 0
    for count in (1, 70, 1, 1, 120, 7):
        part = slice(start, start + count)
        for layer in (0, 1):
            k, v = cache.layers[layer].append(keys[layer][:, :, part], values[layer][:, :, part])
            assert torch.equal(k, keys[layer][:, :, : part.stop])
            assert torch.equal(v, values[layer][:, :, : part.stop])
        start = part.stop


def test_the_state_of_past_tokens_comes_back_without_what_the_buffer_has_to_spare():
    cache, states = LayerCache(), torch.randn(2, 3, 9, 5)
    token = torch.zeros(2, 1, 1, 4)
    assert cache.state is None
    for place in range(9):
        if place:
            assert torch.equal(cache.state, states[:, :, :place])
        *_, state = cache.append(token, token, states[:, :, place : place + 1])
    assert torch.equal(state, states)


def test_a_cache_is_as_long_as_its_positions():
    cache = KeyValueCache(1)
    assert len(cache) == 0
    cache.append_positions(Positions.range(5), None)
    positions, real = cache.append_positions(Positions.range(2, 5), None)
    assert len(cache) == 7
    assert positions.ids.tolist() == list(range(7))
    assert real is None


def test_tokens_are_real_unless_they_are_said_to_be_padding():
    left = torch.tensor([[False, True], [True, True]])
    cache = KeyValueCache(1)
    cache.append_positions(Positions.padded(left), left)
    _, real = cache.append_positions(Positions.range(1, 2), None)
    assert real.tolist() == [[False, True, True], [True, True, True]]
    cache = KeyValueCache(1)
    cache.append_positions(Positions.range(1), None)
    _, real = cache.append_positions(Positions.range(2, 1), left)
    assert real.tolist() == [[True, False, True], [True, True, True]]


def test_the_ids_of_all_tokens_come_back_and_follow_the_rows_that_are_selected():
    cache = KeyValueCache(1)
    assert cache.append_tokens(torch.tensor([[1, 2], [3, 4]])).tolist() == [[1, 2], [3, 4]]
    cache.select(torch.tensor([1, 1, 0]))
    assert cache.append_tokens(torch.tensor([[5], [6], [7]])).tolist() == [[3, 4, 5], [3, 4, 6], [1, 2, 7]]


def test_a_buffer_holds_few_more_tokens_than_it_must():
    cache = KeyValueCache(1)
    token = torch.zeros(1, 1, 1, 4)
    for _ in range(1_000):
        keys, _ = cache.layers[0].append(token, token)
    assert keys.untyped_storage().nbytes() <= 4 * 4 * 2 * 1_001
