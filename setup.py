"""Packages of the wheel, which carries conf/, sweeps/ and comparisons/ as folders of the package.

pyproject.toml says where their files are. Its `packages.find` cannot find them, because they stand at the top of the
repository, where people look for them; a list there of all packages would soon lack one; and a symbolic link in
src/poslab would be a text file in a checkout on Windows.
"""

from setuptools import find_packages, setup

FOLDERS = ["poslab.conf", "poslab.sweeps", "poslab.comparisons"]

setup(packages=[*find_packages("src", include=["poslab", "poslab.*"]), *FOLDERS])
