"""The names of the scripts: the folder of a script stands first on the path of every process that it starts."""

import sys

import pytest

from tests.conftest import ROOT


@pytest.mark.parametrize("folder", ["benchmarks", "docs"])
def test_no_script_hides_a_module_of_the_standard_library(folder):
    # Python does not even start where `encodings` is another; torch.compile then finds a processor without vectors.
    assert not {path.stem for path in (ROOT / folder).glob("*.py")} & sys.stdlib_module_names
