"""docs/script_flags.md: every setting in its tables exists beside the script's preset, and every option is there."""

from __future__ import annotations

import re

import pytest
from hydra import compose, initialize_config_dir

from ditexp.cli.packaged import options_of
from tests.helpers.paths import CONF, ROOT

PAGE = (ROOT / "docs/script_flags.md").read_text()
SECTIONS = dict(re.findall(r"^## ([\w-]+): .*?\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
ASSIGNMENT = re.compile(r'`"?([\w.]+)=([^`"]+)"?`')


def settings_of(family: str) -> dict[str, list[tuple[str, str]]]:
    """The settings in the last column of a family's tables, by the preset that they stand beside."""
    found: dict[str, list[tuple[str, str]]] = {}
    for row in re.findall(r"^\| (.*) \|$", SECTIONS[family], re.MULTILINE):
        flag, *_, here = row.split(" | ")
        preset = "sit_sde" if "(SDE)" in flag else family.lower().replace("-", "_")
        found.setdefault(preset, []).extend(ASSIGNMENT.findall(here))
    return found


@pytest.mark.parametrize("family", SECTIONS)
def test_every_setting_composes(family):
    found = settings_of(family)
    assert sum(map(len, found.values())) > 10
    for preset, settings in found.items():
        options = [(key, value) for key, value in settings if (CONF / key).is_dir()]
        for group, option in options:
            assert option in options_of(group) or (group, option) == ("metric", "[]"), f"{group}={option}"
        given = {key: value for key, value in settings if (key, value) not in options}
        with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
            cfg = compose("config", [f"compat={preset}", *(f"{key}={value}" for key, value in given.items())])
        assert cfg.outputs == given.get("outputs", "outputs")
