from pathlib import Path

import pytest
from omegaconf import OmegaConf

from poslab.configuration.outside_files import check_interpolations
from poslab.data.composed import divided, groups


def test_a_share_of_a_length_is_a_number_of_at_least_one():
    config = OmegaConf.create({"length": 100, "window": "${divided:${length},16}"})
    assert config.window == 6
    assert [divided(*of) for of in [(6, 4), (8, 4), (3, 16), (31, 16, 2), (64, 16, 2)]] == [1, 2, 1, 2, 4]


def test_groups_of_heads_are_equally_large_whatever_the_number_of_heads():
    assert [groups(heads, 4) for heads in (1, 3, 4, 7, 9, 12, 14, 32)] == [1, 1, 1, 1, 1, 3, 2, 8]
    assert [groups(heads, 2) for heads in (5, 9, 15)] == [1, 3, 5]
    assert [groups("x", 4), groups(None, 4), divided("x", 4), divided(2.5, 2, 2)] == [1, 1, 1, 2]
    assert all(heads % groups(heads, size) == 0 for heads in range(1, 100) for size in (2, 4, 8))


def test_a_file_whose_values_double_one_another_is_refused():
    chain = {f"a{place + 1}": f"${{a{place}}}${{a{place}}}" for place in range(39)}
    with pytest.raises(ValueError, match=r"^file.yaml .* 24 .* 78$"):
        check_interpolations({"a0": "x", **chain}, Path("file.yaml"))


def test_a_file_may_have_shares_of_other_keys_and_not_of_the_environment():
    check_interpolations({"window": "${divided:${dataset.sequence_length},16,2}"}, Path("file.yaml"))
    check_interpolations({"num_kv_heads": "${groups:${model.num_heads},4}"}, Path("file.yaml"))
    with pytest.raises(ValueError, match=r"^file.yaml.*have no interpolations"):
        check_interpolations({"window": "${divided:${oc.env:SECRET},16}"}, Path("file.yaml"))
