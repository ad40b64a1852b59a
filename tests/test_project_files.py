"""Files that other tools than Python read: the navigation of the site; addresses and versions in several places."""

from __future__ import annotations

import re
import tomllib

import yaml

from ditexp import __version__
from tests.helpers.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_every_page_of_the_docs_is_in_the_navigation_once():
    navigation = re.findall(r"^      - (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert len(navigation) == len(set(navigation))
    pages = {f"docs/{path.name}" for path in ROOT.glob("docs/*.md")}
    assert pages <= set(navigation)
    assert not [page for page in navigation if not (ROOT / page).is_file()]


def test_one_address_and_one_version():
    source = PROJECT["urls"]["Source"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    site = re.search(r"^repo_url: (\S+)", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert site and site[1] == citation["repository-code"] == source
    assert all(url.startswith(source) for name, url in PROJECT["urls"].items() if name != "Documentation")
    assert citation["version"] == PROJECT["version"] == __version__


def test_the_image_has_the_locked_packages_and_the_whole_package():
    """Each folder that the wheel is made of is copied, and the context holds it."""
    copied = re.findall(r"^COPY (.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    names = {name for line in copied for name in line.split()}
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line.startswith("!")}
    assert names == allowed
    assert {"ditexp", "conf", "experiments", "requirements.lock", "pyproject.toml"} <= names
