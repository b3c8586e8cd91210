"""Files that say the same of a release."""

from __future__ import annotations

import tomllib

import yaml

from tests.conftest import ROOT


def test_the_citation_has_the_version_and_the_licence_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])


def test_every_release_has_a_heading_in_the_changelog_once_it_is_not_the_first():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert "## [Unreleased]" in changelog
    assert version == "0.1.0" or f"## [{version}]" in changelog
