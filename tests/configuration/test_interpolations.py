from pathlib import Path

import pytest
from omegaconf import OmegaConf

from poslab.configuration.interpolations import check_interpolations
from poslab.data.composed import divided


def test_a_share_of_a_length_is_a_number_of_at_least_one():
    config = OmegaConf.create({"length": 100, "window": "${divided:${length},16}"})
    assert config.window == 6
    assert [divided(*of) for of in [(6, 4), (8, 4), (3, 16)]] == [1, 2, 1]


def test_a_file_may_have_shares_of_other_keys_and_not_of_the_environment():
    check_interpolations({"window": "${divided:${dataset.sequence_length},16}"}, Path("file.yaml"))
    with pytest.raises(ValueError, match=r"^file.yaml must have no interpolations but "):
        check_interpolations({"window": "${divided:${oc.env:SECRET},16}"}, Path("file.yaml"))
